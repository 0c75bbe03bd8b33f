//! Revocation lists (RFC 5280, section 5), whole and delta.

use bastide_api::UnixTime;

use super::certificate::seal;
use super::der::{self, Writer};
use super::extension::{write_authority_key_id, write_one, write_points};
use super::key::{KeyError, PrivateKey, SignatureScheme};
use super::oid::known;

/// A certificate that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: UnixTime,
}

/// What a list is to say.
pub struct CrlTemplate<'a> {
    /// The issuer's name in DER.
    pub issuer: &'a [u8],
    /// The issuer's key identifier.
    pub key_id: &'a [u8],
    /// The list's number, higher than that of any list before it.
    pub number: u64,
    /// The number of the whole list that this one is to be read with, if it is a delta.
    pub base: Option<u64>,
    /// Where deltas to this list are.
    pub delta_points: &'a [String],
    /// When it was made.
    pub this_update: UnixTime,
    /// Until when it is good.
    pub next_update: UnixTime,
    /// What it lists.
    pub revoked: &'a [RevokedEntry],
}

/// Makes a revocation list; returns it in DER.
pub fn sign_crl(
    template: &CrlTemplate<'_>,
    key: &PrivateKey,
    scheme: SignatureScheme,
) -> Result<Vec<u8>, KeyError> {
    let mut entries = Writer::with_room(40 * template.revoked.len());
    for entry in template.revoked {
        entries.nest(der::SEQUENCE, |out| {
            out.unsigned(&entry.serial);
            out.time(entry.at);
        });
    }
    let entries = entries.into_bytes();
    let mut list = Writer::with_room(entries.len() + 512);
    // The outermost lengths are written first: a nest would move the whole list for each.
    let mut body = Writer::with_room(entries.len() + 512);
    body.value(der::INTEGER, &[1]);
    scheme.write(&mut body);
    body.raw(template.issuer);
    body.time(template.this_update);
    body.time(template.next_update);
    if !template.revoked.is_empty() {
        body.value(der::SEQUENCE, &entries);
    }
    body.nest(der::constructed(0), |out| {
        out.nest(der::SEQUENCE, |out| {
            write_authority_key_id(out, template.key_id);
            write_one(out, known::CRL_NUMBER, false, |out| {
                out.unsigned(&template.number.to_be_bytes());
            });
            if let Some(base) = template.base {
                write_one(out, known::DELTA_CRL, true, |out| {
                    out.unsigned(&base.to_be_bytes());
                });
            } else if !template.delta_points.is_empty() {
                write_points(out, known::FRESHEST_CRL, template.delta_points);
            }
        });
    });
    list.value(der::SEQUENCE, &body.into_bytes());
    seal(&list.into_bytes(), key, scheme)
}
