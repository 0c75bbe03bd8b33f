//! What this host's `sshd` reads that comes from the cluster: whether it is time to ask anew, and
//! whether an answer may take the place of what is there. An unreadable list of what is revoked locks
//! everybody out, so nothing unchecked is ever written.

use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::ssh::{CertificateKind, PublicKey, Signed, check_krl, read_certificate};
use data_encoding::BASE64;
use serde::Deserialize;

use super::schedule::Life;

/// How often it is asked what is new.
pub const ASK_EVERY: Duration = Duration::from_secs(15);
/// Most host keys of a node.
pub const HOST_KEYS_MAX: usize = 8;

/// What the control plane answers to `ssh/node/host`.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// The key that certifies users and hosts.
    pub authority: String,
    /// This node's name, as certificates have it.
    pub name: String,
    /// This node's id, as principals have it.
    pub id: String,
    /// A certificate for each key that was sent.
    pub certificates: Vec<String>,
    /// Which list of what is revoked there is.
    pub krl_version: String,
    /// The list, in base64, unless it is known already.
    #[serde(default)]
    pub krl: Option<String>,
}

/// What may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The authority's line.
    pub authority: String,
    /// Certificates, in the order of the keys.
    pub certificates: Vec<String>,
    /// The list of what is revoked, if it is new.
    pub krl: Option<Vec<u8>>,
}

/// Why an answer is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The authority is no key.
    #[error("the authority's key cannot be read")]
    Authority,
    /// A certificate is not for the key that was sent, or of another authority.
    #[error("a certificate does not fit this host's keys")]
    Certificate,
    /// The list would lock everybody out.
    #[error("the list of what is revoked cannot be read")]
    Krl,
}

/// Returns whether certificates are to be asked for: one is missing, for another key or of another
/// authority, or has passed half of its life.
pub fn is_due(keys: &[PublicKey], held: &[Option<Signed>], authority: &str, now: UnixTime) -> bool {
    keys.len() != held.len()
        || keys.iter().zip(held).any(|(key, held)| match held {
            None => true,
            Some(signed) => {
                let life = Life {
                    begins: UnixTime::from_millis(signed.says.valid_after.saturating_mul(1000)),
                    ends: UnixTime::from_millis(signed.says.valid_before.saturating_mul(1000)),
                };
                signed.subject != *key
                    || signed.authority.to_line() != authority
                    || life.is_renewal_due(now)
            }
        })
}

/// Checks an answer to a request that sent `keys`, or none.
pub fn check(answer: &Answer, keys: &[PublicKey]) -> Result<Checked, Unfit> {
    let authority = PublicKey::parse(&answer.authority).map_err(|_| Unfit::Authority)?;
    if answer.certificates.len() != keys.len() {
        return Err(Unfit::Certificate);
    }
    for (line, key) in answer.certificates.iter().zip(keys) {
        let signed = read_certificate(line).ok_or(Unfit::Certificate)?;
        let fits = signed.says.kind == CertificateKind::Host
            && signed.subject == *key
            && signed.authority == authority
            && !line.contains('\n');
        if !fits {
            return Err(Unfit::Certificate);
        }
    }
    let krl = match &answer.krl {
        None => None,
        Some(text) => {
            let bytes = BASE64.decode(text.as_bytes()).map_err(|_| Unfit::Krl)?;
            check_krl(&bytes).map_err(|_| Unfit::Krl)?;
            Some(bytes)
        }
    };
    Ok(Checked {
        authority: authority.to_line(),
        certificates: answer.certificates.clone(),
        krl,
    })
}

#[cfg(test)]
mod tests;
