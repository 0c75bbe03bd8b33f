//! The little of DER and PEM that keys need: what is read here was written by the cryptographic
//! library, except for signatures and public keys in PEM, which it parses after us.

use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE};

/// Largest PEM that is read, in bytes.
const PEM_BYTES_MAX: usize = 16 << 10;

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Reads one element of a kind; returns its content and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Returns a positive integer without leading zeros.
fn integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = element(bytes, INTEGER)?;
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    Some((&content[zeros..], rest))
}

/// The numbers of an RSA key.
pub(super) struct RsaNumbers<'d> {
    pub n: &'d [u8],
    pub e: &'d [u8],
    pub d: &'d [u8],
    pub p: &'d [u8],
    pub q: &'d [u8],
    pub dp: &'d [u8],
    pub dq: &'d [u8],
    pub qinv: &'d [u8],
}

/// Returns the RSAPrivateKey (RFC 8017, A.1.2) inside of a PrivateKeyInfo (RFC 5208).
pub(super) fn inner_of_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (info, _) = element(pkcs8, SEQUENCE)?;
    let (_version, rest) = integer(info)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (inner, _) = element(rest, OCTETS)?;
    Some(inner)
}

/// Reads the numbers of an RSA key out of its PKCS #8.
pub(super) fn rsa_numbers(pkcs8: &[u8]) -> Option<RsaNumbers<'_>> {
    let (key, _) = element(inner_of_pkcs8(pkcs8)?, SEQUENCE)?;
    let (_version, rest) = integer(key)?;
    let (n, rest) = integer(rest)?;
    let (e, rest) = integer(rest)?;
    let (d, rest) = integer(rest)?;
    let (p, rest) = integer(rest)?;
    let (q, rest) = integer(rest)?;
    let (dp, rest) = integer(rest)?;
    let (dq, rest) = integer(rest)?;
    let (qinv, _) = integer(rest)?;
    Some(RsaNumbers {
        n,
        e,
        d,
        p,
        q,
        dp,
        dq,
        qinv,
    })
}

/// Returns modulus and exponent of an RSA key's SubjectPublicKeyInfo (RFC 8017, A.1.1).
pub(super) fn rsa_public(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, _) = element(spki, SEQUENCE)?;
    let (_algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, _) = element(rest, BITS)?;
    // The first byte says that no bits are unused.
    let (both, _) = element(bits.get(1..)?, SEQUENCE)?;
    let (n, rest) = integer(both)?;
    let (e, _) = integer(rest)?;
    Some((n, e))
}

/// Returns whether bytes are an ECDSA signature: two numbers and nothing more.
pub(super) fn is_ecdsa_signature(bytes: &[u8]) -> bool {
    let read = || {
        let (both, rest) = element(bytes, SEQUENCE)?;
        let (_r, after) = integer(both)?;
        let (_s, end) = integer(after)?;
        (rest.is_empty() && end.is_empty()).then_some(())
    };
    read().is_some()
}

/// Writes PEM with lines of 64 letters, and a line's end after the last.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// Reads a public key's PEM.
pub(super) fn public_of_pem(text: &str) -> Option<Vec<u8>> {
    if PEM_BYTES_MAX < text.len() {
        return None;
    }
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    BASE64_MIME_PERMISSIVE.decode(body.as_bytes()).ok()
}

#[cfg(test)]
mod tests;
