//! What decisions ask of servers elsewhere, as slow work: documents over HTTPS.
//!
//! A decision never waits: it asks, ends, and is made anew with what came back. What came back may be
//! an answer or the reason why there is none, so that a login that fails for it is recorded like any
//! other.

use bastide_api::Secret;

/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 512 << 10;

/// A document to be fetched.
#[derive(Clone)]
pub struct Fetch {
    /// Where: `https://…`, or `http://…` on loopback.
    pub url: String,
    /// Certificates in PEM that the server's must chain to, or be; empty: those that the host trusts.
    pub ca_pem: String,
    /// How old an answer may be.
    pub age: Age,
    /// A form to be posted; `None`: the document is read.
    pub form: Option<Form>,
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Minutes: what was fetched for somebody else will do.
    Minutes,
    /// Seconds: something is missing in what was fetched earlier.
    Seconds,
    /// It must be fetched for this request.
    Fresh,
}

/// A form, and the name and password that it is sent with.
#[derive(Clone)]
pub struct Form {
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The client's name.
    pub user: String,
    /// The client's password.
    pub password: String,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({})", self.url)
    }
}

/// Wraps what came back.
pub fn answered(bytes: &[u8]) -> Secret<Vec<u8>> {
    Secret::new([b"+", bytes].concat())
}

/// Wraps why nothing came back.
pub fn failed(why: &str) -> Secret<Vec<u8>> {
    Secret::new([b"-", why.as_bytes()].concat())
}

/// Unwraps either.
pub fn unwrapped(result: &Secret<Vec<u8>>) -> Result<&[u8], &str> {
    match result.expose().split_first() {
        Some((b'+', bytes)) => Ok(bytes),
        Some((_, why)) => Err(std::str::from_utf8(why).unwrap_or("nothing came back")),
        None => Err("nothing came back"),
    }
}
