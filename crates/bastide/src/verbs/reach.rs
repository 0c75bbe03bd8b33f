//! Reaching a server as a person: which one, and with whose token.
//!
//! What `bastide login` keeps stands in `~/.bastide/token`, readable for its owner alone. The
//! variables of Vault's own clients come first, and on a controller the operator's token is the last
//! resort, so that root needs no login there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bastide_api::{Secret, ports};
use bastide_client::{Client, Trust};
use bastide_linux::file;
use serde::{Deserialize, Serialize};

use crate::cli::At;
use crate::exit::{Exit, Failure};
use crate::paths;
use crate::verbs::operator;

/// Most bytes of a file with a token or a CA.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a login keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    token: String,
    address: String,
    /// The cluster's CA (PEM); `None` for a development server.
    ca: Option<String>,
}

/// What the environment says.
struct Environment {
    address: Option<String>,
    token: Option<Secret<String>>,
    ca: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            address: text("VAULT_ADDR"),
            token: text("VAULT_TOKEN").map(Secret::new),
            ca: text("VAULT_CACERT").map(PathBuf::from),
            home: text("HOME").map(PathBuf::from),
        }
    }

    fn kept_at(&self) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(".bastide").join("token"))
    }

    fn kept(&self) -> anyhow::Result<Option<Kept>> {
        let Some(path) = self.kept_at() else {
            return Ok(None);
        };
        let read = file::read_bounded(&path, FILE_BYTES_MAX);
        let bytes = read.with_context(|| format!("could not read `{}`", path.display()))?;
        let Some(bytes) = bytes.map(Secret::new) else {
            return Ok(None);
        };
        let kept = serde_json::from_slice(bytes.expose());
        kept.map(Some)
            .with_context(|| format!("`{}` is damaged: log in again", path.display()))
    }
}

/// A server that is meant.
pub struct Place {
    address: String,
    at: SocketAddr,
    /// `None`: plain HTTP.
    ca: Option<String>,
}

impl Place {
    async fn find(address: String, ca: Option<String>) -> anyhow::Result<Self> {
        let (rest, is_tls) = match (
            address.strip_prefix("https://"),
            address.strip_prefix("http://"),
        ) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (address.as_str(), true),
        };
        let host = rest.trim_end_matches('/');
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && !before.is_empty());
        let host = if has_port {
            host.to_owned()
        } else {
            format!("{host}:{}", ports::API)
        };
        let mut found = tokio::net::lookup_host(&host)
            .await
            .with_context(|| format!("could not find `{host}`"))?;
        let at = found
            .next()
            .with_context(|| format!("`{host}` has no address"))?;
        if !is_tls && !at.ip().is_loopback() {
            return Err(Failure::new(
                Exit::Usage,
                format!("plain HTTP to `{host}` would show secrets to everybody on the way"),
            )
            .hint("use `https://…`")
            .into());
        }
        if is_tls && ca.is_none() {
            return Err(Failure::new(
                Exit::Usage,
                format!("nothing says whom to trust at `{host}`"),
            )
            .hint("copy the controller's `/etc/bastide/ca.pem` here, and give it with `--ca FILE`")
            .into());
        }
        Ok(Self {
            address,
            at,
            ca: ca.filter(|_| is_tls),
        })
    }

    /// Makes a client of it.
    pub fn client(&self, token: Option<Secret<String>>) -> anyhow::Result<Client> {
        Ok(match &self.ca {
            None => Client::plain(self.at, token),
            Some(ca) => Client::new(vec![self.at], Trust::Ca(ca.clone()), None, token)?,
        })
    }

    /// Keeps a token for it, for its owner alone. Returns where.
    pub fn keep(&self, token: &Secret<String>) -> anyhow::Result<PathBuf> {
        let path = Environment::read().kept_at();
        let path = path.context("there is no home folder (`HOME`) to keep the token in")?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        file::create_private_dir(folder)
            .with_context(|| format!("could not make `{}`", folder.display()))?;
        let kept = Kept {
            token: token.expose().clone(),
            address: self.address.clone(),
            ca: self.ca.clone(),
        };
        let text = serde_json::to_vec(&kept).context("could not encode the token")?;
        let text = Secret::new(text);
        file::write_private(&path, text.expose())
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(path)
    }
}

/// Finds the server that is meant.
pub async fn place(at: &At) -> anyhow::Result<Place> {
    let environment = Environment::read();
    let kept = environment.kept()?;
    let ca = match at.ca.as_ref().or(environment.ca.as_ref()) {
        Some(path) => Some(read(path)?),
        None => None,
    };
    let own = || read(Path::new(paths::CA)).ok();
    match at.address.clone().or_else(|| environment.address.clone()) {
        Some(address) => {
            let known = kept.as_ref().filter(|kept| kept.address == address);
            let ca = ca.or_else(|| known.and_then(|kept| kept.ca.clone()));
            Place::find(address, ca.or_else(own)).await
        }
        None => match &kept {
            Some(kept) => Place::find(kept.address.clone(), ca.or_else(|| kept.ca.clone())).await,
            None => {
                let here = format!("https://127.0.0.1:{}", ports::API);
                Place::find(here, ca.or_else(own)).await.map_err(|_| {
                    Failure::new(
                        Exit::Usage,
                        "this host has no controller, and nobody is logged in",
                    )
                    .hint("`bastide login --address https://CONTROLLER:8200 --ca ca.pem`")
                    .into()
                })
            }
        },
    }
}

/// Makes a client of the server that is meant, with the token of whoever types.
pub async fn client(at: &At) -> anyhow::Result<Client> {
    let place = place(at).await?;
    let token = token(&place)?;
    place.client(Some(token))
}

fn token(place: &Place) -> anyhow::Result<Secret<String>> {
    let environment = Environment::read();
    if let Some(token) = environment.token {
        return Ok(token);
    }
    if let Some(kept) = Environment::read().kept()?
        && kept.address == place.address
    {
        return Ok(Secret::new(kept.token.clone()));
    }
    // The operator's token is for this host's controller, and goes nowhere else.
    if place.at.ip().is_loopback()
        && place.at.port() == ports::API
        && place.ca.is_some()
        && let Ok(token) = operator::token()
    {
        return Ok(token);
    }
    Err(Failure::new(Exit::Refused, "nobody is logged in")
        .hint("`bastide login userpass NAME`")
        .into())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = file::read_bounded(path, FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{}`", path.display()))?
        .with_context(|| format!("`{}` is missing", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("`{}` is damaged", path.display()))
}
