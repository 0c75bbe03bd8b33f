//! What is asked of others: keys, and what an OpenID provider tells of itself and of whoever logged in
//! there.

use bastide_api::Secret;
use serde_json::{Map, Value};

use super::URL_BYTES_MAX;
use super::config::Config;
use super::keys::Key;
use super::token::{Proven, TokenError, Unproven};
use crate::core::engine::Context;
use crate::core::outside::{Age, Ask, Fetch, Form, unwrapped};
use crate::core::refusal::{Refusal, Work};

/// Longest token in a provider's answer, in bytes.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Why something could not be had from elsewhere.
pub enum Missing {
    /// The decision is to be made anew, or failed for a reason of our own.
    Undecided(Refusal),
    /// This went wrong there.
    Why(String),
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Self {
        Self::Undecided(refusal)
    }
}

/// Says what could not be had, and why.
pub fn tell(what: &str, missing: Missing) -> Refusal {
    match missing {
        Missing::Undecided(refusal) => refusal,
        Missing::Why(why) => Refusal::invalid(format!("{what}: {why}")),
    }
}

fn why(text: &str) -> Missing {
    Missing::Why(text.to_owned())
}

fn fetch(
    ctx: &mut Context<'_, '_>,
    url: &str,
    ca_pem: &str,
    age: Age,
    ask: Ask,
) -> Result<Secret<Vec<u8>>, Missing> {
    let fetch = Fetch {
        url: url.to_owned(),
        ca_pem: ca_pem.to_owned(),
        age,
        ask,
    };
    let result = ctx.draft.work(Work::Fetch(Box::new(fetch)))?;
    unwrapped(result)
        .map(|bytes| Secret::new(bytes.to_vec()))
        .map_err(why)
}

/// Fetches a set of keys.
pub fn fetched_keys(
    ctx: &mut Context<'_, '_>,
    url: &str,
    ca_pem: &str,
    age: Age,
) -> Result<Vec<Key>, Missing> {
    let set = fetch(ctx, url, ca_pem, age, Ask::Read)?;
    Key::set(set.expose()).ok_or_else(|| why("the answer is no set of keys"))
}

/// What a provider tells of itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug)]
pub struct Provider {
    /// Its name, which its tokens bear.
    pub issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    /// Where more is told of who logged in.
    pub userinfo_endpoint: Option<String>,
    /// Whether a client's secret may come with HTTP's own header.
    takes_basic: bool,
}

impl Provider {
    /// Reads what a provider tells of itself at `base`.
    pub fn read(told: &[u8], base: &str) -> Result<Self, &'static str> {
        let told: Map<String, Value> = serde_json::from_slice(told)
            .map_err(|_| "the answer is no provider's configuration")?;
        let text = |name: &str| {
            let text = told.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty() && text.len() <= URL_BYTES_MAX)
                .map(str::to_owned)
        };
        // One that is reached by TLS does not make this server ask in clear, nor services of its own host.
        let is_tls = base.starts_with("https://");
        let place = |name: &str| text(name).filter(|url| !is_tls || url.starts_with("https://"));
        let issuer = text("issuer").ok_or("the provider names no issuer")?;
        // OpenID Connect Discovery 1.0, section 4.3: "The issuer value returned MUST be identical to the
        // Issuer URL that was used as the prefix".
        if issuer.trim_end_matches('/') != base.trim_end_matches('/') {
            return Err("the provider's issuer is not the discovery URL");
        }
        let methods = told.get("token_endpoint_auth_methods_supported");
        let takes_basic = methods.and_then(Value::as_array).is_none_or(|methods| {
            let has = |name: &str| methods.iter().any(|it| it == name);
            has("client_secret_basic") || !has("client_secret_post")
        });
        Ok(Self {
            jwks_uri: place("jwks_uri").ok_or("the provider names no jwks_uri")?,
            authorization_endpoint: place("authorization_endpoint"),
            token_endpoint: place("token_endpoint"),
            userinfo_endpoint: place("userinfo_endpoint"),
            takes_basic,
            issuer,
        })
    }

    /// Returns where people log in: a plain address, by TLS or on loopback, to which a query fits.
    pub fn authorization_endpoint(&self) -> Result<&str, &'static str> {
        let url = self.authorization_endpoint.as_deref();
        let url = url.ok_or("the provider names no authorization_endpoint")?;
        let here = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
        let is_here = |prefix: &&str| {
            let rest = url.strip_prefix(*prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
        };
        let is_plain = url.bytes().all(|it| it.is_ascii_graphic() && it != b'#')
            && !url.contains('@')
            && (url.starts_with("https://") || here.iter().any(is_here));
        is_plain
            .then_some(url)
            .ok_or("the provider's authorization_endpoint is no address for browsers")
    }
}

/// Asks a provider about itself.
pub fn discover(ctx: &mut Context<'_, '_>, config: &Config, age: Age) -> Result<Provider, Missing> {
    let base = config.oidc_discovery_url.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let told = fetch(ctx, &url, &config.oidc_discovery_ca_pem, age, Ask::Read)?;
    Provider::read(told.expose(), base).map_err(why)
}

/// What a provider gives for a code.
pub struct Given {
    /// Who logged in, signed by the provider.
    pub id_token: Secret<String>,
    /// What more can be asked with.
    pub access_token: Option<Secret<String>>,
}

impl Given {
    /// Reads a provider's answer (OpenID Connect Core 1.0, section 3.1.3.3).
    pub fn read(told: &[u8]) -> Result<Self, &'static str> {
        let mut told: Map<String, Value> =
            serde_json::from_slice(told).map_err(|_| "the answer is no JSON object")?;
        let mut text = |name: &str| match told.remove(name) {
            Some(Value::String(text)) if !text.is_empty() && text.len() <= TOKEN_BYTES_MAX => {
                Some(Secret::new(text))
            }
            _ => None,
        };
        Ok(Self {
            access_token: text("access_token"),
            id_token: text("id_token").ok_or("the answer holds no id_token")?,
        })
    }
}

/// Gives a provider a code, and gets what says who logged in.
pub fn exchange(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    provider: &Provider,
    fields: Vec<(&'static str, Secret<String>)>,
) -> Result<Given, Missing> {
    let url = provider.token_endpoint.as_deref();
    let url = url.ok_or_else(|| why("the provider names no token_endpoint"))?;
    let id = config.oidc_client_id.clone();
    let secret = config.oidc_client_secret.0.duplicate();
    let mut form = Form {
        fields,
        basic: None,
    };
    if provider.takes_basic {
        form.basic = Some((id, secret));
    } else {
        form.fields.push(("client_id", Secret::new(id)));
        form.fields.push(("client_secret", secret));
    }
    let ca_pem = &config.oidc_discovery_ca_pem;
    let told = fetch(ctx, url, ca_pem, Age::Fresh, Ask::Post(form))?;
    Given::read(told.expose()).map_err(why)
}

/// Asks a provider what more it knows of who logged in; `None` if it does not say.
pub fn more(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    provider: &Provider,
    access_token: &Secret<String>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    let Some(url) = &provider.userinfo_endpoint else {
        return Ok(None);
    };
    let ask = Ask::Bearer(access_token.duplicate());
    match fetch(ctx, url, &config.oidc_discovery_ca_pem, Age::Fresh, ask) {
        Ok(told) => Ok(serde_json::from_slice(told.expose()).ok()),
        Err(Missing::Undecided(refusal)) => Err(refusal),
        Err(Missing::Why(_)) => Ok(None),
    }
}

/// Checks who signed a token. Keys that are fetched are fetched anew, once, if none of them did.
pub fn proven(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    token: &Unproven<'_>,
) -> Result<Proven, Refusal> {
    let refused = |why: TokenError| Refusal::invalid(format!("error validating token: {why}"));
    let algs = config.algs();
    if config.has_keys() {
        let keys = config.static_keys();
        let keys = keys.ok_or_else(|| Refusal::corrupt("public key", "it cannot be read"))?;
        return token.verify(&keys, &algs).map_err(refused);
    }
    // What no key could make good is refused before anybody else is asked.
    if let Err(why @ TokenError::Algorithm) = token.verify(&[], &algs) {
        return Err(refused(why));
    }
    let mut last = TokenError::Signature;
    for age in [Age::Minutes, Age::Seconds] {
        let keys = keys_at(ctx, config, age)?;
        match token.verify(&keys, &algs) {
            Ok(proven) => return Ok(proven),
            Err(why) => last = why,
        }
    }
    Err(refused(last))
}

/// Fetches the keys of all sets; those of one that cannot be had are missing, unless none can.
fn keys_at(ctx: &mut Context<'_, '_>, config: &Config, age: Age) -> Result<Vec<Key>, Refusal> {
    const WHAT: &str = "error validating token: keys could not be fetched";
    let sets = config.sets();
    if sets.is_empty() {
        let provider = discover(ctx, config, Age::Minutes).map_err(|why| tell(WHAT, why))?;
        let ca_pem = &config.oidc_discovery_ca_pem;
        return fetched_keys(ctx, &provider.jwks_uri, ca_pem, age).map_err(|why| tell(WHAT, why));
    }
    let (mut keys, mut failed) = (Vec::new(), None);
    let count = sets.len();
    let mut missing = 0;
    for (url, ca_pem) in sets {
        match fetched_keys(ctx, url, ca_pem, age) {
            Ok(found) => keys.extend(found),
            Err(Missing::Undecided(refusal)) => return Err(refusal),
            Err(why) => {
                missing += 1;
                failed = Some(why);
            }
        }
    }
    match failed {
        Some(why) if missing == count => Err(tell(WHAT, why)),
        _ => Ok(keys),
    }
}
