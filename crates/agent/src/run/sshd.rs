//! Keeps what this host's `sshd` reads in step with the cluster: the authority it trusts, the
//! certificates of its own keys, and the list of what is revoked. And asks, for a one-time password
//! that somebody types there, the control plane, with this node's certificate: who answers without
//! being a controller of this cluster is not heard.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bastide_client::ClientError;
use bastide_linux::file;
use bastide_pki::ssh::{KRL_BYTES_MAX, PublicKey, read_certificate};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::follow::Picture;
use super::membership::Member;
use crate::core::desired;
use crate::core::sshd::{self, ASK_EVERY, Answer, Checked, HOST_KEYS_MAX};

/// Below the agent's folder.
pub const FOLDER: &str = "ssh";
/// What the folder holds: names are known to `bastide ssh setup`, which tells `sshd`.
pub const AUTHORITY: &str = "authority.pub";
pub const KRL: &str = "krl";
const KRL_NEW: &str = "krl.checked";
const SETUP: &str = "setup.json";
/// Most bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How long an answer to somebody who waits at a login may take.
const VERIFY_WITHIN: Duration = Duration::from_secs(5);
/// How long a first answer may take while `bastide ssh setup` waits.
const SETUP_WITHIN: Duration = Duration::from_secs(15);
/// How long `ssh-keygen` may take to judge a list.
const KEYGEN_WITHIN: Duration = Duration::from_secs(5);
/// Where `sshd` writes its process id, unless it is told otherwise.
const PID_FILE: &str = "/run/sshd.pid";

/// What `bastide ssh setup` says of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The public halves of its host keys.
    pub host_keys: Vec<PathBuf>,
    /// Which list of what is revoked is held.
    #[serde(default)]
    krl_version: Option<String>,
}

/// Why a round did nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("could not {what} `{path}`")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` holds no key of a kind that is certified")]
    NoKey(PathBuf),
    #[error("no controller is known")]
    NoController,
    #[error(transparent)]
    Member(#[from] super::membership::MembershipError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the control plane's answer is of another version")]
    Version(#[source] serde_json::Error),
    #[error("the control plane's answer is not used: {0}")]
    Unfit(#[from] sshd::Unfit),
    #[error("ssh-keygen cannot read the new list of what is revoked")]
    Keygen,
}

/// The cluster's side of this host's `sshd`. Cheap to clone.
#[derive(Clone)]
pub struct Sshd {
    inner: Arc<Inner>,
}

struct Inner {
    member: Member,
    pictures: watch::Receiver<Picture>,
    folder: PathBuf,
    /// Held while a round runs: the loop's and a setup's do not mix.
    turn: Mutex<()>,
}

impl Sshd {
    /// Serves the `sshd` of this host, with files below `state`.
    pub fn new(member: Member, pictures: watch::Receiver<Picture>, state: &Path) -> Self {
        let folder = state.join(FOLDER);
        Self {
            inner: Arc::new(Inner {
                member,
                pictures,
                folder,
                turn: Mutex::new(()),
            }),
        }
    }

    /// What the agent's socket serves of it.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/v1/ssh/setup", post(setup))
            .route("/v1/ssh/verify", post(verify))
            .with_state(self.clone())
    }

    /// Asks from time to time what is new, while this host is set up. Runs until dropped.
    pub async fn run(self) {
        let mut failing = false;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let turn = self.inner.turn.lock().await;
            let Some(setup) = self.stored().await else {
                continue;
            };
            let done = timeout(SETUP_WITHIN, self.round(setup)).await;
            drop(turn);
            match done {
                Ok(Ok(_)) => failing = false,
                // What is there stays: certificates last for days, and so may this.
                Ok(Err(error)) if !failing => {
                    failing = true;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, ?cause, "sshd is not told of what is new");
                }
                Ok(Err(error)) => debug!(%error, "sshd is not told of what is new"),
                Err(_) => debug!("no word of what is new for sshd"),
            }
        }
    }

    async fn stored(&self) -> Option<Setup> {
        let bytes = self.read(SETUP).await.ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    async fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.inner.folder.join(name);
        blocking(move || file::read_bounded(&path, FILE_BYTES_MAX.max(KRL_BYTES_MAX as u64))).await
    }

    async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), RoundError> {
        let path = self.inner.folder.join(name);
        let to = path.clone();
        blocking(move || file::write_public(&to, &bytes))
            .await
            .map_err(|source| RoundError::File {
                what: "write",
                path,
                source,
            })
    }

    fn controllers(&self) -> Vec<SocketAddr> {
        desired::controllers(&self.inner.pictures.borrow().view)
    }

    async fn ask(&self, path: &str, body: Value) -> Result<Value, RoundError> {
        let controllers = self.controllers();
        if controllers.is_empty() {
            return Err(RoundError::NoController);
        }
        let client = self.inner.member.client_of(controllers)?;
        Ok(client.call("POST", path, Some(body)).await?)
    }

    /// Asks for what is new and writes it.
    async fn round(&self, mut setup: Setup) -> Result<Answer, RoundError> {
        let keys = self.host_keys(&setup).await?;
        let authority = self.read(AUTHORITY).await.ok().flatten();
        let authority = String::from_utf8(authority.unwrap_or_default()).unwrap_or_default();
        let mut held = Vec::new();
        for path in &setup.host_keys {
            let bytes = self.read(&certificate_name(path)).await.ok().flatten();
            let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
            held.push(read_certificate(&text));
        }
        let now = self.inner.member.clock().now();
        let is_due = sshd::is_due(&keys, &held, authority.trim(), now);
        let sent = if is_due { &keys[..] } else { &[] };
        let known = match self.read(KRL).await {
            Ok(Some(_)) => setup.krl_version.clone(),
            _ => None,
        };
        let mut body = json!({
            "host_keys": sent.iter().map(PublicKey::to_line).collect::<Vec<_>>(),
        });
        if let Some(known) = known {
            body["krl_version"] = known.into();
        }
        let answer = self.ask("/v1/ssh/node/host", body).await?;
        let answer: Answer = serde_json::from_value(answer).map_err(RoundError::Version)?;
        let checked = sshd::check(&answer, sent)?;
        self.take(&setup, &checked, authority.trim()).await?;
        if checked.krl.is_some() {
            setup.krl_version = Some(answer.krl_version.clone());
            self.save(&setup).await?;
        }
        Ok(answer)
    }

    async fn host_keys(&self, setup: &Setup) -> Result<Vec<PublicKey>, RoundError> {
        let mut keys = Vec::new();
        for path in setup.host_keys.iter().take(HOST_KEYS_MAX) {
            let from = path.clone();
            let bytes = blocking(move || file::read_bounded(&from, FILE_BYTES_MAX)).await;
            let bytes = bytes.map_err(|source| RoundError::File {
                what: "read",
                path: path.clone(),
                source,
            })?;
            let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
            let key = PublicKey::parse(&text).map_err(|_| RoundError::NoKey(path.clone()))?;
            keys.push(key);
        }
        Ok(keys)
    }

    /// Writes what was checked. The list of what is revoked first: nobody is trusted before it.
    async fn take(
        &self,
        setup: &Setup,
        checked: &Checked,
        authority: &str,
    ) -> Result<(), RoundError> {
        if let Some(krl) = &checked.krl {
            self.write(KRL_NEW, krl.clone()).await?;
            if !self.keygen_reads(KRL_NEW).await {
                return Err(RoundError::Keygen);
            }
            self.write(KRL, krl.clone()).await?;
            info!("list of revoked SSH certificates taken");
        }
        if checked.authority != authority {
            let line = format!("{}\n", checked.authority);
            self.write(AUTHORITY, line.into_bytes()).await?;
        }
        for (path, line) in setup.host_keys.iter().zip(&checked.certificates) {
            let line = format!("{line}\n");
            self.write(&certificate_name(path), line.into_bytes())
                .await?;
        }
        if !checked.certificates.is_empty() {
            info!("host keys certified");
            reload();
        }
        Ok(())
    }

    /// Whether `ssh-keygen`, if there is one, reads a list: it is what `sshd` would make of it.
    async fn keygen_reads(&self, name: &str) -> bool {
        let path = self.inner.folder.join(name);
        let mut keygen = tokio::process::Command::new("ssh-keygen");
        keygen.args(["-Q", "-l", "-f"]).arg(path).kill_on_drop(true);
        keygen.stdin(std::process::Stdio::null());
        match timeout(KEYGEN_WITHIN, keygen.output()).await {
            Ok(Ok(output)) => output.status.success(),
            // Ours was checked already.
            Ok(Err(error)) => error.kind() == io::ErrorKind::NotFound,
            Err(_) => false,
        }
    }

    async fn save(&self, setup: &Setup) -> Result<(), RoundError> {
        let bytes = serde_json::to_vec(setup).expect("paths and texts are JSON");
        self.write(SETUP, bytes).await
    }
}

/// The name of the file that holds the certificate of the host key at `path`.
pub fn certificate_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-cert.pub")
}

/// Has a running `sshd` read its host certificates anew.
fn reload() {
    let Ok(Some(bytes)) = file::read_bounded(Path::new(PID_FILE), 32) else {
        debug!("no sshd runs that could be told");
        return;
    };
    let pid: Option<i32> = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid.filter(|pid| 1 < *pid).and_then(Pid::from_raw) else {
        return;
    };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    // A file that a killed one left behind may name somebody else by now.
    if name.is_ok_and(|name| name.trim() != "sshd") {
        return;
    }
    if let Err(error) = kill_process(pid, Signal::HUP) {
        warn!(%error, "sshd does not read its new certificates; `systemctl reload ssh`");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[derive(Deserialize)]
struct SetupBody {
    host_keys: Vec<PathBuf>,
}

/// `bastide ssh setup` on this host: from now on its `sshd` is kept in step. Answers when all is there
/// that it reads.
async fn setup(State(sshd): State<Sshd>, Json(body): Json<SetupBody>) -> Response {
    if HOST_KEYS_MAX < body.host_keys.len() {
        return refused(StatusCode::BAD_REQUEST, "a host has fewer keys");
    }
    let _turn = sshd.inner.turn.lock().await;
    let folder = sshd.inner.folder.clone();
    let made = blocking(move || file::create_private_dir(&folder)).await;
    if let Err(error) = made {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
    }
    let setup = Setup {
        host_keys: body.host_keys,
        krl_version: None,
    };
    let done = timeout(SETUP_WITHIN, async {
        let answer = sshd.round(setup.clone()).await?;
        let stored = Setup {
            krl_version: Some(answer.krl_version.clone()),
            ..setup
        };
        sshd.save(&stored).await?;
        Ok::<_, RoundError>(answer)
    });
    match done.await {
        Ok(Ok(answer)) => {
            let folder = &sshd.inner.folder;
            let data = json!({ "name": answer.name, "id": answer.id, "folder": folder });
            Json(json!({ "data": data })).into_response()
        }
        Ok(Err(RoundError::Client(ClientError::Refused { status, errors }))) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            refused(status, &errors.join("; "))
        }
        Ok(Err(error)) => refused(StatusCode::BAD_GATEWAY, &error.to_string()),
        Err(_) => refused(
            StatusCode::GATEWAY_TIMEOUT,
            "the control plane does not answer",
        ),
    }
}

#[derive(Deserialize)]
struct VerifyBody {
    otp: String,
    username: String,
    #[serde(default)]
    rhost: String,
    #[serde(default)]
    service: String,
}

/// Somebody typed a one-time password at this host's `sshd`: 200 if he may come in.
async fn verify(State(sshd): State<Sshd>, Json(body): Json<VerifyBody>) -> Response {
    let asked = json!({
        "otp": body.otp,
        "username": body.username,
        "rhost": body.rhost,
        "service": body.service,
    });
    let answered = timeout(VERIFY_WITHIN, sshd.ask("/v1/ssh/node/verify", asked)).await;
    match answered {
        Ok(Ok(data)) if data["username"] == body.username.as_str() => {
            info!("one-time password taken");
            Json(json!({ "data": {} })).into_response()
        }
        Ok(Ok(_)) => refused(StatusCode::BAD_GATEWAY, "the answer is for another user"),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(%error, ?cause, "one-time password refused");
            refused(StatusCode::FORBIDDEN, &error.to_string())
        }
        Err(_) => {
            warn!("one-time password refused: the control plane does not answer");
            refused(
                StatusCode::GATEWAY_TIMEOUT,
                "the control plane does not answer",
            )
        }
    }
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "errors": [error] }))).into_response()
}
