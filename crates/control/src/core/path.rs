//! Paths of the API, parsed once at the door: one spelling per place.

use std::fmt;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// Why a text is not a path. Never shows the text: it may hold what was meant as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It climbs.
    #[error("relative paths not supported")]
    Relative,
    /// It has an empty segment.
    #[error("path holds an empty segment")]
    EmptySegment,
    /// It has a character that no path has.
    #[error("path holds a control character or a backslash")]
    Character,
    /// It is too long.
    #[error("path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// It is not UTF-8.
    #[error("path is not valid UTF-8")]
    Encoding,
    /// It is empty.
    #[error("path is empty")]
    Empty,
}

/// A path below `/v1/`, decoded: segments that are not empty, `.` or `..`, and hold no control
/// character and no backslash. Whether a slash ended it is kept apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiPath {
    text: String,
    folder: bool,
}

impl ApiPath {
    /// Parses a decoded path without its leading slash.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if PATH_BYTES_MAX < text.len() {
            return Err(PathError::TooLong);
        }
        let (body, folder) = match text.strip_suffix('/') {
            Some(body) => (body, true),
            None => (text, false),
        };
        if body.is_empty() {
            return Err(PathError::Empty);
        }
        for segment in body.split('/') {
            check_segment(segment)?;
        }
        Ok(Self {
            text: body.to_owned(),
            folder,
        })
    }

    /// Decodes percent signs once (RFC 3986, section 2.1), then parses.
    pub fn decode(raw: &str) -> Result<Self, PathError> {
        Self::parse(&percent_decode(raw)?)
    }

    /// Returns the path without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether a slash ended it.
    pub fn is_folder(&self) -> bool {
        self.folder
    }

    /// The same path, with a slash at its end.
    #[must_use]
    pub fn into_folder(self) -> Self {
        Self {
            folder: true,
            ..self
        }
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.folder { "/" } else { "" })
    }
}

impl fmt::Debug for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn check_segment(segment: &str) -> Result<(), PathError> {
    match segment {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::Relative),
        _ if segment.chars().any(|c| c.is_control() || c == '\\') => Err(PathError::Character),
        _ => Ok(()),
    }
}

/// Decodes `%XX` once; `+` stays what it is.
pub fn percent_decode(raw: &str) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.first()), digit(rest.get(1))) else {
            return Err(PathError::Encoding);
        };
        bytes.push(u8::try_from(high << 4 | low).expect("two hexadecimal digits make a byte"));
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| PathError::Encoding)
}

/// Where a mount stands: segments, with a slash at the end, such as `secret/` or `auth/userpass/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

impl MountPath {
    /// Parses a mount's path; a slash at its end may be missing.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = ApiPath::parse(text)?;
        Ok(Self(format!("{}/", path.text)))
    }

    /// Returns the path, with the slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what of `path` lies below this mount, if it does; the mount itself has `""`.
    pub fn below<'p>(&self, path: &'p ApiPath) -> Option<&'p str> {
        let text = path.as_str();
        match text.strip_prefix(self.0.as_str()) {
            Some(below) => Some(below),
            None => (text.len() + 1 == self.0.len() && self.0.starts_with(text)).then_some(""),
        }
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MountPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<MountPath> for String {
    fn from(path: MountPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests;
