//! Names of people and groups, folded once.

use std::fmt;

use data_encoding::HEXLOWER;
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Serialize};

use crate::core::entropy::Entropy;
use crate::core::refusal::Refusal;

/// Longest name of an entity, a group or an alias, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// Folds a text into the one form under which people's names are compared: compatibility forms
/// composed (NFKC, Unicode Standard Annex 15), then lower case, then composed again, because lower
/// case can take a text out of that form. Folding a folded text changes nothing.
pub fn folded(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let mut folded = text.to_owned();
    // A character's lower case is at most decomposed anew, so this ends after a round or two.
    for _ in 0..4 {
        let next = nfkc.normalize(&folded).to_lowercase();
        let next = nfkc.normalize(&next).into_owned();
        if next == folded {
            break;
        }
        folded = next;
    }
    folded
}

/// The name of an entity or group: as it was written, and found by its folded form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Parses a name: not empty, at most [`NAME_BYTES_MAX`] bytes, no control character, no white
    /// space at either end.
    pub fn parse(what: &str, text: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| Err(Refusal::invalid(format!("{what} name {why}")));
        if text.is_empty() {
            return wrong("is empty");
        }
        if NAME_BYTES_MAX < text.len() {
            return wrong(&format!("is longer than {NAME_BYTES_MAX} bytes"));
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return wrong("holds a control character, or white space at an end");
        }
        if folded(text).is_empty() {
            return wrong("has no visible character");
        }
        Ok(Self(text.to_owned()))
    }

    /// Draws a name for an entity or group that was given none.
    pub fn draw(what: &str, entropy: &mut Entropy) -> Self {
        let tail = HEXLOWER.encode(&entropy.bytes::<6>());
        Self(format!("{what}_{tail}"))
    }

    /// Returns the name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the form under which it is found.
    pub fn key(&self) -> String {
        folded(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Folds the name of an alias as the auth methods of its mount's kind fold user names: those of
/// directories, passwords and whoever makes tokens for others without regard to case, all others (subjects, role ids) byte by byte,
/// because who issues those may tell them apart by case.
pub fn alias_name(kind: &str, text: &str) -> Result<String, Refusal> {
    let name = match kind {
        "userpass" | "ldap" | "okta" | "radius" | "token" => folded(text),
        _ => text.to_owned(),
    };
    if name.is_empty() {
        return Err(Refusal::invalid("missing alias name"));
    }
    if NAME_BYTES_MAX < name.len() || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("alias name is not valid"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_fold_a_folded_name_changes_nothing_whatever_the_character() {
        // The planes that have letters.
        for c in (0..0x2_0000).filter_map(char::from_u32) {
            // Where it may compose with what stands beside it, too.
            let text = format!("{c}a{c}\u{301}");
            let once = folded(&text);
            assert_eq!(folded(&once), once, "{text:?}");
        }
    }

    #[test]
    fn names_of_methods_that_tell_case_apart_are_kept_byte_by_byte() {
        for (kind, one, other, same) in [
            ("userpass", "Ada", "ada", true),
            ("ldap", "ZOE\u{308}", "zo\u{eb}", true),
            ("jwt", "Ada", "ada", false),
            ("approle", "zoe\u{308}", "zo\u{eb}", false),
        ] {
            let (one, other) = (
                alias_name(kind, one).unwrap(),
                alias_name(kind, other).unwrap(),
            );
            assert_eq!(one == other, same, "{kind}");
        }
        assert!(alias_name("jwt", "").is_err() && alias_name("jwt", "a\nb").is_err());
    }
}
