//! Search filters (RFC 4515): parsed from an operator's text, in which the names of people stand
//! escaped.

use super::ber::{OCTETS, SEQUENCE, put};

/// Deepest nesting of a filter.
const DEPTH_MAX: usize = 16;
/// Longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 8 << 10;

/// A filter, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of them hold.
    And(Vec<Self>),
    /// One of them holds.
    Or(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// An attribute is there.
    Present(String),
    /// An attribute compares with a value: the tag of the comparison.
    Compare(u8, String, Vec<u8>),
    /// A value begins with, contains, and ends with these parts; an empty one at either end is none.
    Parts(String, Vec<Vec<u8>>),
    /// A matching rule holds: rule, attribute, value, whether the name's attributes count.
    Rule(String, String, Vec<u8>, DnToo),
}

/// Whether a matching rule looks at the attributes of an entry's name as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnToo {
    Yes,
    No,
}

/// A text is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFilter;

const EQUAL: u8 = 0xa3;
const AT_LEAST: u8 = 0xa5;
const AT_MOST: u8 = 0xa6;
const LIKE: u8 = 0xa8;

impl Filter {
    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, NotFilter> {
        if FILTER_BYTES_MAX < text.len() {
            return Err(NotFilter);
        }
        let (filter, rest) = parse(text.trim(), 0)?;
        if rest.is_empty() {
            Ok(filter)
        } else {
            Err(NotFilter)
        }
    }

    /// Appends it as BER.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        let tag = match self {
            Self::And(all) | Self::Or(all) => {
                for it in all {
                    it.write(&mut content);
                }
                if matches!(self, Self::And(_)) {
                    0xa0
                } else {
                    0xa1
                }
            }
            Self::Not(it) => {
                it.write(&mut content);
                0xa2
            }
            Self::Present(attribute) => {
                content.extend_from_slice(attribute.as_bytes());
                0x87
            }
            Self::Compare(tag, attribute, value) => {
                put(&mut content, OCTETS, attribute.as_bytes());
                put(&mut content, OCTETS, value);
                *tag
            }
            Self::Parts(attribute, parts) => {
                put(&mut content, OCTETS, attribute.as_bytes());
                let mut inner = Vec::new();
                let last = parts.len().saturating_sub(1);
                for (at, part) in parts
                    .iter()
                    .enumerate()
                    .filter(|(_, part)| !part.is_empty())
                {
                    let tag = match at {
                        0 => 0x80,
                        at if at == last => 0x82,
                        _ => 0x81,
                    };
                    put(&mut inner, tag, part);
                }
                put(&mut content, SEQUENCE, &inner);
                0xa4
            }
            Self::Rule(rule, attribute, value, dn) => {
                if !rule.is_empty() {
                    put(&mut content, 0x81, rule.as_bytes());
                }
                if !attribute.is_empty() {
                    put(&mut content, 0x82, attribute.as_bytes());
                }
                put(&mut content, 0x83, value);
                if *dn == DnToo::Yes {
                    put(&mut content, 0x84, &[0xff]);
                }
                0xa9
            }
        };
        put(out, tag, &content);
    }
}

/// Parses one filter in its parentheses, and returns what follows it.
fn parse(text: &str, depth: usize) -> Result<(Filter, &str), NotFilter> {
    if DEPTH_MAX <= depth {
        return Err(NotFilter);
    }
    let inner = text.strip_prefix('(').ok_or(NotFilter)?;
    let (filter, rest) = match inner.as_bytes().first() {
        Some(b'&') => {
            let (all, rest) = several(&inner[1..], depth)?;
            (Filter::And(all), rest)
        }
        Some(b'|') => {
            let (all, rest) = several(&inner[1..], depth)?;
            (Filter::Or(all), rest)
        }
        Some(b'!') => {
            let (it, rest) = parse(inner[1..].trim_start(), depth + 1)?;
            (Filter::Not(Box::new(it)), rest)
        }
        _ => {
            let end = inner.find(')').ok_or(NotFilter)?;
            (item(&inner[..end])?, &inner[end..])
        }
    };
    let rest = rest.trim_start().strip_prefix(')').ok_or(NotFilter)?;
    Ok((filter, rest))
}

fn several(mut text: &str, depth: usize) -> Result<(Vec<Filter>, &str), NotFilter> {
    let mut all = Vec::new();
    loop {
        text = text.trim_start();
        if !text.starts_with('(') {
            break;
        }
        let (one, rest) = parse(text, depth + 1)?;
        all.push(one);
        text = rest;
    }
    if all.is_empty() {
        return Err(NotFilter);
    }
    Ok((all, text))
}

fn item(text: &str) -> Result<Filter, NotFilter> {
    if text.contains('(') {
        return Err(NotFilter);
    }
    let (left, value) = text.split_once('=').ok_or(NotFilter)?;
    if let Some(attribute) = left.strip_suffix('>') {
        return Ok(Filter::Compare(
            AT_LEAST,
            name(attribute)?,
            unescaped(value)?,
        ));
    }
    if let Some(attribute) = left.strip_suffix('<') {
        return Ok(Filter::Compare(
            AT_MOST,
            name(attribute)?,
            unescaped(value)?,
        ));
    }
    if let Some(attribute) = left.strip_suffix('~') {
        return Ok(Filter::Compare(LIKE, name(attribute)?, unescaped(value)?));
    }
    if let Some(left) = left.strip_suffix(':') {
        return rule(left, value);
    }
    let attribute = name(left)?;
    if value == "*" {
        return Ok(Filter::Present(attribute));
    }
    if value.contains('*') {
        let parts = value
            .split('*')
            .map(unescaped)
            .collect::<Result<Vec<_>, _>>()?;
        if parts.iter().all(Vec::is_empty) {
            return Err(NotFilter);
        }
        return Ok(Filter::Parts(attribute, parts));
    }
    Ok(Filter::Compare(EQUAL, attribute, unescaped(value)?))
}

/// `attr[:dn][:rule]:=value` or `[:dn]:rule:=value`; `left` is what stands before `:=`.
fn rule(left: &str, value: &str) -> Result<Filter, NotFilter> {
    let mut parts: Vec<&str> = left.split(':').collect();
    let attribute = match parts.remove(0) {
        "" => String::new(),
        attribute => name(attribute)?,
    };
    let dn = match parts.first() {
        Some(part) if part.eq_ignore_ascii_case("dn") => {
            parts.remove(0);
            DnToo::Yes
        }
        _ => DnToo::No,
    };
    let rule = match parts[..] {
        [] => String::new(),
        [rule] => name(rule)?,
        _ => return Err(NotFilter),
    };
    if rule.is_empty() && attribute.is_empty() {
        return Err(NotFilter);
    }
    Ok(Filter::Rule(rule, attribute, unescaped(value)?, dn))
}

/// An attribute's description: a name or an OID, with options.
fn name(text: &str) -> Result<String, NotFilter> {
    let text = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.;_".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(NotFilter);
    }
    Ok(text.to_owned())
}

/// Reads `\` and two hexadecimal digits as the byte that they stand for.
fn unescaped(text: &str) -> Result<Vec<u8>, NotFilter> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| {
            let digit = char::from(byte?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let (high, low) = high.zip(low).ok_or(NotFilter)?;
        out.push(high << 4 | low);
    }
    Ok(out)
}
