//! Object identifiers.

use std::fmt;
use std::str::FromStr;

/// Longest object identifier, in bytes of its content.
const OID_BYTES_MAX: usize = 64;

/// An object identifier, as the content of its DER.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u8>);

/// A text is not an object identifier such as `1.3.6.1.4.1.311.20.2.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an object identifier")]
pub struct NotOid;

impl Oid {
    /// Takes the content of its DER.
    pub fn from_content(content: &[u8]) -> Self {
        Self(content.to_vec())
    }

    /// Returns the content of its DER.
    pub fn content(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Oid {
    type Err = NotOid;

    fn from_str(text: &str) -> Result<Self, NotOid> {
        let arcs: Vec<u64> = text
            .split('.')
            .map(|arc| match arc.as_bytes() {
                [b'0'] => Ok(0),
                [b'1'..=b'9', ..] if arc.bytes().all(|b| b.is_ascii_digit()) => {
                    arc.parse().map_err(|_| NotOid)
                }
                _ => Err(NotOid),
            })
            .collect::<Result<_, _>>()?;
        let [first, second, rest @ ..] = arcs.as_slice() else {
            return Err(NotOid);
        };
        if 2 < *first || (*first < 2 && 39 < *second) {
            return Err(NotOid);
        }
        let mut content = Vec::new();
        let head = (first * 40).checked_add(*second).ok_or(NotOid)?;
        push_arc(&mut content, head);
        for arc in rest {
            push_arc(&mut content, *arc);
        }
        if OID_BYTES_MAX < content.len() {
            return Err(NotOid);
        }
        Ok(Self(content))
    }
}

fn push_arc(out: &mut Vec<u8>, arc: u64) {
    let mut groups = 1;
    while arc >> (7 * groups) != 0 && groups < 10 {
        groups += 1;
    }
    for group in (0..groups).rev() {
        let digit = u8::try_from(arc >> (7 * group) & 0x7f).expect("seven bits are a byte");
        out.push(digit | if group == 0 { 0 } else { 0x80 });
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arc: u64 = 0;
        let mut is_first = true;
        for byte in &self.0 {
            arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
            if 0x80 <= *byte {
                continue;
            }
            if is_first {
                let first = (arc / 40).min(2);
                write!(f, "{first}.{}", arc - first * 40)?;
                is_first = false;
            } else {
                write!(f, ".{arc}")?;
            }
            arc = 0;
        }
        Ok(())
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Contents of identifiers that stand in what is written and read here.
pub mod known {
    /// `id-ecPublicKey` (RFC 5480).
    pub const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// P-256.
    pub const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// P-384.
    pub const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
    /// P-521.
    pub const P521: &[u8] = &[0x2b, 0x81, 4, 0, 0x23];
    /// RSA keys (RFC 8017).
    pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// RSA with MGF1.
    pub const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
    /// RSASSA-PSS.
    pub const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    /// RSA PKCS #1 v1.5 with SHA-256.
    pub const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    /// The same with SHA-384.
    pub const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
    /// The same with SHA-512.
    pub const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
    /// ECDSA with SHA-256 (RFC 5758).
    pub const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    /// ECDSA with SHA-384.
    pub const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    /// ECDSA with SHA-512.
    pub const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    /// Ed25519 (RFC 8410).
    pub const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    /// SHA-1.
    pub const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
    /// SHA-256.
    pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    /// SHA-384.
    pub const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    /// SHA-512.
    pub const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
    /// The attribute of a request that holds extensions (PKCS #9).
    pub const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    /// `emailAddress` of a subject (PKCS #9).
    pub const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
    /// `commonName`.
    pub const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    /// `id-on-SmtpUTF8Mailbox` (RFC 9598).
    pub const SMTP_UTF8_MAILBOX: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 9];
    /// `subjectKeyIdentifier`.
    pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    /// `keyUsage`.
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    /// `subjectAltName`.
    pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    /// `basicConstraints`.
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    /// `cRLNumber`.
    pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    /// `deltaCRLIndicator`.
    pub const DELTA_CRL: &[u8] = &[0x55, 0x1d, 27];
    /// `nameConstraints`.
    pub const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
    /// `cRLDistributionPoints`.
    pub const CRL_POINTS: &[u8] = &[0x55, 0x1d, 31];
    /// `certificatePolicies`.
    pub const POLICIES: &[u8] = &[0x55, 0x1d, 32];
    /// `authorityKeyIdentifier`.
    pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    /// `extKeyUsage`.
    pub const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    /// `freshestCRL`.
    pub const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 46];
    /// `authorityInfoAccess`.
    pub const AUTHORITY_INFO: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
    /// `id-ad-ocsp`.
    pub const AD_OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
    /// `id-ad-caIssuers`.
    pub const AD_CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    /// `id-pkix-ocsp-basic`.
    pub const OCSP_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    /// `id-pkix-ocsp-nonce`.
    pub const OCSP_NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
}
