//! Client certificates of whoever: the handshake proves that their holder has the key, and nothing else.
//! What they are worth is decided where a login presents them (the auth method `cert`).

use std::sync::Arc;

use bastide_pki::public_key_of;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::run::listen::{Identify, Whose};

/// Most certificates that a client may show: its own, and more intermediates than anyone uses.
const CHAIN_MAX: usize = 8;
/// Most bytes of one of them.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// Takes certificates of strangers for a listener that has no members: none is needed, any is taken
/// whose key signed the handshake.
pub fn verifier(provider: &CryptoProvider) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Strangers {
        algorithms: provider.signature_verification_algorithms,
    })
}

/// Says of every certificate that it is a stranger's.
pub fn identify() -> Identify {
    Arc::new(|_| Whose::Stranger)
}

/// Checks that a chain is of a size that will be read.
pub(super) fn bounded(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<ClientCertVerified, rustls::Error> {
    let all = std::iter::once(end_entity).chain(intermediates);
    let is_small = |certificate: &CertificateDer<'_>| certificate.len() <= CERTIFICATE_BYTES_MAX;
    if CHAIN_MAX <= intermediates.len() || !all.into_iter().all(is_small) {
        return Err(CertificateError::ApplicationVerificationFailure.into());
    }
    Ok(ClientCertVerified::assertion())
}

/// Checks that the key of a certificate signed the handshake, whatever else the certificate says: one
/// without extensions, of version 1, proves its key as well as any other.
pub(super) fn proven(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = public_key_of(certificate).ok_or(CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

#[derive(Debug)]
struct Strangers {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Strangers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        bounded(end_entity, intermediates)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        proven(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
