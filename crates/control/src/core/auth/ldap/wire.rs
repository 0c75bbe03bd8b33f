//! LDAP's messages (RFC 4511): those that a login sends, and what comes back.

use super::ber::{
    BOOLEAN, ENUMERATED, INTEGER, NotBer, OCTETS, Reader, SEQUENCE, SET, put, put_number,
};
use super::filter::Filter;

/// Largest message that is read, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Most values that are read of one entry.
const VALUES_MAX: usize = 10_000;

/// The result *it went well*.
pub const SUCCESS: u32 = 0;
/// The result *there are more than were asked for*.
pub const SIZE_LIMIT: u32 = 4;
/// The result *there is no such entry*.
pub const NO_SUCH_OBJECT: u32 = 32;
/// The result *name or password is wrong*.
pub const INVALID_CREDENTIALS: u32 = 49;

/// How far below its base a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At the base alone.
    Base,
    /// At the base and everything below.
    Subtree,
}

/// A request.
pub enum Ask<'a> {
    /// To be who has this name and password.
    Bind { dn: &'a str, password: &'a str },
    /// To speak TLS from now on.
    StartTls,
    /// Entries.
    Search {
        base: &'a str,
        scope: Scope,
        filter: &'a Filter,
        attributes: &'a [&'a str],
        size_limit: u32,
        secs_max: u32,
    },
    /// Nothing any more.
    Unbind,
}

/// StartTLS (RFC 4511, section 4.14.1).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

impl Ask<'_> {
    /// Writes it as the message of this number.
    pub fn message(&self, number: u32) -> Vec<u8> {
        let mut op = Vec::new();
        let tag = match self {
            Self::Bind { dn, password } => {
                put_number(&mut op, INTEGER, 3);
                put(&mut op, OCTETS, dn.as_bytes());
                put(&mut op, 0x80, password.as_bytes());
                0x60
            }
            Self::StartTls => {
                put(&mut op, 0x80, START_TLS);
                0x77
            }
            Self::Unbind => 0x42,
            Self::Search {
                base,
                scope,
                filter,
                attributes,
                size_limit,
                secs_max,
            } => {
                put(&mut op, OCTETS, base.as_bytes());
                let scope = match scope {
                    Scope::Base => 0,
                    Scope::Subtree => 2,
                };
                put_number(&mut op, ENUMERATED, scope);
                // Aliases are not followed: they could lead out of the base.
                put_number(&mut op, ENUMERATED, 0);
                put_number(&mut op, INTEGER, *size_limit);
                put_number(&mut op, INTEGER, *secs_max);
                put(&mut op, BOOLEAN, &[0]);
                filter.write(&mut op);
                let mut wanted = Vec::new();
                for attribute in *attributes {
                    put(&mut wanted, OCTETS, attribute.as_bytes());
                }
                put(&mut op, SEQUENCE, &wanted);
                0x63
            }
        };
        let mut body = Vec::new();
        put_number(&mut body, INTEGER, number);
        put(&mut body, tag, &op);
        let mut out = Vec::new();
        put(&mut out, SEQUENCE, &body);
        out
    }
}

/// An entry that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub dn: String,
    /// Attributes and values, of those that are text.
    pub values: Vec<(String, String)>,
}

impl Entry {
    /// Returns the values of an attribute; its name is not told apart by case.
    pub fn all<'e>(&'e self, attribute: &'e str) -> impl Iterator<Item = &'e str> {
        self.values
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(attribute))
            .map(|(_, value)| value.as_str())
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// How a request went: the result's number.
    Done(u32),
    /// An entry of a search, which goes on.
    Entry(Entry),
    /// Something that is passed over: where else to look.
    Elsewhere,
}

/// Reads a message: its number, and what it tells.
pub fn read(message: &[u8]) -> Result<(u32, Told), NotBer> {
    let mut outer = Reader::new(message);
    let mut parts = Reader::new(outer.value(SEQUENCE)?);
    if !outer.is_empty() {
        return Err(NotBer);
    }
    let number = parts.number(INTEGER)?;
    let (tag, op) = parts.any()?;
    let told = match tag {
        // The results of bind, search and extended requests.
        0x61 | 0x65 | 0x78 => Told::Done(Reader::new(op).number(ENUMERATED)?),
        0x64 => Told::Entry(entry(op)?),
        0x73 => Told::Elsewhere,
        _ => return Err(NotBer),
    };
    Ok((number, told))
}

fn entry(op: &[u8]) -> Result<Entry, NotBer> {
    let mut parts = Reader::new(op);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
    let mut entry = Entry {
        dn: text(parts.value(OCTETS)?).ok_or(NotBer)?,
        values: Vec::new(),
    };
    let mut attributes = Reader::new(parts.value(SEQUENCE)?);
    while !attributes.is_empty() {
        let mut attribute = Reader::new(attributes.value(SEQUENCE)?);
        let name = text(attribute.value(OCTETS)?).ok_or(NotBer)?;
        let mut values = Reader::new(attribute.value(SET)?);
        while !values.is_empty() {
            // A value that is no text, such as a picture, is nothing that is asked for.
            if let Some(value) = text(values.value(OCTETS)?) {
                if VALUES_MAX <= entry.values.len() {
                    return Err(NotBer);
                }
                entry.values.push((name.clone(), value));
            }
        }
    }
    Ok(entry)
}
