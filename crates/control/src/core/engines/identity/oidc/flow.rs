//! Logging in to another program: the authorisation code flow (RFC 6749, section 4.1; OpenID Connect
//! Core 1.0, section 3.1), with PKCE (RFC 7636).
//!
//! Codes and access tokens are random texts of which only an HMAC is kept. A code is good once, for
//! the client, the provider and the address that it was made for; it dies with the token of whoever
//! asked for it.

use std::time::Duration;

use bastide_api::UnixTime;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::told;
use crate::core::leases::{LeaseId, Owner};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};

mod authorize;
mod redeem;
mod userinfo;

pub(super) use authorize::authorize;
pub(super) use redeem::token;
pub(super) use userinfo::userinfo;

/// How long a code is good (RFC 6749 asks for ten minutes at most).
const CODE_TTL: Duration = Duration::from_secs(5 * 60);
/// Longest text that a program may send, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;
/// Shortest and longest proof of PKCE, in bytes (RFC 7636, section 4.1).
const PKCE_BYTES: std::ops::RangeInclusive<usize> = 43..=128;

/// A code that was given out, as it is stored.
#[derive(Serialize, Deserialize)]
struct Code {
    provider: String,
    client: String,
    entity: String,
    redirect: String,
    nonce: String,
    scopes: Vec<String>,
    /// What the proof must hash to, or be.
    challenge: Option<(Method, String)>,
    /// When its holder logged in, if the program asked for that.
    auth_time: Option<u64>,
    until: UnixTime,
    lease: Option<LeaseId>,
}

/// How a proof becomes a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Method {
    Plain,
    Sha256,
}

/// An access token that was given out, as it is stored.
#[derive(Serialize, Deserialize)]
struct Access {
    provider: String,
    client: String,
    entity: String,
    scopes: Vec<String>,
    until: UnixTime,
}

/// What is refused, in OAuth's words.
struct No {
    status: u16,
    error: &'static str,
    description: String,
}

impl No {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        let status = match error {
            "invalid_client" | "invalid_token" => 401,
            _ => 400,
        };
        Self {
            status,
            error,
            description: description.into(),
        }
    }

    fn answer(self, state: Option<&str>) -> Answer {
        let mut data = Map::new();
        data.insert("error".to_owned(), self.error.into());
        data.insert("error_description".to_owned(), self.description.into());
        if let Some(state) = state {
            data.insert("state".to_owned(), state.into());
        }
        told(self.status, data)
    }
}

fn row(ctx: &Context<'_, '_>, kind: &str, text: &str) -> String {
    let barrier = ctx.draft.source().barrier();
    let digest = barrier.digest(&format!("oidc-{kind}"), text.as_bytes());
    format!("oidc/{kind}/{}", HEXLOWER.encode(&digest))
}

/// Grants a lease that ends with a row: what is stored under it is then gone.
fn lease(
    ctx: &mut Context<'_, '_>,
    row: &str,
    ttl: Duration,
    owner: Owner,
) -> Result<LeaseId, Refusal> {
    let grant = Grant {
        ttl,
        ttl_max: ttl,
        renewable: false,
        data: json!({ "row": row }),
    };
    let path = ctx.path.to_owned();
    ctx.grant(&path, grant, owner)
}

/// Deletes what a lease of this flow stood for.
pub(in crate::core::engines::identity) fn revoke(
    ctx: &mut Context<'_, '_>,
    data: &Value,
) -> Result<(), Refusal> {
    let row = data["row"].as_str();
    let row = row.filter(|row| row.starts_with("oidc/code/") || row.starts_with("oidc/access/"));
    let row = row.ok_or_else(|| Refusal::corrupt("lease", "it has no row"))?;
    ctx.delete(row);
    Ok(())
}

fn text(call: &Call<'_>, name: &str) -> Result<String, Refusal> {
    let text = call.fields().text(name)?.unwrap_or_default();
    if TEXT_BYTES_MAX < text.len() {
        return Err(Refusal::invalid(format!("{name} is too long")));
    }
    Ok(text)
}
