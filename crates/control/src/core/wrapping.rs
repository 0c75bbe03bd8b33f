//! Response wrapping: an answer is put aside, and whoever asked gets a token that fetches it once.
//!
//! Whoever fetches it in between leaves nothing for the one it was meant for, and that shows: a second
//! use is refused and recorded. The answer is sealed under a key of which the token's text is a part,
//! and dies with the token.
//!
//! ```text
//! wrapping token's id 32 -> when, for how long and where it was wrapped; the sealed answer
//! ```

use std::sync::Arc;
use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, Unsealed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::draft::{Draft, VALUE_BYTES_MAX};
use crate::core::engine::World;
use crate::core::pipeline::{Envelope, Shape};
use crate::core::refusal::Refusal;
use crate::core::reply::timestamp;
use crate::core::request::{Operation, Request};
use crate::core::stored_answer::{SealedAnswer, StoredAnswer};
use crate::core::tables;
use crate::core::tokens::{self, NewToken, Token, TokenId};

/// The one policy of a wrapping token; no other token has it.
pub const POLICY: &str = "response-wrapping";
/// Largest answer that is wrapped, in bytes: what is stored of it is a third longer.
const ANSWER_BYTES_MAX: usize = VALUE_BYTES_MAX / 4 * 3 - 4096;
/// What whoever brings a token that is no wrapping token, or one no more, is told.
const NOT_VALID: &str = "wrapping token is not valid or does not exist";

/// What is kept of a wrapped answer.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    format: u32,
    at: UnixTime,
    ttl: u64,
    path: String,
    answer: SealedAnswer,
}

/// What anybody who holds a wrapping token may know without spending it.
pub struct Wrapping {
    /// When it was wrapped.
    pub at: UnixTime,
    /// For how many seconds.
    pub ttl: u64,
    /// By which path.
    pub path: String,
}

/// Returns where the answer of a wrapping token stands.
pub(crate) fn at(id: &TokenId) -> Key {
    Key::new(tables::WRAPPED, id.as_bytes())
}

/// Returns whether a token is a wrapping token.
pub fn is_wrapping(token: &Token) -> bool {
    token.policies == [POLICY]
}

fn opener(barrier: &Unsealed, text: &Secret<String>) -> Secret<[u8; 32]> {
    Secret::new(barrier.digest("wrapped answer", text.expose().as_bytes()))
}

/// Returns whether an answer is one that is wrapped when that is asked for: an envelope with
/// something in it. What tells the state of the server is not.
pub fn is_wrappable(envelope: &Envelope) -> bool {
    match envelope.shape {
        Shape::Bare | Shape::Told(_) | Shape::Stream(_) | Shape::Step(_) => false,
        Shape::Plain | Shape::Accepted | Shape::Absent | Shape::Status(_) | Shape::Raw(_) => {
            !envelope.is_empty() && envelope.wrap_info.is_none()
        }
    }
}

/// Puts an answer aside for `ttl`. Returns the answer in its place.
pub fn wrap(
    draft: &mut Draft<'_>,
    path: &str,
    ttl: Duration,
    operation: Operation,
    envelope: &Envelope,
) -> Result<Envelope, Refusal> {
    let answer = StoredAnswer::of(operation, envelope)
        .ok_or_else(|| Refusal::invalid("an answer that is no JSON is not wrapped"))?;
    put_aside(draft, path, ttl, &answer, accessor(envelope))
}

fn accessor(envelope: &Envelope) -> Option<String> {
    let accessor = envelope.auth.as_ref()?.get("accessor")?.as_str()?;
    Some(accessor.to_owned())
}

fn put_aside(
    draft: &mut Draft<'_>,
    path: &str,
    ttl: Duration,
    answer: &StoredAnswer,
    wrapped_accessor: Option<String>,
) -> Result<Envelope, Refusal> {
    let mounts = draft.mounts()?;
    let mount = mounts
        .at("auth/token/")
        .ok_or_else(|| Refusal::corrupt("mounts", "there is none for tokens"))?;
    let new = NewToken {
        policies: vec![POLICY.to_owned()],
        path: path.to_owned(),
        num_uses: 1,
        ttl: Some(ttl),
        explicit_max_ttl: Some(ttl),
        fixed: true,
        no_default_policy: true,
        ..NewToken::default()
    };
    let (text, token) = tokens::create(draft, mount, new)?;
    let key = opener(draft.source().barrier(), &text);
    let answer = answer
        .seal(&key, token.id.as_bytes(), draft.entropy(), ANSWER_BYTES_MAX)
        .ok_or_else(|| {
            Refusal::invalid(format!(
                "an answer of more than {ANSWER_BYTES_MAX} bytes is not wrapped"
            ))
        })?;
    let wrapped = Wrapped {
        format: 1,
        at: draft.now(),
        ttl: token.creation_ttl,
        path: path.to_owned(),
        answer,
    };
    draft.save(at(&token.id), &wrapped)?;
    let mut info = json!({
        "token": text.expose(),
        "accessor": token.accessor,
        "ttl": token.creation_ttl,
        "creation_time": timestamp(wrapped.at),
        "creation_path": path,
    });
    if let (Some(accessor), Some(info)) = (wrapped_accessor, info.as_object_mut()) {
        info.insert("wrapped_accessor".into(), Value::String(accessor));
    }
    Ok(Envelope {
        wrap_info: Some(info),
        ..Envelope::default()
    })
}

fn find(draft: &mut Draft<'_>, text: &Secret<String>) -> Result<(Arc<Token>, Wrapped), Refusal> {
    let invalid = || Refusal::invalid(NOT_VALID);
    let token = tokens::by_text(draft, text)?
        .filter(|token| is_wrapping(token))
        .ok_or_else(invalid)?;
    let wrapped: Wrapped = draft.load(&at(&token.id))?.ok_or_else(invalid)?;
    if wrapped.format != 1 {
        return Err(Refusal::corrupt("wrapped answer", "its format"));
    }
    Ok((token, wrapped))
}

/// Tells what a wrapping token holds, without spending it.
pub fn look_up(draft: &mut Draft<'_>, text: &Secret<String>) -> Result<Wrapping, Refusal> {
    let (_, wrapped) = find(draft, text)?;
    Ok(Wrapping {
        at: wrapped.at,
        ttl: wrapped.ttl,
        path: wrapped.path,
    })
}

/// What becomes of a wrapping token that is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// It is the caller's own, and its last use: it ends with the request.
    ByUse,
    /// Somebody else brings it: it ends here.
    Here,
}

fn take(
    draft: &mut Draft<'_>,
    world: World<'_>,
    text: &Secret<String>,
    spend: Spend,
) -> Result<(Wrapped, StoredAnswer), Refusal> {
    let (token, wrapped) = find(draft, text)?;
    let key = opener(draft.source().barrier(), text);
    let answer = wrapped.answer.open(&key, token.id.as_bytes())?;
    if spend == Spend::Here {
        tokens::revoke(draft, world, &token.id)?;
    }
    Ok((wrapped, answer))
}

/// Opens a wrapped answer: once. Of many that try at the same time the commit lets one through.
pub fn unwrap(
    draft: &mut Draft<'_>,
    world: World<'_>,
    text: &Secret<String>,
    spend: Spend,
) -> Result<Envelope, Refusal> {
    let (_, answer) = take(draft, world, text, spend)?;
    Ok(answer.into_parts()?.1)
}

/// Puts a wrapped answer aside anew, for as long as the first time, under another token.
pub fn rewrap(
    draft: &mut Draft<'_>,
    world: World<'_>,
    text: &Secret<String>,
    spend: Spend,
) -> Result<Envelope, Refusal> {
    let (wrapped, answer) = take(draft, world, text, spend)?;
    let (operation, envelope) = answer.into_parts()?;
    let ttl = Duration::from_secs(wrapped.ttl);
    wrap(draft, &wrapped.path, ttl, operation, &envelope)
}

/// Refuses a request that is to open a wrapping token and brings none that is good. As Vault, this is
/// told before it is judged who asks: one who comes too late learns that he does.
pub fn judge(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    if !["sys/wrapping/unwrap", "sys/wrapping/rewrap"].contains(&request.path.as_str()) {
        return Ok(());
    }
    let named = match request.data.get("token") {
        Some(Value::String(text)) if !text.is_empty() => Some(Secret::new(text.clone())),
        _ => None,
    };
    match named.as_ref().or(request.token.as_ref()) {
        Some(text) => find(draft, text).map(drop),
        None => Err(Refusal::invalid(NOT_VALID)),
    }
}

#[cfg(test)]
mod tests;
