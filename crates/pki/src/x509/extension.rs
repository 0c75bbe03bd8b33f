//! Extensions of certificates and requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::constraint::Constraints;
use super::der::{self, Reader, Writer};
use super::oid::{Oid, known};

/// Names of key usages, as Vault spells them, in the order of their bits (RFC 5280, section 4.2.1.3).
pub const KEY_USAGES: &[&str] = &[
    "DigitalSignature",
    "ContentCommitment",
    "KeyEncipherment",
    "DataEncipherment",
    "KeyAgreement",
    "CertSign",
    "CRLSign",
    "EncipherOnly",
    "DecipherOnly",
];

/// Returns the bit of a key usage; 0 if there is none of this name.
pub fn key_usage_bit(name: &str) -> u16 {
    let name = name.strip_prefix("KeyUsage").unwrap_or(name);
    KEY_USAGES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
        .map_or(0, |at| 1 << at)
}

/// Names of extended key usages, as Vault spells them, and their identifiers.
pub const EXTENDED_USAGES: &[(&str, &str)] = &[
    ("Any", "2.5.29.37.0"),
    ("ServerAuth", "1.3.6.1.5.5.7.3.1"),
    ("ClientAuth", "1.3.6.1.5.5.7.3.2"),
    ("CodeSigning", "1.3.6.1.5.5.7.3.3"),
    ("EmailProtection", "1.3.6.1.5.5.7.3.4"),
    ("IPSECEndSystem", "1.3.6.1.5.5.7.3.5"),
    ("IPSECTunnel", "1.3.6.1.5.5.7.3.6"),
    ("IPSECUser", "1.3.6.1.5.5.7.3.7"),
    ("TimeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
    ("MicrosoftServerGatedCrypto", "1.3.6.1.4.1.311.10.3.3"),
    ("NetscapeServerGatedCrypto", "2.16.840.1.113730.4.1"),
    ("MicrosoftCommercialCodeSigning", "1.3.6.1.4.1.311.2.1.22"),
    ("MicrosoftKernelCodeSigning", "1.3.6.1.4.1.311.61.1.1"),
];

/// Returns the identifier of an extended key usage.
pub fn extended_usage(name: &str) -> Option<Oid> {
    let name = name.strip_prefix("ExtKeyUsage").unwrap_or(name);
    let (_, oid) = EXTENDED_USAGES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(oid.parse().expect("these identifiers are constants"))
}

/// One of a subject's alternative names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// A DNS name, perhaps with a wildcard.
    Dns(String),
    /// An address of mail.
    Email(String),
    /// A URI.
    Uri(String),
    /// An address.
    Ip(IpAddr),
    /// A name of another kind, as text.
    Other(Oid, String),
}

impl San {
    pub(super) fn write(&self, out: &mut Writer) {
        match self {
            Self::Email(text) => out.value(der::context(1), text.as_bytes()),
            Self::Dns(text) => out.value(der::context(2), text.as_bytes()),
            Self::Uri(text) => out.value(der::context(6), text.as_bytes()),
            Self::Ip(IpAddr::V4(address)) => out.value(der::context(7), &address.octets()),
            Self::Ip(IpAddr::V6(address)) => out.value(der::context(7), &address.octets()),
            Self::Other(oid, text) => out.nest(der::constructed(0), |out| {
                out.value(der::OID, oid.content());
                out.nest(der::constructed(0), |out| {
                    out.value(der::UTF8_STRING, text.as_bytes());
                });
            }),
        }
    }

    /// Reads the content of a `subjectAltName`. A name of a kind that is not known is refused, not left
    /// out: whoever asked for it would not notice.
    pub(super) fn read_all(content: &[u8]) -> Result<Vec<Self>, der::NotDer> {
        let mut outer = Reader::new(content);
        let mut names = outer.nested(der::SEQUENCE)?;
        outer.end()?;
        let mut found = Vec::new();
        while !names.is_empty() {
            let (tag, content, _) = names.any()?;
            found.push(Self::read(tag, content)?);
        }
        Ok(found)
    }

    fn read(tag: u8, content: &[u8]) -> Result<Self, der::NotDer> {
        const EMAIL: u8 = der::context(1);
        const DNS: u8 = der::context(2);
        const URI: u8 = der::context(6);
        const IP: u8 = der::context(7);
        const OTHER: u8 = der::constructed(0);
        let text = || {
            let text = std::str::from_utf8(content).map_err(|_| der::NotDer)?;
            let is_text = text.bytes().all(|byte| byte.is_ascii_graphic());
            if is_text {
                Ok(text.to_owned())
            } else {
                Err(der::NotDer)
            }
        };
        Ok(match tag {
            EMAIL => Self::Email(text()?),
            DNS => Self::Dns(text()?),
            URI => Self::Uri(text()?),
            IP => {
                if let Ok(octets) = <[u8; 4]>::try_from(content) {
                    Self::Ip(Ipv4Addr::from(octets).into())
                } else {
                    let octets = <[u8; 16]>::try_from(content).map_err(|_| der::NotDer)?;
                    Self::Ip(Ipv6Addr::from(octets).into())
                }
            }
            OTHER => {
                let mut parts = Reader::new(content);
                let oid = Oid::from_content(parts.value(der::OID)?);
                let mut value = parts.nested(der::constructed(0))?;
                parts.end()?;
                let text = value.value(der::UTF8_STRING)?;
                value.end()?;
                let text = String::from_utf8(text.to_vec()).map_err(|_| der::NotDer)?;
                Self::Other(oid, text)
            }
            _ => return Err(der::NotDer),
        })
    }
}

/// What a certificate says besides name, key and time.
#[derive(Debug, Clone, Default)]
pub struct Extensions<'a> {
    /// Whether it is an authority's, and how many authorities may follow below; `None`: nothing is said.
    pub basic_constraints: Option<(bool, Option<u8>)>,
    /// Bits of [`KEY_USAGES`].
    pub key_usage: u16,
    /// What the key is for.
    pub extended_usages: &'a [Oid],
    /// Alternative names.
    pub names: &'a [San],
    /// Whether the names count alone, because the subject is empty.
    pub names_are_critical: bool,
    /// The key's identifier.
    pub subject_key_id: &'a [u8],
    /// The issuer's key identifier; empty: not said.
    pub authority_key_id: &'a [u8],
    /// Where the issuer's certificate is.
    pub issuing_certificates: &'a [String],
    /// Where OCSP is answered.
    pub ocsp_servers: &'a [String],
    /// Where the revocation list is.
    pub crl_points: &'a [String],
    /// Where the delta list is.
    pub delta_crl_points: &'a [String],
    /// Under which policies it is issued.
    pub policies: &'a [Oid],
    /// Names below an authority.
    pub constraints: Option<&'a Constraints>,
    /// Further ones: identifier, whether critical, content.
    pub others: &'a [(Oid, bool, Vec<u8>)],
}

/// Writes one extension.
pub(super) fn write_one(
    out: &mut Writer,
    oid: &[u8],
    critical: bool,
    write: impl FnOnce(&mut Writer),
) {
    out.nest(der::SEQUENCE, |out| {
        out.value(der::OID, oid);
        if critical {
            out.boolean(true);
        }
        out.nest(der::OCTET_STRING, write);
    });
}

impl Extensions<'_> {
    /// Writes all as a sequence.
    pub(super) fn write(&self, out: &mut Writer) {
        out.nest(der::SEQUENCE, |out| self.write_each(out));
    }

    /// Returns whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        let mut out = Writer::default();
        self.write_each(&mut out);
        out.into_bytes().is_empty()
    }

    fn write_each(&self, out: &mut Writer) {
        if self.key_usage != 0 {
            write_one(out, known::KEY_USAGE, true, |out| {
                write_usage(out, self.key_usage);
            });
        }
        if !self.extended_usages.is_empty() {
            write_one(out, known::EXT_KEY_USAGE, false, |out| {
                out.nest(der::SEQUENCE, |out| {
                    for usage in self.extended_usages {
                        out.value(der::OID, usage.content());
                    }
                });
            });
        }
        if let Some((is_authority, path)) = self.basic_constraints {
            write_one(out, known::BASIC_CONSTRAINTS, true, |out| {
                out.nest(der::SEQUENCE, |out| {
                    if is_authority {
                        out.boolean(true);
                        if let Some(path) = path {
                            out.unsigned(&[path]);
                        }
                    }
                });
            });
        }
        if !self.subject_key_id.is_empty() {
            write_one(out, known::SUBJECT_KEY_ID, false, |out| {
                out.value(der::OCTET_STRING, self.subject_key_id);
            });
        }
        if !self.authority_key_id.is_empty() {
            write_authority_key_id(out, self.authority_key_id);
        }
        self.write_places(out);
        if !self.names.is_empty() {
            write_one(
                out,
                known::SUBJECT_ALT_NAME,
                self.names_are_critical,
                |out| {
                    out.nest(der::SEQUENCE, |out| {
                        self.names.iter().for_each(|name| name.write(out));
                    });
                },
            );
        }
        if !self.policies.is_empty() {
            write_one(out, known::POLICIES, false, |out| {
                out.nest(der::SEQUENCE, |out| {
                    for policy in self.policies {
                        out.nest(der::SEQUENCE, |out| out.value(der::OID, policy.content()));
                    }
                });
            });
        }
        if let Some(constraints) = self.constraints {
            write_one(out, known::NAME_CONSTRAINTS, true, |out| {
                constraints.write(out);
            });
        }
        for (oid, critical, content) in self.others {
            write_one(out, oid.content(), *critical, |out| out.raw(content));
        }
    }

    fn write_places(&self, out: &mut Writer) {
        if !self.issuing_certificates.is_empty() || !self.ocsp_servers.is_empty() {
            write_one(out, known::AUTHORITY_INFO, false, |out| {
                out.nest(der::SEQUENCE, |out| {
                    for (method, urls) in [
                        (known::AD_OCSP, self.ocsp_servers),
                        (known::AD_CA_ISSUERS, self.issuing_certificates),
                    ] {
                        for url in urls {
                            out.nest(der::SEQUENCE, |out| {
                                out.value(der::OID, method);
                                out.value(der::context(6), url.as_bytes());
                            });
                        }
                    }
                });
            });
        }
        if !self.crl_points.is_empty() {
            write_points(out, known::CRL_POINTS, self.crl_points);
        }
        if !self.delta_crl_points.is_empty() {
            write_points(out, known::FRESHEST_CRL, self.delta_crl_points);
        }
    }
}

/// Writes where lists are: a distribution point each (RFC 5280, section 4.2.1.13).
pub(super) fn write_points(out: &mut Writer, oid: &[u8], urls: &[String]) {
    write_one(out, oid, false, |out| {
        out.nest(der::SEQUENCE, |out| {
            for url in urls {
                out.nest(der::SEQUENCE, |out| {
                    out.nest(der::constructed(0), |out| {
                        out.nest(der::constructed(0), |out| {
                            out.value(der::context(6), url.as_bytes());
                        });
                    });
                });
            }
        });
    });
}

pub(super) fn write_authority_key_id(out: &mut Writer, id: &[u8]) {
    write_one(out, known::AUTHORITY_KEY_ID, false, |out| {
        out.nest(der::SEQUENCE, |out| out.value(der::context(0), id));
    });
}

/// A named bit list: bit 0 is the highest of the first byte, and no zero ends it (X.690, 11.2.2).
fn write_usage(out: &mut Writer, usage: u16) {
    let bits = usage.reverse_bits();
    let [first, second] = bits.to_be_bytes();
    let used = if second == 0 {
        &[first][..]
    } else {
        &[first, second][..]
    };
    let unused = used.last().map_or(0, |last| last.trailing_zeros());
    let unused = u8::try_from(unused.min(7)).expect("at most 7");
    out.value(der::BIT_STRING, &[&[unused], used].concat());
}
