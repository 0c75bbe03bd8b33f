//! Names that people give: DNS labels (RFC 1035, section 2.3.1; RFC 1123, section 2.1).

use std::fmt;
use std::str::FromStr;

/// Longest DNS label, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a {kind} name: expected 1 to 63 lower-case letters, digits or hyphens, \
     with a letter or digit at both ends"
)]
pub struct NameError {
    text: String,
    kind: &'static str,
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= LABEL_BYTES_MAX
        && bytes.iter().all(|&byte| inner(byte))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_label(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(LABEL_BYTES_MAX + 1).collect();
                    Err(NameError { text, kind: $kind })
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

label!(
    /// A cluster's name, the label before `.internal`.
    ClusterName, "cluster"
);
label!(
    /// A node's name, unique in its cluster.
    NodeName, "node"
);
label!(
    /// A place with nodes behind one uplink.
    SiteName, "site"
);
label!(
    /// A deployed compose file.
    StackName, "stack"
);
label!(
    /// A service of a stack.
    ServiceName, "service"
);

label!(
    /// What an operator says of a node when it makes its ticket: what a rule may be about.
    Tag, "tag"
);

/// Most tags of a node.
pub const TAGS_MAX: usize = 16;

/// A processor architecture, in the words of OCI images (`GOARCH`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
    /// 32-bit ARM, version 7.
    Arm,
}

impl Arch {
    /// The architecture this program was built for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm64
    } else if cfg!(target_arch = "arm") {
        Self::Arm
    } else {
        Self::Amd64
    };

    /// Returns the OCI word: `amd64`, `arm64` or `arm`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
