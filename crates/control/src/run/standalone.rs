//! A server by itself, as a configuration file describes it: only the API, on its own listeners, and
//! nothing begun before `sys/init`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bastide_api::ClusterId;
use bastide_client::ByClock;
use bastide_linux::clock::Clock;
use bastide_store::{KeyFileSeal, Seal, SealError, TpmSeal};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use crate::core::config::{ClientCertificates, Config, Encryption, SealSettings, Storage};
use crate::core::registry::Registry;
use crate::run::gate::{Gate, GateConfig, Gatehouse, NoCrew, OpenError};
use crate::run::http::Door;
use crate::run::listen::Security;
use crate::run::server::{STORE_FILE, SealKey, ServerConfig};
use crate::run::strangers;
use crate::run::transit_seal::TransitSeal;

/// A server as a configuration file describes it.
pub struct Standalone {
    house: Gatehouse,
    addresses: Vec<SocketAddr>,
    shown: Vec<Arc<Shown>>,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// Store, seal, barrier or listener.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The host and port of a listener cannot be found.
    #[error("could not find the address `{address}` of a listener")]
    Address {
        /// What is configured.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A seal cannot be used.
    #[error(transparent)]
    Seal(SealError),
    /// A file of a listener cannot be used.
    #[error("could not use `{path}` for a listener's TLS: {what}")]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Standalone {
    /// Starts a server, sealed or not yet initialised. Must be called within a tokio runtime.
    pub async fn start(config: &Config, cluster: ClusterId) -> Result<Self, StandaloneError> {
        let server = ServerConfig {
            storage: config.storage.clone(),
            seal: SealKey::Absent,
            audit: None,
            cluster_name: config
                .cluster_name
                .clone()
                .unwrap_or_else(|| name_of(cluster)),
            compat: config.compat,
            ttls: config.ttls,
            lockouts: config.lockouts.clone(),
        };
        // What listeners need is looked at first: a store is not touched for a wrong certificate.
        let mut posts = Vec::new();
        let mut shown = Vec::new();
        for listener in &config.listeners {
            let security = match &listener.encryption {
                Encryption::Disabled => Security::Plain,
                Encryption::Tls {
                    certificate,
                    key,
                    clients,
                } => {
                    let own = Arc::new(Shown::read(certificate, key)?);
                    shown.push(Arc::clone(&own));
                    Security::Tls {
                        config: tls(own, clients)?,
                        identify: strangers::identify(),
                    }
                }
            };
            let door = listener.request_bytes_max.map_or(Door::API, Door::Api);
            posts.push((found(&listener.address).await?, security, door));
        }
        let gate = GateConfig {
            server,
            cluster,
            registry: Registry::built_in,
            seals: config
                .seals
                .iter()
                .map(|settings| seal(settings, &config.storage))
                .collect::<Result<_, _>>()?,
            seals_disabled: config.seals_disabled.clone(),
        };
        let mut house = Gatehouse::start(gate, Box::new(NoCrew)).await?;
        let mut addresses = Vec::new();
        for (address, security, door) in posts {
            match house.listen(address, security, door).await {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    house.stop().await;
                    return Err(error.into());
                }
            }
        }
        Ok(Self {
            house,
            addresses,
            shown,
        })
    }

    /// Returns where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns a handle on its gate.
    pub fn gate(&self) -> &Gate {
        self.house.gate()
    }

    /// Reads the listeners' certificates and keys anew; open connections keep theirs. What cannot be
    /// used leaves the old ones in place.
    pub fn reload(&self) -> Result<(), StandaloneError> {
        self.shown.iter().try_for_each(|shown| shown.reload())
    }

    /// Returns when the store takes no more writes, until the server is started anew.
    pub async fn failed(&self) {
        self.house.failed().await;
    }

    /// Stops: accepts nothing new, lets open requests end within seconds, closes the store.
    pub async fn stop(self) {
        self.house.stop().await;
    }
}

/// Makes a seal as it is configured.
fn seal(settings: &SealSettings, storage: &Storage) -> Result<Arc<dyn Seal>, StandaloneError> {
    Ok(match settings {
        SealSettings::KeyFile { path } => {
            let is_new = match storage {
                Storage::Memory => true,
                Storage::Folder(folder) => !folder.join(STORE_FILE).exists(),
            };
            // A new key would not open a store that is there.
            let seal = if is_new {
                KeyFileSeal::open_or_create(path)
            } else {
                KeyFileSeal::open(path)
            };
            Arc::new(seal.map_err(StandaloneError::Seal)?)
        }
        SealSettings::Tpm { device, pcrs } => {
            let seal = TpmSeal::new(device, pcrs).map_err(SealError::from);
            Arc::new(seal.map_err(StandaloneError::Seal)?)
        }
        SealSettings::Transit(settings) => Arc::new(TransitSeal::new(settings.clone())),
    })
}

/// Names a cluster that its configuration does not.
fn name_of(cluster: ClusterId) -> String {
    let tail = data_encoding::HEXLOWER.encode(&cluster.as_bytes()[..4]);
    format!("vault-cluster-{tail}")
}

/// Finds `HOST:PORT`; without a host all addresses are meant.
async fn found(address: &str) -> Result<SocketAddr, StandaloneError> {
    let failed = |source| StandaloneError::Address {
        address: address.to_owned(),
        source,
    };
    let full = match address.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => address.to_owned(),
    };
    let mut found = tokio::net::lookup_host(full).await.map_err(failed)?;
    found
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn unusable(path: &Path, what: impl std::fmt::Display) -> StandaloneError {
    StandaloneError::Tls {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads the certificates of a file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StandaloneError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> = read.map_err(|error| unusable(path, error))?;
    if chain.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(chain)
}

fn tls(
    shown: Arc<Shown>,
    clients: &ClientCertificates,
) -> Result<Arc<rustls::ServerConfig>, StandaloneError> {
    let time = Arc::new(ByClock(Clock::leading(None)));
    let builder = rustls::ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites of TLS 1.3");
    let builder = match clients {
        ClientCertificates::Unasked => builder.with_no_client_auth(),
        ClientCertificates::Any => {
            builder.with_client_cert_verifier(strangers::verifier(&provider()))
        }
        ClientCertificates::Required(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots
                    .add(authority)
                    .map_err(|error| unusable(path, error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, error))?)
        }
    };
    let mut config = builder.with_cert_resolver(shown);
    // A certificate that a client shows is judged on each connection, not by a ticket of an earlier one.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate that a listener shows, as its files say.
#[derive(Debug)]
struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    fn read(certificate: &Path, key: &Path) -> Result<Self, StandaloneError> {
        Ok(Self {
            now: RwLock::new(Arc::new(certified(certificate, key)?)),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    fn reload(&self) -> Result<(), StandaloneError> {
        let read = Arc::new(certified(&self.certificate, &self.key)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now))
    }
}

fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, StandaloneError> {
    let chain = certificates(certificate)?;
    let der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let certified = CertifiedKey::from_der(chain, der, &provider());
    certified.map_err(|error| unusable(key, error))
}
