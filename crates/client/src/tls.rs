//! TLS as nodes speak it: version 1.3, no server name, trust in one cluster's authority or in a pin.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::CaPin;
use bastide_linux::clock::Clock;
use bastide_pki::{Claim, Identity, Roots, certificate_begin, certificate_chain};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerIncompatible,
    SignatureScheme,
};

use crate::error::ClientError;

/// What a controller must prove.
#[derive(Debug, Clone)]
pub enum Trust {
    /// That its certificate chains to an authority with this key, which it shows: for joining.
    Pin(CaPin),
    /// That its certificate chains to one of these authorities (PEM).
    Ca(String),
}

/// A node's certificate and key, for TLS.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// Takes a certificate (PEM, intermediates after it) and the key that it is for.
    pub fn new(certificate_pem: &str, identity: &Identity) -> Result<Self, ClientError> {
        Ok(Self {
            chain: certificate_chain(certificate_pem).map_err(ClientError::Identity)?,
            key: identity.key_der(),
        })
    }
}

/// Makes the TLS side of a client.
pub(crate) fn config(
    trust: &Trust,
    identity: Option<ClientIdentity>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, ClientError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trusted = match trust {
        Trust::Pin(pin) => Trusted::Pin(*pin),
        Trust::Ca(pem) => Trusted::Roots(Roots::from_pem(pem).map_err(ClientError::Roots)?),
    };
    let verifier = Arc::new(Verifier {
        trusted,
        algorithms: provider.signature_verification_algorithms,
        clock: clock.clone(),
    });
    let builder = ClientConfig::builder_with_details(provider, Arc::new(ByClock(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(ClientError::Mismatch)?,
    };
    // Names do not travel in clear; and each connection is judged by certificates, not by a ticket
    // of an earlier one.
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Lets TLS judge by a clock of ours.
#[derive(Debug)]
pub struct ByClock(pub Clock);

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since = Duration::from_secs(self.0.now().as_secs());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since))
    }
}

#[derive(Debug)]
enum Trusted {
    Pin(CaPin),
    Roots(Roots),
}

/// Accepts the controllers of one cluster, whatever address they answer at.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Clock,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // No authority signs ahead of its time: a certificate that has not begun yet proves that
        // this clock is behind, and by how much at least. One that has ended proves nothing.
        let now = self.clock.now();
        let at = certificate_begin(end_entity).map_or(now, |begin| begin.max(now));
        let pinned;
        let roots = match &self.trusted {
            Trusted::Roots(roots) => roots,
            Trusted::Pin(pin) => {
                pinned = Roots::pinned(intermediates, *pin).map_err(refuse)?;
                &pinned
            }
        };
        roots
            .verify(end_entity, Claim::ControllerServer, at)
            .map_err(refuse)?;
        self.clock.at_least(at);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Which is all that a cluster's certificates are signed with.
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn refuse(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
