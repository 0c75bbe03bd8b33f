//! Which headers of requests are recorded, and how.

use std::collections::BTreeMap;

use bastide_store::Key;
use serde::{Deserialize, Serialize};

use crate::core::draft::Draft;
use crate::core::refusal::Refusal;
use crate::core::tables;

/// Most headers that are recorded.
pub const HEADERS_MAX: usize = 64;
/// Longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most values of one header that a record shows, and most bytes of each: whoever asks chooses them.
pub const VALUES_MAX: usize = 8;
pub const VALUE_BYTES_MAX: usize = 512;
/// What is recorded where nothing was said, as in Vault.
const USUAL: &[&str] = &["correlation-id", "user-agent", "x-correlation-id"];
/// What proves who asks: records show it elsewhere, hashed, or not at all.
const SECRET: &[&str] = &[
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-vault-token",
];

/// How a header is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// As it came.
    Clear,
    /// As a keyed hash.
    Hashed,
}

/// The headers that are recorded, by their names in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, Shown>);

impl Default for Headers {
    fn default() -> Self {
        let usual = USUAL.iter();
        Self(
            usual
                .map(|name| ((*name).to_owned(), Shown::Clear))
                .collect(),
        )
    }
}

/// Returns the one form of a header's name (RFC 9110, section 5.1).
pub fn name(text: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || NAME_BYTES_MAX < text.len() || !text.bytes().all(plain) {
        return Err(Refusal::invalid("that is no header's name"));
    }
    let name = text.to_ascii_lowercase();
    if SECRET.contains(&name.as_str()) {
        return Err(Refusal::invalid(format!(
            "the header {name:?} proves who asks and is never recorded: a token stands, hashed, in \
             client_token"
        )));
    }
    Ok(name)
}

/// It lies beside the devices, whose names end in a slash: it changes how each records.
fn at() -> Key {
    Key::new(tables::AUDIT_DEVICES, AT)
}

/// Where it stands in the table.
pub(super) const AT: &str = "\0headers";

/// Reads what is recorded.
pub fn load(draft: &mut Draft<'_>) -> Result<Headers, Refusal> {
    Ok(draft.load(&at())?.unwrap_or_default())
}

/// Writes what is recorded.
pub fn save(draft: &mut Draft<'_>, headers: &Headers) -> Result<(), Refusal> {
    draft.save(at(), headers)
}
