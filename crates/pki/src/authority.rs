//! The cluster's certificate authority: what it signs, and nothing about whom it trusts.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::{CaPin, ClusterId, NodeId, Secret, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroize;

use crate::PEM_BYTES_MAX;
use crate::peer::{Role, Roots, RootsError, spiffe_id};
use crate::proof::ProvenKey;

/// How long an authority lives. It is replaced by a second one beside it, not renewed.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How far before now certificates begin, for clients whose clock is an hour behind, and a little
/// more. Nodes need none of it: they judge by the controller's time.
pub(crate) const BACKDATED_BY: Duration = Duration::from_secs(65 * 60);

/// When a certificate is made, and how long it is good from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Now.
    pub now: UnixTime,
    /// For how long, cut to whole seconds and to the authority's own end.
    pub life: Duration,
}

/// A certificate that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in PEM.
    pub pem: String,
    /// The certificate in DER.
    pub der: CertificateDer<'static>,
    /// When it ends.
    pub expires: UnixTime,
}

/// Why a stored authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key is not one.
    #[error("authority's key is not an ECDSA key on P-256 in PKCS #8")]
    Key,
    /// The certificate is not an authority's.
    #[error("authority's certificate cannot be used")]
    Certificate(#[source] RootsError),
    /// They do not belong together.
    #[error("authority's certificate is not for its key")]
    Mismatch,
}

/// A cluster's certificate authority: ECDSA on P-256, no intermediates.
pub struct Authority {
    cluster: ClusterId,
    key: KeyPair,
    pem: String,
    pin: CaPin,
    expires: UnixTime,
}

impl Authority {
    /// Draws a key and makes the authority of a new cluster. `serial` is drawn by the caller.
    pub fn create(cluster: ClusterId, now: UnixTime, serial: [u8; 16]) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .expect("P-256 keys can be drawn once the random source is seeded");
        let expires = now.plus(AUTHORITY_LIFE);
        let mut params = authority_params(cluster);
        params.serial_number = Some(serial_number(serial));
        set_validity(&mut params, now, expires);
        let certificate = params
            .self_signed(&key)
            .expect("these parameters are constant but for id and time, and can be encoded");
        Self::load(&Secret::new(key.serialize_pem()), &certificate.pem())
            .expect("an authority's own output can be read back")
    }

    /// Reads back what [`Self::key_pem`] and [`Self::certificate_pem`] gave.
    pub fn load(key_pem: &Secret<String>, certificate_pem: &str) -> Result<Self, AuthorityError> {
        if PEM_BYTES_MAX < key_pem.expose().len() {
            return Err(AuthorityError::Key);
        }
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(key_pem.expose(), &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| AuthorityError::Key)?;
        let roots = Roots::from_pem(certificate_pem).map_err(AuthorityError::Certificate)?;
        let pin = CaPin(crate::proof::fingerprint(&key.subject_public_key_info()));
        let Some(expires) = roots.expiry_of(pin) else {
            return Err(AuthorityError::Mismatch);
        };
        Ok(Self {
            cluster: roots.cluster(),
            key,
            pem: certificate_pem.to_owned(),
            pin,
            expires,
        })
    }

    /// Returns the cluster it speaks for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns its certificate in PEM: public.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Returns its key in PEM (PKCS #8), to be kept behind the barrier.
    pub fn key_pem(&self) -> Secret<String> {
        Secret::new(self.key.serialize_pem())
    }

    /// Returns SHA-256 of its DER `SubjectPublicKeyInfo`: what tickets carry.
    pub fn pin(&self) -> CaPin {
        self.pin
    }

    /// Certifies that `key` is node `node`'s, as a TLS client and towards its peers as a server.
    /// `serial` is drawn by the caller.
    pub fn sign_node(
        &self,
        key: &ProvenKey,
        node: NodeId,
        validity: Validity,
        serial: [u8; 16],
    ) -> Issued {
        let usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let params = self.params(Role::Node, node, usages);
        self.sign(params, key, validity, serial)
    }

    /// Certifies that `key` is that of the control plane on node `node`, as a TLS server; with
    /// `addresses` for clients that look for them, which ours do not. `serial` is drawn by the
    /// caller.
    pub fn sign_controller(
        &self,
        key: &ProvenKey,
        node: NodeId,
        addresses: &[IpAddr],
        validity: Validity,
        serial: [u8; 16],
    ) -> Issued {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut params = self.params(Role::Controller, node, usages);
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        self.sign(params, key, validity, serial)
    }

    /// What a certificate says, but for key, serial and times.
    fn params(
        &self,
        role: Role,
        node: NodeId,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&node.to_string());
        params.subject_alt_names = vec![uri(&spiffe_id(self.cluster, role, node))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &ProvenKey,
        validity: Validity,
        serial: [u8; 16],
    ) -> Issued {
        let expires = validity.now.plus(validity.life).min(self.expires);
        let expires = UnixTime::from_millis(expires.as_secs() * 1000);
        params.serial_number = Some(serial_number(serial));
        set_validity(&mut params, validity.now, expires);
        let issuer = Issuer::new(authority_params(self.cluster), &self.key);
        let certificate = params
            .signed_by(key, &issuer)
            .expect("these parameters are constant but for ids and times, and can be encoded");
        Issued {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            expires,
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// What an authority's certificate says, but for serial and times. Names follow from the cluster, so
/// that an issuer can be had without reading its certificate back.
fn authority_params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&cluster.to_string());
    params.subject_alt_names = vec![uri(&format!("spiffe://{cluster}"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("SPIFFE ids of ours are ASCII"))
}

/// A serial of 16 bytes: positive, not zero, of one length (RFC 5280, section 4.1.2.2).
fn serial_number(mut random: [u8; 16]) -> SerialNumber {
    random[0] = random[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&random)
}

fn set_validity(params: &mut CertificateParams, now: UnixTime, expires: UnixTime) {
    let begin = Duration::from_secs(now.as_secs()).saturating_sub(BACKDATED_BY);
    params.not_before = date_time_ymd(1970, 1, 1) + begin;
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(expires.as_secs());
}

#[cfg(test)]
mod tests;
