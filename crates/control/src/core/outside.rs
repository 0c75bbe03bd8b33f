//! What decisions ask of servers elsewhere, as slow work: documents over HTTPS.
//!
//! A decision never waits: it asks, ends, and is made anew with what came back. What came back may be
//! an answer or the reason why there is none, so that a login that fails for it is recorded like any
//! other.

use bastide_api::Secret;

/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 512 << 10;

/// A document to be fetched.
pub struct Fetch {
    /// Where: `https://…`, or `http://…` on loopback.
    pub url: String,
    /// Certificates in PEM that the server's must chain to, or be; empty: those that the host trusts.
    pub ca_pem: String,
    /// How old an answer may be.
    pub age: Age,
    /// How it is asked for.
    pub ask: Ask,
}

/// How a document is asked for.
pub enum Ask {
    /// It is read, by whoever.
    Read,
    /// It is read by the holder of this token (RFC 6750). The answer is for this request alone.
    Bearer(Secret<String>),
    /// It is the answer to a form. It is for this request alone.
    Post(Form),
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

/// A form that is posted.
pub struct Form {
    /// Names and values.
    pub fields: Vec<(&'static str, Secret<String>)>,
    /// The name and the password that it is sent with (RFC 7617); `None`: it says itself who sends it.
    pub basic: Option<(String, Secret<String>)>,
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

/// Encodes a text for a form or a query: what is not a letter, digit or one of `-._~` by its bytes.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
    }
    out
}
