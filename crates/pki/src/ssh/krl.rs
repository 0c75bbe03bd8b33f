//! Revocation lists: OpenSSH's PROTOCOL.krl. `sshd` reads one at each login (`RevokedKeys`); if it
//! cannot be read, nobody gets in by key, so one is checked before it takes an older one's place.

use std::collections::BTreeSet;

use super::wire::{Malformed, Reader, Writer};

/// Longest list that is read or written, in bytes.
pub const KRL_BYTES_MAX: usize = 4 << 20;
const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const SECTION_SHA1: u8 = 3;
const SECTION_SIGNATURE: u8 = 4;
const SECTION_SHA256: u8 = 5;
const SECTION_EXTENSION: u8 = 255;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;
const CERTIFICATE_EXTENSION: u8 = 0x39;

/// What is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// How often the list was changed.
    pub version: u64,
    /// When it was made, in seconds of Unix time.
    pub date: u64,
    /// Certificates by number, of whichever authority; 0 is no number.
    pub serials: BTreeSet<u64>,
    /// Certificates by key id, of whichever authority.
    pub key_ids: BTreeSet<String>,
    /// Keys, in certificates or by themselves, by their SHA-256.
    pub keys: BTreeSet<[u8; 32]>,
}

/// What a list says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KrlFacts {
    /// How often it was changed.
    pub version: u64,
    /// When it was made, in seconds of Unix time.
    pub date: u64,
}

/// The bytes are no list that `sshd` would read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the revocation list is damaged")]
pub struct KrlError;

impl From<Malformed> for KrlError {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl Revoked {
    /// Returns the list in the form that `sshd` reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer
            .u64(MAGIC)
            .u32(FORMAT)
            .u64(self.version)
            .u64(self.date);
        writer.u64(0).string("").string("bastide");
        if !self.serials.is_empty() || !self.key_ids.is_empty() {
            writer.u8(SECTION_CERTIFICATES).nested(|section| {
                // An empty key stands for whichever authority.
                section.string("").string("");
                if !self.serials.is_empty() {
                    section.u8(SERIAL_LIST).nested(|list| {
                        for serial in self.serials.iter().filter(|serial| **serial != 0) {
                            list.u64(*serial);
                        }
                    });
                }
                if !self.key_ids.is_empty() {
                    section.u8(KEY_ID).nested(|list| {
                        for id in &self.key_ids {
                            list.string(id);
                        }
                    });
                }
            });
        }
        if !self.keys.is_empty() {
            writer.u8(SECTION_SHA256).nested(|section| {
                for key in &self.keys {
                    section.string(key);
                }
            });
        }
        writer.0
    }
}

/// Checks that bytes are a list that `sshd` reads to its end.
pub fn check_krl(bytes: &[u8]) -> Result<KrlFacts, KrlError> {
    if KRL_BYTES_MAX < bytes.len() {
        return Err(KrlError);
    }
    let mut reader = Reader::new(bytes);
    if reader.u64()? != MAGIC || reader.u32()? != FORMAT {
        return Err(KrlError);
    }
    let facts = KrlFacts {
        version: reader.u64()?,
        date: reader.u64()?,
    };
    reader.u64()?;
    reader.string()?;
    reader.text()?;
    while !reader.is_empty() {
        let kind = reader.u8()?;
        let mut section = Reader::new(reader.string()?);
        match kind {
            SECTION_CERTIFICATES => certificates(&mut section)?,
            SECTION_EXPLICIT_KEY => hashes(&mut section, None)?,
            SECTION_SHA1 => hashes(&mut section, Some(20))?,
            SECTION_SHA256 => hashes(&mut section, Some(32))?,
            // Signed lists need keys that no `sshd` of ours is given.
            SECTION_SIGNATURE | SECTION_EXTENSION => return Err(KrlError),
            _ => return Err(KrlError),
        }
    }
    Ok(facts)
}

fn hashes(section: &mut Reader<'_>, length: Option<usize>) -> Result<(), KrlError> {
    while !section.is_empty() {
        let item = section.string()?;
        if item.is_empty() || length.is_some_and(|length| item.len() != length) {
            return Err(KrlError);
        }
    }
    Ok(())
}

fn certificates(section: &mut Reader<'_>) -> Result<(), KrlError> {
    section.string()?;
    section.string()?;
    while !section.is_empty() {
        let kind = section.u8()?;
        let mut list = Reader::new(section.string()?);
        match kind {
            SERIAL_LIST => {
                while !list.is_empty() {
                    if list.u64()? == 0 {
                        return Err(KrlError);
                    }
                }
            }
            SERIAL_RANGE => {
                let (low, high) = (list.u64()?, list.u64()?);
                if low == 0 || high < low || !list.is_empty() {
                    return Err(KrlError);
                }
            }
            SERIAL_BITMAP => {
                list.u64()?;
                list.positive()?;
            }
            KEY_ID => {
                while !list.is_empty() {
                    list.text()?;
                }
            }
            CERTIFICATE_EXTENSION => return Err(KrlError),
            _ => return Err(KrlError),
        }
    }
    Ok(())
}
