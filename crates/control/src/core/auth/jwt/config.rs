//! What holds for all roles of a mount: whose tokens are believed, and as whom people are logged in.

use bastide_api::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::URL_BYTES_MAX;
use super::keys::{ALGS, Alg, KEYS_MAX, Key};
use super::provider::{self, tell};
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::outside::Age;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Longest text of certificates in a configuration, in bytes.
const PEM_BYTES_MAX: usize = 256 << 10;
/// Most sets of keys of one mount.
const PAIRS_MAX: usize = 16;

/// Where keys come from, and what holds for all roles of a mount.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named as clients name them"
)]
pub struct Config {
    /// The provider that logs people in, or whose keys sign tokens.
    pub oidc_discovery_url: String,
    /// What its certificate must chain to, or be; empty: what this host trusts.
    pub oidc_discovery_ca_pem: String,
    /// As whom this server is registered there; empty: nobody logs in by a browser.
    pub oidc_client_id: String,
    /// Never shown.
    pub oidc_client_secret: Kept,
    oidc_response_mode: String,
    oidc_response_types: Vec<String>,
    jwks_url: String,
    jwks_ca_pem: String,
    jwks_pairs: Vec<Pair>,
    jwt_validation_pubkeys: Vec<String>,
    /// Who must have issued a token; empty: the provider, or whoever.
    pub bound_issuer: String,
    jwt_supported_algs: Vec<String>,
    /// The role of who names none.
    pub default_role: String,
    provider_config: Map<String, Value>,
    namespace_in_state: bool,
}

/// A set of keys elsewhere, and what its server's certificate must chain to, or be.
#[derive(Serialize, Deserialize)]
pub struct Pair {
    /// Where it is.
    pub jwks_url: String,
    /// In PEM; empty: what this host trusts.
    #[serde(default)]
    pub jwks_ca_pem: String,
}

/// A secret as it stands behind the barrier.
pub struct Kept(pub Secret<String>);

impl Default for Kept {
    fn default() -> Self {
        Self(Secret::new(String::new()))
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl Pair {
    fn read(value: &Value) -> Result<Self, Refusal> {
        let wrong = || Refusal::invalid("jwks_pairs is not a list of jwks_url and jwks_ca_pem");
        let pair = value.as_object().ok_or_else(wrong)?;
        let known = ["jwks_url", "jwks_ca_pem"];
        if pair.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(wrong());
        }
        let text = |name: &str, bytes_max: usize| {
            let text = Fields(pair).text(name)?.unwrap_or_default();
            let fits = text.len() <= bytes_max;
            fits.then_some(text).ok_or_else(wrong)
        };
        let jwks_url = text("jwks_url", URL_BYTES_MAX)?;
        if jwks_url.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            jwks_url,
            jwks_ca_pem: text("jwks_ca_pem", PEM_BYTES_MAX)?,
        })
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
        let pairs = match fields.get("jwks_pairs") {
            None => &[],
            Some(Value::Array(pairs)) if pairs.len() <= PAIRS_MAX => pairs.as_slice(),
            Some(_) => {
                return Err(Refusal::invalid(format!(
                    "jwks_pairs is not a list of at most {PAIRS_MAX} pairs"
                )));
            }
        };
        let secret = text("oidc_client_secret", PEM_BYTES_MAX)?;
        let config = Self {
            oidc_discovery_url: text("oidc_discovery_url", URL_BYTES_MAX)?,
            oidc_discovery_ca_pem: text("oidc_discovery_ca_pem", PEM_BYTES_MAX)?,
            oidc_client_id: text("oidc_client_id", URL_BYTES_MAX)?,
            oidc_client_secret: Kept(Secret::new(secret)),
            oidc_response_mode: text("oidc_response_mode", URL_BYTES_MAX)?,
            oidc_response_types: list("oidc_response_types")?,
            jwks_url: text("jwks_url", URL_BYTES_MAX)?,
            jwks_ca_pem: text("jwks_ca_pem", PEM_BYTES_MAX)?,
            jwks_pairs: pairs.iter().map(Pair::read).collect::<Result<_, _>>()?,
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
            !self.jwks_pairs.is_empty(),
            !self.jwt_validation_pubkeys.is_empty(),
        ];
        if sources.into_iter().filter(|given| *given).count() != 1 {
            return Err(Refusal::invalid(
                "exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs' or \
                 'oidc_discovery_url' must be set",
            ));
        }
        let secret = self.oidc_client_secret.0.expose();
        if self.oidc_client_id.is_empty() != secret.is_empty() {
            return Err(Refusal::invalid(
                "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC",
            ));
        }
        if !self.oidc_client_id.is_empty() && self.oidc_discovery_url.is_empty() {
            return Err(Refusal::invalid(
                "'oidc_discovery_url' must be set for OIDC",
            ));
        }
        if !matches!(self.oidc_response_mode.as_str(), "" | "query" | "form_post") {
            return Err(Refusal::invalid(
                "invalid response_mode: 'query' and 'form_post' are allowed",
            ));
        }
        // A token that comes by way of a browser could be another one's (RFC 9700, section 2.1.2).
        if self.oidc_response_types.iter().any(|it| it != "code") {
            return Err(Refusal::invalid(
                "invalid response_types: only 'code' is served, so that no token passes a browser",
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

    /// Returns whether people log in by a browser.
    pub fn is_for_people(&self) -> bool {
        !self.oidc_discovery_url.is_empty() && !self.oidc_client_id.is_empty()
    }

    /// Returns how the provider is to send a browser back, if that is not the usual way.
    pub fn response_mode(&self) -> Option<&str> {
        let mode = self.oidc_response_mode.as_str();
        (mode == "form_post").then_some(mode)
    }

    /// Returns the sets of keys that are named; none: the provider names one, or keys stand here.
    pub fn sets(&self) -> Vec<(&str, &str)> {
        if !self.jwks_url.is_empty() {
            return vec![(&self.jwks_url, &self.jwks_ca_pem)];
        }
        let pairs = self.jwks_pairs.iter();
        pairs
            .map(|it| (it.jwks_url.as_str(), it.jwks_ca_pem.as_str()))
            .collect()
    }

    /// Returns whether keys stand here.
    pub fn has_keys(&self) -> bool {
        !self.jwt_validation_pubkeys.is_empty()
    }

    /// Returns the keys that stand here; `None` if one cannot be read.
    pub fn static_keys(&self) -> Option<Vec<Key>> {
        let pems = self.jwt_validation_pubkeys.iter();
        pems.map(|pem| Key::from_pem(pem)).collect()
    }

    /// Algorithms that are believed: those that are named; otherwise all with keys that stand here, and
    /// RS256 with keys that are fetched, as in Vault.
    pub fn algs(&self) -> Vec<Alg> {
        match self.jwt_supported_algs.as_slice() {
            [] if !self.has_keys() => vec![Alg::Rs256],
            [] => ALGS.iter().map(|(alg, _)| *alg).collect(),
            named => named.iter().filter_map(|name| Alg::parse(name)).collect(),
        }
    }

    /// Answers with what may be seen of it: all but the secret.
    pub fn shown(&self) -> Answer {
        Answer::json(json!({
            "oidc_discovery_url": self.oidc_discovery_url,
            "oidc_discovery_ca_pem": self.oidc_discovery_ca_pem,
            "oidc_client_id": self.oidc_client_id,
            "oidc_response_mode": self.oidc_response_mode,
            "oidc_response_types": self.oidc_response_types,
            "jwks_url": self.jwks_url,
            "jwks_ca_pem": self.jwks_ca_pem,
            "jwks_pairs": self.jwks_pairs,
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
pub fn configure(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let config = Config::read(call.fields())?;
    if !config.oidc_discovery_url.is_empty() {
        provider::discover(ctx, &config, Age::Fresh)
            .map_err(|why| tell("error checking oidc discovery URL", why))?;
    }
    for (url, ca_pem) in config.sets() {
        provider::fetched_keys(ctx, url, ca_pem, Age::Fresh)
            .map_err(|why| tell("error checking jwks URL", why))?;
    }
    ctx.save("config", &config)?;
    Ok(Answer::done())
}
