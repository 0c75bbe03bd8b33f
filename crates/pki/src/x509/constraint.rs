//! Name constraints: what names an authority may certify (RFC 5280, section 4.2.1.10).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::der::{self, NotDer, Reader, Writer};
use super::oid::Oid;

/// Most names that a certificate permits or excludes.
const SUBTREES_MAX: usize = 4096;

/// Names below which an authority may certify, or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Names of which one must hold, of each kind of name that is among them.
    pub permitted: Vec<Subtree>,
    /// Names of which none may.
    pub excluded: Vec<Subtree>,
}

/// Names below one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subtree {
    /// A DNS name and what is below it.
    Dns(String),
    /// A mailbox, a host, or with a dot a domain.
    Email(String),
    /// A host or domain of URIs.
    Uri(String),
    /// A network: address and length of its prefix.
    Ip(IpAddr, u8),
    /// A subject's name in DER, and what is below it.
    Directory(Vec<u8>),
    /// A name of another kind: which kind, and what of it, in DER.
    Other(Oid, Vec<u8>),
}

impl Constraints {
    pub(super) fn write(&self, out: &mut Writer) {
        out.nest(der::SEQUENCE, |out| {
            for (number, trees) in [(0, &self.permitted), (1, &self.excluded)] {
                if !trees.is_empty() {
                    out.nest(der::constructed(number), |out| {
                        for tree in trees {
                            out.nest(der::SEQUENCE, |out| tree.write(out));
                        }
                    });
                }
            }
        });
    }

    /// Reads the content of a `nameConstraints`.
    pub(super) fn read(content: &[u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(content);
        let mut parts = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let mut read = |number| match parts.optional(der::constructed(number))? {
            Some(content) => read_trees(content),
            None => Ok(Vec::new()),
        };
        let this = Self {
            permitted: read(0)?,
            excluded: read(1)?,
        };
        parts.end()?;
        Ok(this)
    }
}

fn read_trees(content: &[u8]) -> Result<Vec<Subtree>, NotDer> {
    let mut trees = Reader::new(content);
    let mut found = Vec::new();
    while !trees.is_empty() {
        if SUBTREES_MAX <= found.len() {
            return Err(NotDer);
        }
        let mut tree = trees.nested(der::SEQUENCE)?;
        let (tag, base, _) = tree.any()?;
        // "Within this profile, the minimum and maximum fields are not used with any name forms, thus,
        // the minimum MUST be zero, and maximum MUST be absent." Some write the zero nevertheless.
        if !matches!(tree.optional(der::context(0))?, None | Some([0])) {
            return Err(NotDer);
        }
        tree.end()?;
        found.extend(Subtree::read(tag, base)?);
    }
    Ok(found)
}

impl Subtree {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Email(text) => out.value(der::context(1), text.as_bytes()),
            Self::Dns(text) => out.value(der::context(2), text.as_bytes()),
            Self::Uri(text) => out.value(der::context(6), text.as_bytes()),
            Self::Ip(IpAddr::V4(address), length) => {
                let mask = mask_v4(*length);
                let network = u32::from(*address) & mask;
                let both = [network.to_be_bytes(), mask.to_be_bytes()].concat();
                out.value(der::context(7), &both);
            }
            Self::Ip(IpAddr::V6(address), length) => {
                let mask = mask_v6(*length);
                let network = u128::from(*address) & mask;
                let both = [network.to_be_bytes(), mask.to_be_bytes()].concat();
                out.value(der::context(7), &both);
            }
            Self::Directory(name) => out.nest(der::constructed(4), |out| out.raw(name)),
            Self::Other(kind, value) => out.nest(der::constructed(0), |out| {
                out.value(der::OID, kind.content());
                out.raw(value);
            }),
        }
    }

    /// Reads one; `None` if it is of a kind that no certificate which is read here can hold.
    fn read(tag: u8, base: &[u8]) -> Result<Option<Self>, NotDer> {
        const OTHER: u8 = der::constructed(0);
        const EMAIL: u8 = der::context(1);
        const DNS: u8 = der::context(2);
        const X400: u8 = der::constructed(3);
        const DIRECTORY: u8 = der::constructed(4);
        const EDI: u8 = der::constructed(5);
        const URI: u8 = der::context(6);
        const IP: u8 = der::context(7);
        const REGISTERED: u8 = der::context(8);
        let text = || {
            let is_text = base.iter().all(u8::is_ascii_graphic);
            let text = std::str::from_utf8(base).map_err(|_| NotDer)?;
            is_text.then(|| text.to_owned()).ok_or(NotDer)
        };
        Ok(Some(match tag {
            EMAIL => Self::Email(text()?),
            DNS => Self::Dns(text()?),
            URI => Self::Uri(text()?),
            IP => network(base)?,
            DIRECTORY => Self::Directory(base.to_vec()),
            OTHER => {
                let mut parts = Reader::new(base);
                let kind = Oid::from_content(parts.value(der::OID)?);
                let (_, _, value) = parts.any()?;
                parts.end()?;
                Self::Other(kind, value.to_vec())
            }
            X400 | EDI | REGISTERED => return Ok(None),
            _ => return Err(NotDer),
        }))
    }
}

/// Reads a network: address and mask, "in the style of RFC 4632 (CIDR)".
fn network(base: &[u8]) -> Result<Subtree, NotDer> {
    let (address, mask) = base.split_at(base.len() / 2);
    if let (Ok(address), Ok(mask)) = (<[u8; 4]>::try_from(address), <[u8; 4]>::try_from(mask)) {
        let mask = u32::from_be_bytes(mask);
        let length = u8::try_from(mask.leading_ones()).map_err(|_| NotDer)?;
        let address = Ipv4Addr::from(u32::from_be_bytes(address) & mask);
        let is_whole = mask == mask_v4(length);
        return is_whole
            .then_some(Subtree::Ip(address.into(), length))
            .ok_or(NotDer);
    }
    let address = <[u8; 16]>::try_from(address).map_err(|_| NotDer)?;
    let mask = <[u8; 16]>::try_from(mask).map_err(|_| NotDer)?;
    let mask = u128::from_be_bytes(mask);
    let length = u8::try_from(mask.leading_ones()).map_err(|_| NotDer)?;
    let address = Ipv6Addr::from(u128::from_be_bytes(address) & mask);
    let is_whole = mask == mask_v6(length);
    is_whole
        .then_some(Subtree::Ip(address.into(), length))
        .ok_or(NotDer)
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(length.into()))
        .unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128_u32.saturating_sub(length.into()))
        .unwrap_or(0)
}
