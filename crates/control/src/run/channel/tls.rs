//! The controller's TLS: certificates that it gives itself and renews, members as clients.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bastide_api::{NodeId, UnixTime};
use bastide_client::ByClock;
use bastide_linux::clock::Clock;
use bastide_pki::{Claim, Identity, PeerError, PeerIdentity, Roots, certificate_chain};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature,
};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use serde_json::{Value, json};

use super::kept::{Kept, Pair};
use super::{ControllerError, Listen, fields, refused, text};
use crate::core::engines::mesh::CERTIFICATE_LIFE;
use crate::core::request::Operation;
use crate::run::plane::Plane;
use crate::run::server::BY_SHARES;
use crate::run::strangers;

/// The controller's two certificates: that of the channel names nothing but ids, that of the API
/// its addresses as well, for clients that look for them. Before the first ones are made no
/// connection is accepted.
pub struct Certificates {
    channel: Arc<Slot>,
    api: Arc<Slot>,
    roots: Arc<Trusted>,
    expires: Mutex<UnixTime>,
    time: Arc<Time>,
    /// Where they are kept for a server that starts sealed.
    kept: Option<PathBuf>,
}

impl Certificates {
    /// None yet. What is made is kept in the file `kept`, if there is one.
    pub fn new(kept: Option<PathBuf>) -> Self {
        Self {
            channel: Arc::default(),
            api: Arc::default(),
            roots: Arc::default(),
            expires: Mutex::new(UnixTime::EPOCH),
            time: Arc::new(Time(RwLock::new(ByClock(Clock::leading(None))))),
            kept,
        }
    }

    /// Has both made for the controller on `node`, or made anew; connections that are open keep
    /// theirs.
    pub async fn make(
        &self,
        plane: &Plane,
        node: NodeId,
        listen: &Listen,
    ) -> Result<(), ControllerError> {
        self.time.set(plane.clock().clone());
        let names: Vec<_> = listen.api.iter().map(SocketAddr::ip).collect();
        let channel = certified(plane, node, &[]).await?;
        let api = certified(plane, node, &names).await?;
        let expires = channel.expires.min(api.expires);
        // A server that a key file opens needs none, because it does not start sealed.
        if let Some(path) = &self.kept
            && plane.server().seal == BY_SHARES
        {
            let kept = Kept {
                format: Kept::FORMAT,
                listen: listen.clone(),
                ca: channel.ca.clone(),
                channel: channel.pair.clone(),
                api: api.pair.clone(),
            };
            kept.write(path)?;
        }
        let renewed = self.roots().is_some();
        self.take(&channel.ca, &channel.pair, &api.pair)?;
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner) = expires;
        if renewed {
            tracing::info!(%expires, "controller's certificate renewed");
        }
        Ok(())
    }

    /// Takes the certificates of an earlier process, though they may have ended: whoever connects
    /// judges them. Returns where it listened; `None` if nothing was kept.
    pub fn take_kept(&self) -> Result<Option<Listen>, ControllerError> {
        let Some(path) = &self.kept else {
            return Ok(None);
        };
        let Some(kept) = Kept::read(path)? else {
            return Ok(None);
        };
        self.take(&kept.ca, &kept.channel, &kept.api)?;
        Ok(Some(kept.listen.clone()))
    }

    fn take(&self, ca: &str, channel: &Pair, api: &Pair) -> Result<(), ControllerError> {
        let roots = Roots::from_pem(ca).map_err(tls_error)?;
        self.channel.set(channel.certified_key()?);
        self.api.set(api.certified_key()?);
        self.roots.set(roots);
        Ok(())
    }

    /// Returns when half of the certificates' life is over.
    pub fn renewal_due_in(&self, now: UnixTime) -> Duration {
        let expires = *self.expires.lock().unwrap_or_else(PoisonError::into_inner);
        expires.since(now).saturating_sub(CERTIFICATE_LIFE / 2)
    }

    /// Returns the authorities that clients' certificates must chain to, once they are known.
    pub fn roots(&self) -> Option<Arc<Roots>> {
        self.roots.get()
    }

    /// Returns the TLS side of the node channel.
    pub fn channel_config(&self) -> Arc<ServerConfig> {
        self.config(&self.channel, Foreign::Refused, &[b"http/1.1"])
    }

    /// Returns the TLS side of the API.
    pub fn api_config(&self) -> Arc<ServerConfig> {
        self.config(&self.api, Foreign::Presented, &[b"h2", b"http/1.1"])
    }

    fn config(&self, slot: &Arc<Slot>, foreign: Foreign, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let provider = provider();
        let members = Members {
            roots: Arc::clone(&self.roots),
            algorithms: provider.signature_verification_algorithms,
            foreign,
        };
        let time = Arc::clone(&self.time);
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

/// The time that certificates are judged by: the plane's, and before there was one the host's.
#[derive(Debug)]
struct Time(RwLock<ByClock>);

impl Time {
    fn set(&self, clock: Clock) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ByClock(clock);
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .current_time()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn tls_error(error: impl std::fmt::Display) -> ControllerError {
    ControllerError::Tls(error.to_string())
}

struct Certified {
    pair: Pair,
    ca: String,
    expires: UnixTime,
}

/// Draws a key and has it certified.
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
    let pair = Pair::new(chain, &identity);
    let expires =
        serde_json::from_value(made["expires"].clone()).map_err(ControllerError::Answer)?;
    Ok(Certified { pair, ca, expires })
}

impl Pair {
    fn certified_key(&self) -> Result<CertifiedKey, ControllerError> {
        let chain = certificate_chain(&self.chain).map_err(tls_error)?;
        let identity = self.identity().map_err(tls_error)?;
        CertifiedKey::from_der(chain, identity.key_der(), &provider()).map_err(tls_error)
    }
}

/// Holds the certificate that new connections get; none before the first.
#[derive(Debug, Default)]
struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl Slot {
    fn set(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Holds the cluster's authority, once it is known.
#[derive(Debug, Default)]
struct Trusted(RwLock<Option<Arc<Roots>>>);

impl Trusted {
    fn set(&self, roots: Roots) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(roots));
    }

    fn get(&self) -> Option<Arc<Roots>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Returns whose certificate this is, and whether it has ended: then its holder may ask for a new one,
/// and for nothing else. Everything but the time is judged as ever.
pub fn judge(
    roots: &Roots,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(PeerIdentity, bool), PeerError> {
    match roots.verify(certificate, Claim::NodeClient, now) {
        Err(PeerError::Ended { ended, .. }) => {
            let peer = roots.verify(certificate, Claim::NodeClient, ended)?;
            Ok((peer, true))
        }
        other => other.map(|peer| (peer, false)),
    }
}

/// What becomes of a client certificate that is no member's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// The handshake fails.
    Refused,
    /// It is taken once its holder has proven its key, and trusted with nothing: an auth method may
    /// judge it.
    Presented,
}

/// Takes certificates of members, and connections without one: a join has none yet, and what needs
/// one is refused by the pipeline.
#[derive(Debug)]
struct Members {
    roots: Arc<Trusted>,
    algorithms: WebPkiSupportedAlgorithms,
    foreign: Foreign,
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
        intermediates: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let now = UnixTime::EPOCH.plus(Duration::from_secs(now.as_secs()));
        let Some(roots) = self.roots.get() else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        match judge(&roots, end_entity, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(_) if self.foreign == Foreign::Presented => {
                strangers::bounded(end_entity, intermediates)
            }
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
        match self.foreign {
            Foreign::Refused => {
                verify_tls13_signature(message, certificate, signature, &self.algorithms)
            }
            Foreign::Presented => {
                strangers::proven(message, certificate, signature, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.foreign {
            // Which is all that a cluster's certificates are signed with.
            Foreign::Refused => vec![SignatureScheme::ECDSA_NISTP256_SHA256],
            Foreign::Presented => self.algorithms.supported_schemes(),
        }
    }
}
