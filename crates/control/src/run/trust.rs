//! Whom we believe when we connect to servers that are not of this cluster.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use bastide_client::ByClock;
use bastide_linux::clock::Clock;
use bastide_pki::Stranger;

#[cfg(test)]
pub(crate) mod fixture;

/// Most certificates that are trusted at a time.
const TRUSTED_MAX: usize = 512;

/// Says why there is no TLS, without a name: strangers who try to log in are told it too, and learn
/// nothing of the servers that are asked about them.
pub fn why_no_tls(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "no TLS: the certificate is for another name".to_owned(),
        _ => format!("no TLS: {error}"),
    }
}

/// Makes the client's side of TLS to servers whose certificate chains to one of `ca_pem`, or is one of
/// them; with an empty text, to one that this host trusts. `Err` says what is wrong with the text.
pub fn client_config(
    ca_pem: &str,
    versions: &[&'static SupportedProtocolVersion],
    clock: &Clock,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trusted: Vec<CertificateDer<'static>> = if ca_pem.trim().is_empty() {
        of_this_host()
    } else {
        CertificateDer::pem_slice_iter(ca_pem.as_bytes())
            .take(TRUSTED_MAX)
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificates to trust are not PEM".to_owned())?
    };
    let mut roots = RootCertStore::empty();
    // What cannot be an authority may still be the server's own certificate.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let chains = if roots.is_empty() {
        None
    } else {
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        Some(built.build().map_err(|error| error.to_string())?)
    };
    if trusted.is_empty() {
        return Err("there is no certificate to trust".to_owned());
    }
    let verifier = Arc::new(Trust {
        chains,
        trusted,
        provider: Arc::clone(&provider),
    });
    let time = Arc::new(ByClock(clock.clone()));
    Ok(ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Where hosts keep the authorities that they trust, by distribution.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Returns the authorities that this host trusts; none if it keeps none where hosts do.
fn of_this_host() -> Vec<CertificateDer<'static>> {
    let text = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    let text = text.unwrap_or_default();
    CertificateDer::pem_slice_iter(&text)
        .take(TRUSTED_MAX)
        .filter_map(Result::ok)
        .collect()
}

/// Believes servers by chains, and those whose own certificate is trusted: one that signed itself is no
/// chain for webpki, but an operator who names it means it.
#[derive(Debug)]
struct Trust {
    chains: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|it| it == end_entity) {
            let read = Stranger::parse(end_entity).map_err(|_| CertificateError::BadEncoding)?;
            let at = std::time::Duration::from_secs(now.as_secs());
            if !read.is_good_at(bastide_api::UnixTime::EPOCH.plus(at)) {
                return Err(CertificateError::Expired.into());
            }
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chains {
            Some(chains) => chains.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
