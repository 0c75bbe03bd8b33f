//! Who is at the other end: certificates of peers, read strictly.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bastide_api::{CaPin, ClusterId, NodeId, UnixTime};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::aws_lc_rs::ECDSA_P256_SHA256;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::PEM_BYTES_MAX;
use crate::authority::BACKDATED_BY;
use crate::proof::fingerprint;

/// Most authorities that are trusted at a time: one, and one more while it is being replaced, twice.
const ROOTS_MAX: usize = 4;

/// Extended key usages, as DER contents (RFC 5280, section 4.2.1.12). A certificate must name them.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What a certificate's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A member of the cluster.
    Node,
    /// The control plane on a node.
    Controller,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Controller => "controller",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the other end of a connection must prove to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// A member that connects to us.
    NodeClient,
    /// A member that we connect to.
    NodeServer,
    /// The control plane, that we connect to.
    ControllerServer,
}

impl Claim {
    fn role(self) -> Role {
        match self {
            Self::NodeClient | Self::NodeServer => Role::Node,
            Self::ControllerServer => Role::Controller,
        }
    }

    fn usage(self) -> KeyUsage {
        match self {
            Self::NodeClient => KeyUsage::required(CLIENT_AUTH),
            Self::NodeServer | Self::ControllerServer => KeyUsage::required(SERVER_AUTH),
        }
    }
}

/// Who the other end is, proven by its certificate. Only [`Roots::verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    cluster: ClusterId,
    role: Role,
    node: NodeId,
    expires: UnixTime,
}

impl PeerIdentity {
    /// Returns its cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns what it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns which node it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns when its certificate ends; a connection that lasts longer is to be judged again.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// Why a certificate does not prove what was claimed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is past its end.
    #[error(
        "certificate ended at {ended}, and it is {at} by the clock here: if that is wrong, set the \
         clock (`timedatectl set-ntp true`)"
    )]
    Ended {
        /// When it was judged.
        at: UnixTime,
        /// When it ended.
        ended: UnixTime,
    },
    /// It is before its beginning.
    #[error(
        "certificate begins at {begins}, and it is {at} by the clock here: if that is wrong, set \
         the clock (`timedatectl set-ntp true`)"
    )]
    NotYet {
        /// When it was judged.
        at: UnixTime,
        /// When it begins.
        begins: UnixTime,
    },
    /// It does not chain to the cluster's authority, is out of its time, or not for this use.
    #[error("certificate is not valid in this cluster at {at}")]
    Chain {
        /// When it was judged: a clock that is wrong shows here.
        at: UnixTime,
        /// What is wrong.
        #[source]
        source: webpki::Error,
    },
    /// It is not X.509 as this program reads it.
    #[error("certificate is not X.509 in DER")]
    Format,
    /// Its names are not exactly one SPIFFE id of this cluster.
    #[error("certificate does not carry exactly one name of this cluster")]
    Name,
    /// It is for another role.
    #[error("certificate is of a {found}, not of a {expected}")]
    Role {
        /// What it is for.
        found: Role,
        /// What was claimed.
        expected: Role,
    },
}

/// Why certificates are not the authorities of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// There is none, too many, or they are not PEM.
    #[error("expected 1 to {ROOTS_MAX} certificates in PEM")]
    Pem,
    /// One is not X.509.
    #[error("certificate of the authority is not X.509 in DER")]
    Format,
    /// One is not an authority's.
    #[error("certificate is not of a cluster's authority")]
    NotAuthority,
    /// They are of several clusters.
    #[error("certificates are of authorities of different clusters")]
    Clusters,
    /// None has the public key that was pinned.
    #[error(
        "no certificate has the pinned public key: this is another cluster, or somebody between"
    )]
    Pin,
}

/// The authorities that a cluster trusts: one, or several while one replaces another.
#[derive(Debug, Clone)]
pub struct Roots {
    cluster: ClusterId,
    authorities: Vec<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    anchor: TrustAnchor<'static>,
    pin: CaPin,
    begins: UnixTime,
    expires: UnixTime,
}

impl Roots {
    /// Reads authorities in PEM, from a place that is trusted.
    pub fn from_pem(pem: &str) -> Result<Self, RootsError> {
        if ROOTS_MAX * PEM_BYTES_MAX < pem.len() {
            return Err(RootsError::Pem);
        }
        let found = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(ROOTS_MAX + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| RootsError::Pem)?;
        Self::from_der(&found)
    }

    /// Takes from `presented`, which anybody may have sent, the authority whose key is pinned.
    pub fn pinned(presented: &[CertificateDer<'_>], pin: CaPin) -> Result<Self, RootsError> {
        // What is not pinned need not even be X.509: it is passed over unread but for its key.
        let pinned = presented.iter().take(ROOTS_MAX).find(|certificate| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, parsed)| fingerprint(parsed.public_key().raw) == pin.0)
        });
        let pinned = pinned.ok_or(RootsError::Pin)?;
        Self::from_der(std::slice::from_ref(pinned))
    }

    fn from_der(found: &[CertificateDer<'_>]) -> Result<Self, RootsError> {
        if ROOTS_MAX < found.len() {
            return Err(RootsError::Pem);
        }
        let mut cluster = None;
        let mut authorities = Vec::with_capacity(found.len());
        for certificate in found {
            let (of, root) = read_root(certificate)?;
            if *cluster.get_or_insert(of) != of {
                return Err(RootsError::Clusters);
            }
            authorities.push(root);
        }
        Ok(Self {
            cluster: cluster.ok_or(RootsError::Pem)?,
            authorities,
        })
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns whether one of the authorities has the pinned key.
    pub fn has_pin(&self, pin: CaPin) -> bool {
        self.expiry_of(pin).is_some()
    }

    pub(crate) fn expiry_of(&self, pin: CaPin) -> Option<UnixTime> {
        let root = self.authorities.iter().find(|root| root.pin == pin)?;
        Some(root.expires)
    }

    /// Checks that `certificate` proves `claim` at `now`: signed by a living authority without
    /// intermediates, in its time, for this use, not an authority itself, and with exactly one name,
    /// a SPIFFE id of this cluster and of the role claimed. A controller's may hold addresses too,
    /// which prove nothing.
    ///
    /// The holder's possession of the key is the TLS handshake's to prove.
    pub fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        claim: Claim,
        now: UnixTime,
    ) -> Result<PeerIdentity, PeerError> {
        let chain = |source| match source {
            webpki::Error::CertExpired { not_after, .. } => PeerError::Ended {
                at: now,
                ended: of_webpki(not_after),
            },
            webpki::Error::CertNotValidYet { not_before, .. } => PeerError::NotYet {
                at: now,
                begins: of_webpki(not_before),
            },
            source => PeerError::Chain { at: now, source },
        };
        let leaf = EndEntityCert::try_from(certificate).map_err(chain)?;
        let alive: Vec<_> = self
            .authorities
            .iter()
            .filter(|root| root.begins <= now && now <= root.expires)
            .map(|root| root.anchor.clone())
            .collect();
        let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        leaf.verify_for_usage(
            &[ECDSA_P256_SHA256],
            &alive,
            &[],
            at,
            claim.usage(),
            None,
            None,
        )
        .map_err(chain)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Format)?;
        let uri = match claim {
            Claim::NodeClient | Claim::NodeServer => only_uri(&parsed),
            Claim::ControllerServer => uri_beside_addresses(&parsed),
        };
        let (cluster, role, node) = uri
            .and_then(parse_spiffe_id)
            .filter(|(cluster, _, _)| *cluster == self.cluster)
            .ok_or(PeerError::Name)?;
        if role != claim.role() {
            return Err(PeerError::Role {
                found: role,
                expected: claim.role(),
            });
        }
        Ok(PeerIdentity {
            cluster,
            role,
            node,
            expires: moment(parsed.validity().not_after.timestamp()),
        })
    }
}

/// Returns from when to when a certificate in PEM is good. It is not verified: for one's own.
pub fn certificate_lifetime(pem: &str) -> Option<(UnixTime, UnixTime)> {
    if PEM_BYTES_MAX < pem.len() {
        return None;
    }
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let validity = parsed.validity();
    Some((
        moment(validity.not_before.timestamp()),
        moment(validity.not_after.timestamp()),
    ))
}

fn read_root(certificate: &CertificateDer<'_>) -> Result<(ClusterId, Root), RootsError> {
    if PEM_BYTES_MAX < certificate.len() {
        return Err(RootsError::Format);
    }
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| RootsError::Format)?;
    if !rest.is_empty() {
        return Err(RootsError::Format);
    }
    let is_authority = parsed.is_ca()
        && parsed
            .key_usage()
            .ok()
            .flatten()
            .is_some_and(|usage| usage.value.key_cert_sign());
    let cluster = only_uri(&parsed)
        .and_then(|uri| canonical(uri.strip_prefix("spiffe://")?))
        .filter(|_| is_authority)
        .ok_or(RootsError::NotAuthority)?;
    let anchor = anchor_from_trusted_cert(certificate).map_err(|_| RootsError::Format)?;
    let root = Root {
        anchor: anchor.to_owned(),
        pin: CaPin(fingerprint(parsed.public_key().raw)),
        begins: moment(parsed.validity().not_before.timestamp()),
        expires: moment(parsed.validity().not_after.timestamp()),
    };
    Ok((cluster, root))
}

/// Returns the certificate's name, if it has exactly one and that is a URI.
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten()?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some(uri),
        _ => None,
    }
}

/// Returns the certificate's URI, if it has exactly one and no other names but addresses.
fn uri_beside_addresses<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten()?;
    let mut found = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) if found.is_none() => found = Some(*uri),
            GeneralName::IPAddress(_) => {}
            _ => return None,
        }
    }
    found
}

pub(crate) fn spiffe_id(cluster: ClusterId, role: Role, node: NodeId) -> String {
    format!("spiffe://{cluster}/{role}/{node}")
}

fn parse_spiffe_id(uri: &str) -> Option<(ClusterId, Role, NodeId)> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let cluster = canonical(parts.next()?)?;
    let role = match parts.next()? {
        "node" => Role::Node,
        "controller" => Role::Controller,
        _ => return None,
    };
    let node = canonical(parts.next()?)?;
    parts.next().is_none().then_some((cluster, role, node))
}

/// Parses an id that is spelled as we print it, and no other way.
fn canonical<T: FromStr + fmt::Display>(text: &str) -> Option<T> {
    let id: T = text.parse().ok()?;
    (id.to_string() == text).then_some(id)
}

/// Returns when a certificate in PEM was made by an authority of ours, by that authority's clock. It
/// is not verified: for one's own.
pub fn certificate_made(pem: &str) -> Option<UnixTime> {
    certificate_lifetime(pem).map(|(begins, _)| begins.plus(BACKDATED_BY))
}

/// Returns when a certificate says that it begins. It is not verified.
pub fn certificate_begin(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(moment(parsed.validity().not_before.timestamp()))
}

fn of_webpki(time: rustls_pki_types::UnixTime) -> UnixTime {
    UnixTime::EPOCH.plus(Duration::from_secs(time.as_secs()))
}

/// Seconds of X.509 as our time; what lies before 1970 is the epoch.
fn moment(seconds: i64) -> UnixTime {
    UnixTime::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests;
