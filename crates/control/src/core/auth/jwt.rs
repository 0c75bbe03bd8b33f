//! The auth methods `jwt` and `oidc`: a token that somebody else signed.
//!
//! The keys that signatures are checked with stand in the configuration, or are fetched from where it
//! says: a set of keys, or what an OpenID provider tells of itself (OpenID Connect Discovery 1.0).
//!
//! Keys below the mount: `config`, `role/<name>`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::auth::display_name;
use crate::core::engine::{Call, Context, Engine};
use crate::core::fields::Fields;
use crate::core::identity::Alias;
use crate::core::outside::{Age, Fetch, unwrapped};
use crate::core::refusal::{Refusal, Work};
use crate::core::reply::{Answer, Login, Reply};
use crate::core::request::Operation;
use crate::core::role::Terms;
use crate::core::tokens::Token;

pub mod keys;
mod role;
pub mod token;

use keys::{ALGS, Alg, KEYS_MAX, Key};
use role::Role;
use token::{Proven, TokenError, Unproven};

/// Longest URL of a configuration, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Longest text of certificates in a configuration, in bytes.
const PEM_BYTES_MAX: usize = 256 << 10;

/// The auth method, under one of its two names.
pub struct Jwt(pub &'static str);

/// Where keys come from, and what holds for all roles of a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named as clients name them"
)]
struct Config {
    oidc_discovery_url: String,
    oidc_discovery_ca_pem: String,
    oidc_client_id: String,
    oidc_client_secret: String,
    oidc_response_mode: String,
    oidc_response_types: Vec<String>,
    jwks_url: String,
    jwks_ca_pem: String,
    jwt_validation_pubkeys: Vec<String>,
    bound_issuer: String,
    jwt_supported_algs: Vec<String>,
    default_role: String,
    provider_config: Map<String, Value>,
    namespace_in_state: bool,
}

impl Engine for Jwt {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        call.operation == Operation::Update && call.path == "login"
    }

    fn exists(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Option<bool>, Refusal> {
        match call.segments()[..] {
            ["role", name] => Ok(Some(role::find(ctx, name)?.is_some())),
            _ => Ok(None),
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["login"]) => login(ctx, call),
            (Read, ["config"]) => {
                let config: Config = ctx.load("config")?.ok_or(Refusal::Absent)?;
                Ok(config.shown())
            }
            (Update, ["config"]) => configure(ctx, call),
            (List, ["role"]) => Answer::keys(ctx.list(role::FOLDER)?),
            (Read, ["role", name]) => {
                let role = role::find(ctx, name)?.ok_or(Refusal::Absent)?;
                Ok(Answer::data(role.shown()))
            }
            (Create | Update, ["role", name]) => role::write(ctx, call, name),
            (Delete, ["role", name]) => {
                role::delete(ctx, name);
                Ok(Answer::done())
            }
            (_, ["login" | "config" | "role"] | ["role", _]) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn renew_login(
        &self,
        ctx: &mut Context<'_, '_>,
        token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        let name = token.kept.get("role").cloned().unwrap_or_default();
        match role::find(ctx, &name)? {
            Some(role) => role.token.terms_for(token).map(Some),
            None => Err(Refusal::invalid(format!(
                "role {name} does not exist during renewal"
            ))),
        }
    }
}

impl Config {
    fn read(fields: Fields<'_>) -> Result<Self, Refusal> {
        let text = |name: &str, bytes_max: usize| {
            let text = fields.text(name)?.unwrap_or_default();
            if bytes_max < text.len() {
                return Err(Refusal::invalid(format!("{name} is too long")));
            }
            Ok(text)
        };
        let list = |name: &str| {
            let list = fields.list(name)?.unwrap_or_default();
            if KEYS_MAX < list.len() {
                return Err(Refusal::invalid(format!("{name} has too many entries")));
            }
            Ok(list)
        };
        let config = Self {
            oidc_discovery_url: text("oidc_discovery_url", URL_BYTES_MAX)?,
            oidc_discovery_ca_pem: text("oidc_discovery_ca_pem", PEM_BYTES_MAX)?,
            oidc_client_id: text("oidc_client_id", URL_BYTES_MAX)?,
            oidc_client_secret: text("oidc_client_secret", PEM_BYTES_MAX)?,
            oidc_response_mode: text("oidc_response_mode", URL_BYTES_MAX)?,
            oidc_response_types: list("oidc_response_types")?,
            jwks_url: text("jwks_url", URL_BYTES_MAX)?,
            jwks_ca_pem: text("jwks_ca_pem", PEM_BYTES_MAX)?,
            jwt_validation_pubkeys: list("jwt_validation_pubkeys")?,
            bound_issuer: text("bound_issuer", URL_BYTES_MAX)?,
            jwt_supported_algs: list("jwt_supported_algs")?,
            default_role: text("default_role", URL_BYTES_MAX)?.to_lowercase(),
            provider_config: fields
                .object("provider_config")?
                .cloned()
                .unwrap_or_default(),
            namespace_in_state: fields.flag("namespace_in_state")?.unwrap_or(true),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Refusal> {
        let sources = [
            !self.oidc_discovery_url.is_empty(),
            !self.jwks_url.is_empty(),
            !self.jwt_validation_pubkeys.is_empty(),
        ];
        if sources.into_iter().filter(|given| *given).count() != 1 {
            return Err(Refusal::invalid(
                "exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must \
                 be set",
            ));
        }
        if self.oidc_client_id.is_empty() != self.oidc_client_secret.is_empty() {
            return Err(Refusal::invalid(
                "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC",
            ));
        }
        for name in &self.jwt_supported_algs {
            if Alg::parse(name).is_none() {
                return Err(Refusal::invalid(format!(
                    "unsupported signing algorithm: {name}"
                )));
            }
        }
        if self.static_keys().is_none() {
            return Err(Refusal::invalid("error parsing public key"));
        }
        Ok(())
    }

    fn static_keys(&self) -> Option<Vec<Key>> {
        let pems = self.jwt_validation_pubkeys.iter();
        pems.map(|pem| Key::from_pem(pem)).collect()
    }

    /// Algorithms that are believed: those that are named; otherwise all with keys that stand here, and
    /// RS256 with keys that are fetched, as in Vault.
    fn algs(&self) -> Vec<Alg> {
        match self.jwt_supported_algs.as_slice() {
            [] if self.jwt_validation_pubkeys.is_empty() => vec![Alg::Rs256],
            [] => ALGS.iter().map(|(alg, _)| *alg).collect(),
            named => named.iter().filter_map(|name| Alg::parse(name)).collect(),
        }
    }

    fn shown(&self) -> Answer {
        Answer::json(json!({
            "oidc_discovery_url": self.oidc_discovery_url,
            "oidc_discovery_ca_pem": self.oidc_discovery_ca_pem,
            "oidc_client_id": self.oidc_client_id,
            "oidc_response_mode": self.oidc_response_mode,
            "oidc_response_types": self.oidc_response_types,
            "jwks_url": self.jwks_url,
            "jwks_ca_pem": self.jwks_ca_pem,
            "jwt_validation_pubkeys": self.jwt_validation_pubkeys,
            "bound_issuer": self.bound_issuer,
            "jwt_supported_algs": self.jwt_supported_algs,
            "default_role": self.default_role,
            "provider_config": self.provider_config,
            "namespace_in_state": self.namespace_in_state,
        }))
    }
}

/// Writes a configuration whole. What it names is asked whether it is there, as in Vault.
fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let config = Config::read(call.fields())?;
    if !config.oidc_discovery_url.is_empty() {
        discover(ctx, &config, Age::Fresh)
            .map_err(|why| tell("error checking oidc discovery URL", why))?;
    }
    if !config.jwks_url.is_empty() {
        fetched_keys(ctx, &config.jwks_url, &config.jwks_ca_pem, Age::Fresh)
            .map_err(|why| tell("error checking jwks URL", why))?;
    }
    ctx.save("config", &config)?;
    Ok(Answer::done())
}

/// Why something could not be had from elsewhere.
enum Missing {
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

fn tell(what: &str, missing: Missing) -> Refusal {
    match missing {
        Missing::Undecided(refusal) => refusal,
        Missing::Why(why) => Refusal::invalid(format!("{what}: {why}")),
    }
}

fn fetch(
    ctx: &mut Context<'_, '_>,
    url: String,
    ca_pem: &str,
    age: Age,
) -> Result<Vec<u8>, Missing> {
    let fetch = Fetch {
        url,
        ca_pem: ca_pem.to_owned(),
        age,
        form: None,
    };
    let result = ctx.draft.work(Work::Fetch(Box::new(fetch)))?;
    unwrapped(result)
        .map(<[u8]>::to_vec)
        .map_err(|why| Missing::Why(why.to_owned()))
}

fn fetched_keys(
    ctx: &mut Context<'_, '_>,
    url: &str,
    ca_pem: &str,
    age: Age,
) -> Result<Vec<Key>, Missing> {
    let set = fetch(ctx, url.to_owned(), ca_pem, age)?;
    Key::set(&set).ok_or_else(|| Missing::Why("the answer is no set of keys".to_owned()))
}

/// What a provider tells of itself.
struct Provider {
    issuer: String,
    jwks_uri: String,
}

fn discover(ctx: &mut Context<'_, '_>, config: &Config, age: Age) -> Result<Provider, Missing> {
    let base = config.oidc_discovery_url.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let told = fetch(ctx, url, &config.oidc_discovery_ca_pem, age)?;
    let told: Value = serde_json::from_slice(&told)
        .map_err(|_| Missing::Why("the answer is no provider's configuration".to_owned()))?;
    let text = |name: &str| {
        let text = told.get(name).and_then(Value::as_str);
        text.filter(|text| text.len() <= URL_BYTES_MAX)
            .map(str::to_owned)
            .ok_or_else(|| Missing::Why(format!("the provider names no {name}")))
    };
    let issuer = text("issuer")?;
    // OpenID Connect Discovery 1.0, section 4.3: "The issuer value returned MUST be identical to the
    // Issuer URL that was used as the prefix".
    if issuer.trim_end_matches('/') != base {
        return Err(Missing::Why(
            "the provider's issuer is not the discovery URL".to_owned(),
        ));
    }
    Ok(Provider {
        jwks_uri: text("jwks_uri")?,
        issuer,
    })
}

/// Checks who signed a token. Keys that are fetched are fetched anew, once, if none of them did.
fn proven(
    ctx: &mut Context<'_, '_>,
    config: &Config,
    token: &Unproven<'_>,
) -> Result<Proven, Refusal> {
    let refused = |why: TokenError| Refusal::invalid(format!("error validating token: {why}"));
    let algs = config.algs();
    if !config.jwt_validation_pubkeys.is_empty() {
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

fn keys_at(ctx: &mut Context<'_, '_>, config: &Config, age: Age) -> Result<Vec<Key>, Refusal> {
    let keys = if config.jwks_url.is_empty() {
        discover(ctx, config, Age::Minutes).and_then(|provider| {
            fetched_keys(ctx, &provider.jwks_uri, &config.oidc_discovery_ca_pem, age)
        })
    } else {
        fetched_keys(ctx, &config.jwks_url, &config.jwks_ca_pem, age)
    };
    keys.map_err(|why| tell("error validating token: keys could not be fetched", why))
}

fn login(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let config: Config = ctx
        .load("config")?
        .ok_or_else(|| Refusal::invalid("could not load configuration"))?;
    let named = fields.text("role")?.filter(|name| !name.is_empty());
    let name = named.unwrap_or_else(|| config.default_role.clone());
    if name.is_empty() {
        return Err(Refusal::invalid("missing role"));
    }
    let text = fields.text("jwt")?.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Refusal::invalid("missing token"))?;
    let role = role::find(ctx, &name)?
        .ok_or_else(|| Refusal::invalid(format!("role {name:?} could not be found")))?;
    if role.role_type == "oidc" {
        return Err(Refusal::invalid("role with oidc role_type is not allowed"));
    }
    let refused = |why: TokenError| Refusal::invalid(format!("error validating token: {why}"));
    let unproven = Unproven::read(&text).map_err(refused)?;
    let token = proven(ctx, &config, &unproven)?;
    judge_issuer(ctx, &config, &token)?;
    granted(ctx, &role, &token)
}

fn judge_issuer(ctx: &mut Context<'_, '_>, config: &Config, token: &Proven) -> Result<(), Refusal> {
    let said = token.claim("iss").and_then(Value::as_str);
    let mut wanted = Vec::new();
    if !config.bound_issuer.is_empty() {
        wanted.push(config.bound_issuer.clone());
    }
    if !config.oidc_discovery_url.is_empty() && config.bound_issuer.is_empty() {
        let provider = discover(ctx, config, Age::Minutes)
            .map_err(|why| tell("error validating token", why))?;
        wanted.push(provider.issuer);
    }
    if wanted.iter().any(|wanted| said != Some(wanted)) {
        return Err(Refusal::invalid(
            "error validating token: invalid issuer (iss) claim",
        ));
    }
    Ok(())
}

fn granted(ctx: &mut Context<'_, '_>, role: &Role, token: &Proven) -> Result<Answer, Refusal> {
    let found = role.judge(token, ctx.now())?;
    let login = Login {
        alias: Some(Alias {
            name: found.user.clone(),
            metadata: found.metadata.clone(),
        }),
        groups: found.groups,
        display_name: display_name(&ctx.mount, &found.user),
        metadata: found.metadata,
        kept: [("role".to_owned(), role.name.clone())].into(),
        ..role.token.login()
    };
    Ok(Reply::Login(Box::new(login)).into())
}

#[cfg(test)]
mod tests;
