//! Batch tokens: a token that is its own entry, sealed by the barrier, so that nothing is stored.
//!
//! ```text
//! hvb. | base64url( epoch | suite | nonce | AES-256-GCM(what the token is) )
//! ```
//!
//! It cannot be renewed or revoked; it ends by its time, or with its parent. Rotating the barrier's
//! key leaves it good, since the keyring keeps old keys for reading.

use std::collections::BTreeMap;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, Unsealed};
use data_encoding::BASE64URL_NOPAD;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::core::refusal::Refusal;
use crate::core::tables;
use crate::core::token_type::TokenKind;
use crate::core::tokens::{Token, TokenId};

/// How the text of a batch token begins.
pub const PREFIX: &str = "hvb.";
/// Longest text of a batch token, in bytes: it goes into a header of every request.
pub const TEXT_BYTES_MAX: usize = 8 << 10;

/// What is sealed. Names are short, since the text goes over the wire with every request.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The format: 1.
    v: u8,
    p: Vec<String>,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<BTreeMap<String, String>>,
    n: String,
    c: UnixTime,
    t: u64,
    e: UnixTime,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    a: Vec<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    i: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<IpNet>,
}

fn place() -> Key {
    Key::new(tables::BATCH_TOKENS, "batch")
}

/// Seals a token and gives it the id of its text. Returns the text.
pub(super) fn seal(barrier: &Unsealed, token: &mut Token) -> Result<Secret<String>, Refusal> {
    if token.is_root() {
        return Err(Refusal::invalid("batch tokens cannot be root tokens"));
    }
    if token.num_uses != 0 || token.period != 0 {
        return Err(Refusal::invalid(
            "batch tokens cannot be periodic or have a limited use count",
        ));
    }
    let Some(end) = token.expires else {
        return Err(Refusal::invalid("batch tokens must have an end"));
    };
    let sealed = Sealed {
        v: 1,
        p: token.policies.clone(),
        at: token.path.clone(),
        m: token.meta.clone(),
        n: token.display_name.clone(),
        c: token.created,
        t: token.creation_ttl,
        e: end,
        a: token.ancestors.clone(),
        r: token.role.clone(),
        i: token.entity_id.clone(),
        b: token.bound_cidrs.clone(),
    };
    let mut plain = serde_json::to_vec(&sealed).expect("what is sealed is plain JSON");
    let body = barrier.seal(&place(), &plain);
    plain.zeroize();
    let text = Secret::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&body)));
    if TEXT_BYTES_MAX < text.expose().len() {
        return Err(Refusal::invalid(
            "a batch token holds its policies and metadata: these are too long for one",
        ));
    }
    token.id = TokenId::of(barrier, &text);
    Ok(text)
}

/// Opens a text; `None` if we did not seal it.
pub(super) fn open(barrier: &Unsealed, text: &Secret<String>) -> Option<Token> {
    let body = text.expose().strip_prefix(PREFIX)?;
    if TEXT_BYTES_MAX < text.expose().len() {
        return None;
    }
    let body = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
    let plain = barrier.open(&place(), &body).ok()?;
    let sealed: Sealed = serde_json::from_slice(plain.expose()).ok()?;
    if sealed.v != 1 {
        return None;
    }
    Some(Token {
        id: TokenId::of(barrier, text),
        accessor: String::new(),
        policies: sealed.p,
        path: sealed.at,
        meta: sealed.m,
        display_name: sealed.n,
        num_uses: 0,
        created: sealed.c,
        creation_ttl: sealed.t,
        expires: Some(sealed.e),
        explicit_max_ttl: 0,
        ttl_max: sealed.t,
        period: 0,
        renewable: false,
        renewed: None,
        ancestors: sealed.a,
        role: sealed.r,
        lease: None,
        kind: TokenKind::Batch,
        entity_id: sealed.i,
        bound_cidrs: sealed.b,
        // Only renewals need it.
        kept: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests;
