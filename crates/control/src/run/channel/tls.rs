//! The controller's TLS: certificates that it gives itself and renews, members as clients.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bastide_api::{NodeId, UnixTime};
use bastide_client::ByClock;
use bastide_linux::clock::Clock;
use bastide_pki::{Claim, Identity, Roots, certificate_chain};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature,
};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use serde_json::{Value, json};

use super::{ControllerError, fields, refused, text};
use crate::core::engines::mesh::CERTIFICATE_LIFE;
use crate::core::request::Operation;
use crate::run::plane::Plane;

/// The controller's two certificates: that of the channel names nothing but ids, that of the API
/// its addresses as well, for clients that look for them.
pub struct Certificates {
    node: NodeId,
    api_names: Vec<IpAddr>,
    channel: Arc<Slot>,
    api: Arc<Slot>,
    roots: Arc<Roots>,
    expires: Mutex<UnixTime>,
    clock: Clock,
}

impl Certificates {
    /// Has certificates made for the controller on `node`.
    pub async fn make(
        plane: &Plane,
        node: NodeId,
        api_names: Vec<IpAddr>,
    ) -> Result<Self, ControllerError> {
        let channel = certified(plane, node, &[]).await?;
        let api = certified(plane, node, &api_names).await?;
        let roots = Roots::from_pem(&channel.ca).map_err(tls_error)?;
        Ok(Self {
            node,
            api_names,
            clock: plane.clock().clone(),
            expires: Mutex::new(channel.expires.min(api.expires)),
            channel: Arc::new(Slot::new(channel.key)),
            api: Arc::new(Slot::new(api.key)),
            roots: Arc::new(roots),
        })
    }

    /// Has both made anew; connections that are open keep theirs.
    pub async fn renew(&self, plane: &Plane) -> Result<(), ControllerError> {
        let channel = certified(plane, self.node, &[]).await?;
        let api = certified(plane, self.node, &self.api_names).await?;
        let expires = channel.expires.min(api.expires);
        self.channel.set(channel.key);
        self.api.set(api.key);
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner) = expires;
        tracing::info!(%expires, "controller's certificate renewed");
        Ok(())
    }

    /// Returns when half of the certificates' life is over.
    pub fn renewal_due_in(&self, now: UnixTime) -> Duration {
        let expires = *self.expires.lock().unwrap_or_else(PoisonError::into_inner);
        expires.since(now).saturating_sub(CERTIFICATE_LIFE / 2)
    }

    /// Returns the authorities that clients' certificates must chain to.
    pub fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots)
    }

    /// Returns the TLS side of the node channel.
    pub fn channel_config(&self) -> Arc<ServerConfig> {
        self.config(&self.channel, &[b"http/1.1"])
    }

    /// Returns the TLS side of the API.
    pub fn api_config(&self) -> Arc<ServerConfig> {
        self.config(&self.api, &[b"h2", b"http/1.1"])
    }

    fn config(&self, slot: &Arc<Slot>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let provider = provider();
        let members = Members {
            roots: Arc::clone(&self.roots),
            algorithms: provider.signature_verification_algorithms,
        };
        let time = Arc::new(ByClock(self.clock.clone()));
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has cipher suites of TLS 1.3")
            .with_client_cert_verifier(Arc::new(members))
            .with_cert_resolver(Arc::clone(slot) as Arc<dyn ResolvesServerCert>);
        // Each connection is judged by certificates, not by a ticket of an earlier one.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn tls_error(error: impl std::fmt::Display) -> ControllerError {
    ControllerError::Tls(error.to_string())
}

struct Certified {
    key: CertifiedKey,
    ca: String,
    expires: UnixTime,
}

/// Draws a key and has it certified: the key never leaves this process, nor memory.
async fn certified(
    plane: &Plane,
    node: NodeId,
    names: &[IpAddr],
) -> Result<Certified, ControllerError> {
    let identity = Identity::generate();
    let asked = fields(json!({ "csr": identity.csr_pem(), "addresses": names }));
    let path = format!("mesh/controllers/{node}/certificate");
    let made = plane
        .ask(Operation::Update, &path, asked)
        .await
        .map_err(refused("certify the controller"))?;
    let made = Value::Object(made.data.unwrap_or_default());
    let ca = text(&made, "ca")?;
    let chain = format!("{}{ca}", text(&made, "certificate")?);
    let chain = certificate_chain(&chain).map_err(tls_error)?;
    let key = CertifiedKey::from_der(chain, identity.key_der(), &provider()).map_err(tls_error)?;
    let expires =
        serde_json::from_value(made["expires"].clone()).map_err(ControllerError::Answer)?;
    Ok(Certified { key, ca, expires })
}

/// Holds the certificate that new connections get.
#[derive(Debug)]
struct Slot(RwLock<Arc<CertifiedKey>>);

impl Slot {
    fn new(key: CertifiedKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    fn set(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&key))
    }
}

/// Takes certificates of members, and connections without one: a join has none yet, and what needs
/// one is refused by the pipeline.
#[derive(Debug)]
struct Members {
    roots: Arc<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Members {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let now = UnixTime::EPOCH.plus(Duration::from_secs(now.as_secs()));
        match self.roots.verify(end_entity, Claim::NodeClient, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Which is all that a cluster's certificates are signed with.
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
