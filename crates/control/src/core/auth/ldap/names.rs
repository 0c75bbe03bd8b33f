//! Names of people, and how they are put into names of entries and into filters.

use std::fmt::Write;

pub use crate::core::engines::identity::names::folded;

/// Longest name of a person or group, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Returns whether a name is one that people have: not empty, no control characters, white space only
/// between words and one space at a time. A directory takes `ada  l` for `ada l`, and what counts wrong
/// passwords or tells people apart must not be deceived by that (CVE-2025-6004, CVE-2025-6013).
pub fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.trim() == name
        && !name.contains("  ")
        && !name.contains(['/', '\\'])
        && !name.chars().any(odd)
        // Letters that are not seen, and those that a directory folds into others.
        && name.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric())
}

/// Escapes a value for a filter (RFC 4515, section 3): what is not a plain letter or digit by its
/// bytes, so that nothing in it means more than itself.
pub fn filter_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b" @._-,=+".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "\\{byte:02x}").expect("a string takes all");
        }
    }
    out
}

/// Escapes a value for the name of an entry (RFC 4514, section 2.4).
pub fn dn_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let is_edge = at == 0 || at == last;
        let is_plain =
            byte.is_ascii_alphanumeric() || b"@._-".contains(&byte) || (byte == b' ' && !is_edge);
        if is_plain {
            out.push(char::from(byte));
        } else {
            write!(out, "\\{byte:02x}").expect("a string takes all");
        }
    }
    out
}

/// Returns what the attribute `cn` says in the name of an entry; `None` if the text is none, or has no
/// such attribute.
pub fn common_name(dn: &str) -> Option<String> {
    let mut parts = vec![String::new()];
    let mut letters = dn.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ',' | '+' | ';' => parts.push(String::new()),
            '\\' => {
                let part = parts.last_mut()?;
                part.push('\\');
                part.push(letters.next()?);
            }
            letter => parts.last_mut()?.push(letter),
        }
    }
    parts.iter().find_map(|part| {
        let (attribute, value) = part.trim_start().split_once('=')?;
        attribute
            .trim()
            .eq_ignore_ascii_case("cn")
            .then(|| unescaped(value.trim()))?
    })
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let next = bytes.next()?;
        match char::from(next).to_digit(16) {
            Some(high) => {
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high << 4 | low).ok()?);
            }
            None => out.push(next),
        }
    }
    String::from_utf8(out).ok()
}

/// Puts values into a text with places such as `{{.Username}}`; `None` if a place is not known.
pub fn filled(template: &str, values: &[(&str, &str)]) -> Option<String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, after) = after.split_once("}}")?;
        let name = place.trim().strip_prefix('.')?;
        let (_, value) = values.iter().find(|(known, _)| *known == name)?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}
