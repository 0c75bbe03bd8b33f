//! Writes that may be repeated: under a key that the client drew, the answer that was given.
//!
//! A client whose answer was lost sends the same request again with the same `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header), and gets the same answer; nothing is done twice. What
//! is remembered is committed with the effect. It is sealed with a key of which the token is a part,
//! so that the store alone does not give it away: an answer may hold a new token.
//!
//! ```text
//! token id 32 | key's digest 32                      -> fingerprint of the request, sealed answer
//! end in ms, big-endian 8 | token id 32 | digest 32  -> nothing
//! ```

use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, KeyRange, Unsealed};
use serde::{Deserialize, Serialize};

use crate::core::draft::{Draft, key};
use crate::core::engine::Caller;
use crate::core::pipeline::Envelope;
use crate::core::refusal::Refusal;
use crate::core::request::{Operation, Request};
use crate::core::stored_answer::{SealedAnswer, StoredAnswer};
use crate::core::tables;

/// How long an answer is remembered.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Most answers that are remembered; beyond it the oldest are forgotten, within seconds.
const ANSWERS_MAX: usize = 10_000;
/// Longest answer that is remembered, in bytes. No write of ours has one that long.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A key that a client drew for one request and its repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Idempotency-Key is not 1 to {KEY_BYTES_MAX} visible ASCII characters")]
pub struct KeyError;

impl IdempotencyKey {
    /// Parses a header's value: a string of RFC 8941 in its quotes, as the draft wants it, or, as
    /// most clients send it, without them.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bare = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        let is_good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if bare.is_empty() || KEY_BYTES_MAX < bare.len() || !bare.bytes().all(is_good) {
            return Err(KeyError);
        }
        Ok(Self(bare.to_owned()))
    }
}

/// Where the answer to one request is remembered, and what opens it.
pub struct Slot {
    at: Vec<u8>,
    fingerprint: [u8; 32],
    opens: Secret<[u8; 32]>,
}

/// What was answered.
pub struct Remembered {
    /// What was done: created or updated.
    pub operation: Operation,
    /// The answer.
    pub envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    until: UnixTime,
    fingerprint: [u8; 32],
    nonce: [u8; 12],
    sealed: String,
}

fn until_at(until: UnixTime, at: &[u8]) -> Key {
    key(
        tables::IDEMPOTENCY_EXPIRY,
        &[&until.as_millis().to_be_bytes(), at],
    )
}

impl Slot {
    /// Returns the slot of a request; `None` if it has no key, changes nothing, or comes without a
    /// token.
    pub fn of(barrier: &Unsealed, caller: &Caller, request: &Request) -> Option<Self> {
        let drawn = request.idempotency.as_ref()?;
        let (Caller::Token(token), Some(text)) = (caller, &request.token) else {
            return None;
        };
        let writes = match request.operation {
            Operation::Read | Operation::List => false,
            Operation::Create | Operation::Update | Operation::Patch | Operation::Delete => true,
        };
        if !writes {
            return None;
        }
        let digest = barrier.digest("idempotency key", drawn.0.as_bytes());
        let mut both = Vec::with_capacity(text.expose().len() + 1 + drawn.0.len());
        both.extend_from_slice(text.expose().as_bytes());
        both.push(0);
        both.extend_from_slice(drawn.0.as_bytes());
        let both = Secret::new(both);
        let asked = (
            request.operation.as_str(),
            request.path.to_string(),
            &request.data,
        );
        // What was answered in clear is not what who wants it wrapped asks for.
        let asked = match request.wrap {
            None => serde_json::to_vec(&asked),
            Some(ttl) => serde_json::to_vec(&(asked, ttl.as_millis())),
        };
        let asked = Secret::new(asked.expect("a request's fields are plain JSON"));
        Some(Self {
            at: [token.id.as_bytes().as_slice(), &digest].concat(),
            fingerprint: barrier.digest("idempotency request", asked.expose()),
            opens: Secret::new(barrier.digest("idempotency answer", both.expose())),
        })
    }

    fn key(&self) -> Key {
        Key::new(tables::IDEMPOTENCY, &self.at)
    }

    /// Returns what was answered to this request before, if it was.
    pub fn recall(&self, draft: &mut Draft<'_>) -> Result<Option<Remembered>, Refusal> {
        let Some(stored) = draft.load::<Stored>(&self.key())? else {
            return Ok(None);
        };
        if stored.until <= draft.now() {
            return Ok(None);
        }
        if stored.fingerprint != self.fingerprint {
            return Err(Refusal::KeyReused);
        }
        let sealed = SealedAnswer {
            nonce: stored.nonce,
            sealed: stored.sealed,
        };
        let answer = sealed.open(&self.opens, &self.at)?;
        let (operation, envelope) = answer.into_parts()?;
        Ok(Some(Remembered {
            operation,
            envelope,
        }))
    }

    /// Remembers an answer, in the batch that holds its effect.
    pub fn remember(
        &self,
        draft: &mut Draft<'_>,
        operation: Operation,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        let Some(answer) = StoredAnswer::of(operation, envelope) else {
            return Ok(());
        };
        let sealed = answer.seal(&self.opens, &self.at, draft.entropy(), ANSWER_BYTES_MAX);
        let Some(sealed) = sealed else {
            return Ok(());
        };
        if let Some(before) = draft.load::<Stored>(&self.key())? {
            draft.delete(until_at(before.until, &self.at));
        }
        let until = draft.now().plus(LIFE);
        let stored = Stored {
            format: 1,
            until,
            fingerprint: self.fingerprint,
            nonce: sealed.nonce,
            sealed: sealed.sealed,
        };
        draft.save(self.key(), &stored)?;
        draft.put(until_at(until, &self.at), Vec::new())
    }
}

/// Forgets answers whose time has passed, and the oldest of too many. Returns whether there is more.
pub fn forget(draft: &mut Draft<'_>, limit: usize) -> Result<bool, Refusal> {
    let now = draft.now().as_millis().saturating_add(1).to_be_bytes();
    let past = KeyRange::between(tables::IDEMPOTENCY_EXPIRY, [], now);
    let mut ended = draft.keys(&past, limit)?;
    // Read beside the draft: an answer that is remembered meanwhile must not undo this.
    let all = KeyRange::prefix(tables::IDEMPOTENCY_EXPIRY, "");
    let all = draft.source().keys(&all, ANSWERS_MAX + limit)?;
    let surplus = all.len().saturating_sub(ANSWERS_MAX);
    if ended.len() < surplus {
        ended = all.into_iter().take(surplus).collect();
    }
    let more = ended.len() == limit;
    for at in ended {
        if let Some((_, slot)) = at.rest().split_at_checked(8) {
            draft.delete(Key::new(tables::IDEMPOTENCY, slot));
        }
        draft.delete(at);
    }
    Ok(more)
}

#[cfg(test)]
mod tests;
