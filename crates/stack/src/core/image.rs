//! Names of images, in the grammar of the distribution project's `reference` package.
//!
//! ```text
//! [domain[:port]/]path[/path…][:tag][@sha256:<64 hex digits>]
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A content digest: SHA-256, 64 lower-case hex digits (OCI image specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// Wraps a SHA-256 sum.
    pub fn from_sha256(sum: [u8; 32]) -> Self {
        Self(sum)
    }

    /// Returns the sum.
    pub fn as_sha256(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hex digits, without the algorithm. Safe as a file name.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                write!(text, "{byte:02x}").expect("writing to a string does not fail");
                text
            })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix("sha256:").ok_or(DigestError)?.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(DigestError),
        };
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(sum))
    }
}

/// The name of an image, with a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not the name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// The part before tag and digest.
    #[error("an image's name is lower-case words joined by `/`, at most 255 bytes")]
    Name,
    /// The tag.
    #[error("an image's tag is 1 to 128 letters, digits, `_`, `.` or `-`")]
    Tag,
    /// The digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ImageRef {
    /// Returns the name without tag and digest, as written: `hello`, `127.0.0.1:5443/hello`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the last words of the name, without a registry's domain: `hello` of
    /// `registry.example:5000/hello`.
    pub fn repository(&self) -> &str {
        match self.name.split_once('/') {
            Some((domain, rest)) if is_domain(domain) => rest,
            _ => &self.name,
        }
    }

    /// Names the same repository at the registry `registry` (`host:port`), by digest alone.
    #[must_use]
    pub fn at(&self, registry: std::net::SocketAddr, digest: Digest) -> Self {
        Self {
            name: format!("{registry}/{}", self.repository()),
            tag: None,
            digest: Some(digest),
        }
    }
}

/// The first word of a name is a registry's domain if it holds a dot or a port or is `localhost`.
fn is_domain(word: &str) -> bool {
    word.contains(['.', ':']) || word == "localhost"
}

fn is_path_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator = |byte: u8| b"._-".contains(&byte);
    bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
        && bytes.iter().all(|&byte| inner(byte) || separator(byte))
        && !word.contains("..")
}

fn is_domain_word(word: &str) -> bool {
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (word, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| {
            port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let last_word = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last_word..].find(':') {
            Some(colon) => {
                let (name, tag) = rest.split_at(last_word + colon);
                (name, Some(&tag[1..]))
            }
            None => (rest, None),
        };
        let begins_well = |tag: &str| {
            tag.bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let tag_is_good = tag.is_none_or(|tag| {
            tag.len() <= TAG_BYTES_MAX
                && begins_well(tag)
                && tag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        });
        if !tag_is_good {
            return Err(ImageRefError::Tag);
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (Some(domain), path),
            _ => (None, name),
        };
        if NAME_BYTES_MAX < name.len()
            || !domain.is_none_or(is_domain_word)
            || !path.split('/').all(is_path_word)
        {
            return Err(ImageRefError::Name);
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Digest);
serde_as_text!(ImageRef);

#[cfg(test)]
mod tests;
