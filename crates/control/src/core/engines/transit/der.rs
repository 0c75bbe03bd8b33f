//! The little of DER and PEM that keys need: what is read here was written by the cryptographic
//! library, except for signatures and public keys in PEM, which it parses after us.

use bastide_pki::x509;
use bastide_pki::x509::der::{BIT_STRING, INTEGER, OCTET_STRING, Reader, SEQUENCE};
use data_encoding::BASE64_MIME_PERMISSIVE;

/// Largest PEM that is read, in bytes.
const PEM_BYTES_MAX: usize = 16 << 10;

/// Reads a positive integer; returns it without leading zeros.
fn integer<'d>(from: &mut Reader<'d>) -> Option<&'d [u8]> {
    let content = from.value(INTEGER).ok()?;
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    Some(&content[zeros..])
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
    let mut info = Reader::new(pkcs8).nested(SEQUENCE).ok()?;
    let _version = integer(&mut info)?;
    let _algorithm = info.value(SEQUENCE).ok()?;
    info.value(OCTET_STRING).ok()
}

/// Reads the numbers of an RSA key out of its PKCS #8.
pub(super) fn rsa_numbers(pkcs8: &[u8]) -> Option<RsaNumbers<'_>> {
    let mut key = Reader::new(inner_of_pkcs8(pkcs8)?).nested(SEQUENCE).ok()?;
    let _version = integer(&mut key)?;
    Some(RsaNumbers {
        n: integer(&mut key)?,
        e: integer(&mut key)?,
        d: integer(&mut key)?,
        p: integer(&mut key)?,
        q: integer(&mut key)?,
        dp: integer(&mut key)?,
        dq: integer(&mut key)?,
        qinv: integer(&mut key)?,
    })
}

/// Returns modulus and exponent of an RSA key's SubjectPublicKeyInfo (RFC 8017, A.1.1).
pub(super) fn rsa_public(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Reader::new(spki).nested(SEQUENCE).ok()?;
    let _algorithm = info.value(SEQUENCE).ok()?;
    let bits = info.value(BIT_STRING).ok()?;
    // The first byte says that no bits are unused.
    let mut both = Reader::new(bits.get(1..)?).nested(SEQUENCE).ok()?;
    Some((integer(&mut both)?, integer(&mut both)?))
}

/// Returns whether bytes are an ECDSA signature: two numbers and nothing more.
pub(super) fn is_ecdsa_signature(bytes: &[u8]) -> bool {
    let read = || {
        let mut whole = Reader::new(bytes);
        let mut both = whole.nested(SEQUENCE).ok()?;
        let (_r, _s) = (integer(&mut both)?, integer(&mut both)?);
        both.end().and(whole.end()).ok()
    };
    read().is_some()
}

/// Writes PEM, with a line's end after the last line.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut pem = x509::pem(label, der);
    pem.push('\n');
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
