//! The server: a store opened with its seal, the plane on it, listeners before it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::{ClusterId, Secret, UnixTime};
use bastide_client::TaskGroup;
use bastide_linux::clock::Clock;
use bastide_store::{
    Barrier, BarrierError, Batch, KeyFileSeal, OpenError, OpenSnapshot, RedbStore, Seal, SealError,
    ShamirSeal, Share, Sharing, Store, StoreError, Unsealed,
};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::config::{Compat, Storage, Ttls};
use crate::core::draft::Draft;
use crate::core::engine::{AuditDevice, ServerInfo};
use crate::core::entropy::Entropy;
use crate::core::lockout::Configured;
use crate::core::mounts::{self, Mount};
use crate::core::path::MountPath;
use crate::core::policy::builtin;
use crate::core::refusal::Refusal;
use crate::core::registry::Registry;
use crate::core::tables;
use crate::core::tokens::{self, NewToken};
use crate::run::clock::{self, ClockError};
use crate::run::http::Door;
use crate::run::listen::{self, Front, Security};
use crate::run::outbox::AuditTo;
use crate::run::plane::Plane;
use crate::run::writer::{self, WriterError};

/// The version of Vault's API that clients are told.
pub const VAULT_VERSION: &str = "1.21.4";
/// What a seal is called whose key people hold shares of.
pub(crate) const BY_SHARES: &str = "shamir";
/// How long the server's tasks may take to end: longer than a listener's open connections.
const SHUTDOWN_SECS_MAX: u64 = 10;
/// The name of the store's file in the data folder.
pub(crate) const STORE_FILE: &str = "store.redb";

/// Where a server keeps what it keeps.
pub struct ServerConfig {
    /// Where the store is; a folder is made, for its owner alone, if it is missing.
    pub storage: Storage,
    /// The key that the seal opens with.
    pub seal: SealKey,
    /// The audit file; none: no audit.
    pub audit: Option<AuditTo>,
    /// The cluster's name, as `sys/health` tells it.
    pub cluster_name: String,
    /// Whose defaults hold towards clients.
    pub compat: Compat,
    /// How long things live where nothing else is said.
    pub ttls: Ttls,
    /// When names are locked.
    pub lockouts: Configured,
}

impl ServerConfig {
    /// A server on a folder, as Bastide runs it: strict, without audit, its cluster not yet named.
    pub fn in_folder(folder: impl Into<PathBuf>, seal: SealKey) -> Self {
        Self {
            storage: Storage::Folder(folder.into()),
            seal,
            audit: None,
            cluster_name: String::new(),
            compat: Compat::Strict,
            ttls: Ttls::default(),
            lockouts: Configured::new(),
        }
    }

    /// Returns what its storage is called.
    pub(crate) fn storage_kind(&self) -> &'static str {
        match self.storage {
            Storage::Memory => "inmem",
            Storage::Folder(_) => "file",
        }
    }
}

/// Where the seal's key comes from.
pub enum SealKey {
    /// A file, made with the store if it is missing. Keep it apart from the store.
    File(PathBuf),
    /// Whoever started the server read the file, because the server may not.
    Given(Secret<[u8; 32]>),
    /// There is none: people hold shares of it.
    Absent,
}

impl SealKey {
    fn open_or_create(&self) -> Result<KeyFileSeal, StartError> {
        match self {
            Self::File(path) => Ok(KeyFileSeal::open_or_create(path)?),
            Self::Given(_) | Self::Absent => self.open(),
        }
    }

    /// Opens the seal of a store that exists.
    pub(crate) fn open(&self) -> Result<KeyFileSeal, StartError> {
        match self {
            Self::File(path) => Ok(KeyFileSeal::open(path)?),
            Self::Given(key) => Ok(KeyFileSeal::from_key(key.duplicate())),
            Self::Absent => Err(StartError::NoKey),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host's clock shows a time that this server does not start with.
    #[error("the server does not start by this clock")]
    Clock(#[from] ClockError),
    /// The data folder cannot be used.
    #[error("could not make folder `{path}`")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The store's file cannot be used, and was left as it is.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The barrier does not open.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// The writer did not start.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// The store is sealed by a key file, and there is none.
    #[error("the store is sealed by a key file, and the server was given none")]
    NoKey,
    /// What each cluster begins with could not be decided.
    #[error("could not prepare the store: {0}")]
    Prepare(String),
    /// An address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A server at work. Dropped, it stops at once; [`Self::stop`] lets requests end.
pub struct Server {
    plane: Plane,
    tasks: TaskGroup,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// A store with its barrier open, and the root token if both were just made.
pub type Opened = (Arc<dyn Store>, Arc<Unsealed>, Option<Secret<String>>);

/// Opens a store on disk and its barrier; makes both at the first start, and then also a root token,
/// which is shown this once.
pub fn open(config: &ServerConfig, cluster: ClusterId) -> Result<Opened, StartError> {
    let store = open_store(config)?;
    if Barrier::is_initialised(&*store)? {
        let seal = config.seal.open()?;
        let barrier = Barrier::unseal(&*store, &seal)?;
        return Ok((store, barrier, None));
    }
    let seal = config.seal.open_or_create()?;
    let (barrier, root) = initialise(&*store, &seal, cluster, None)?;
    Ok((store, barrier, Some(root)))
}

/// Opens a store on disk, for its owner alone; makes it if it is missing.
pub(crate) fn open_store(config: &ServerConfig) -> Result<Arc<dyn Store>, StartError> {
    let data = match &config.storage {
        Storage::Memory => return Ok(Arc::new(RedbStore::in_memory()?)),
        Storage::Folder(data) => data,
    };
    let folder = |source| StartError::Folder {
        path: data.clone(),
        source,
    };
    create_private_dir(data).map_err(folder)?;
    // What is in a store that this program or this seal cannot read is not touched.
    let check = |store: &dyn Store| -> Result<(), StartError> {
        if let Some(by) = Barrier::sealed_by(store)?
            && by.others.iter().any(|name| name == "key-file")
            && !matches!(config.seal, SealKey::Absent)
        {
            Barrier::unseal(store, &config.seal.open()?)?;
        }
        Ok(())
    };
    let store = RedbStore::open_checked(&data.join(STORE_FILE), check)?;
    let store = Arc::new(store);
    narrow(&data.join(STORE_FILE)).map_err(folder)?;
    Ok(store)
}

/// Starts a server on an open store, as a configuration says.
pub(crate) fn on_open_store(
    store: Arc<dyn Store>,
    barrier: Arc<Unsealed>,
    registry: Registry,
    config: &ServerConfig,
    seal: String,
) -> Result<Server, StartError> {
    let highest = writer::highest_time(&*store, &barrier)?;
    if let Storage::Folder(data) = &config.storage {
        clock::check(highest, bastide_linux::clock::wall(), data)?;
    }
    add_mounts(&*store, &barrier)?;
    let info = ServerInfo {
        version: VAULT_VERSION.to_owned(),
        cluster_name: config.cluster_name.clone(),
        cluster_id: barrier.cluster().to_string(),
        storage: config.storage_kind(),
        seal,
        audit: config
            .audit
            .iter()
            .map(|file| AuditDevice {
                path: "file/".to_owned(),
                file: file.path.display().to_string(),
            })
            .collect(),
        audit_by_api: config.compat == Compat::Vault,
        started: now(),
        compat: config.compat,
        ttls: config.ttls,
        lockouts: config.lockouts.clone(),
    };
    Server::on(store, barrier, registry, info, config.audit.clone())
}

/// Adds the mounts that each cluster has now and that this one, made by an earlier version, lacks.
fn add_mounts(store: &dyn Store, barrier: &Arc<Unsealed>) -> Result<(), StartError> {
    let snapshot = OpenSnapshot::new(store.snapshot()?, Arc::clone(barrier));
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).expect("the system's random source answers");
    let entropy = Entropy::new(&Secret::new(seed));
    let mut draft = Draft::new(&snapshot, now(), entropy, &[]);
    let prepared = |error: String| StartError::Prepare(error);
    Registry::mount_fixed(&mut draft).map_err(|error| prepared(format!("{error:?}")))?;
    let (batch, _) = draft.finish();
    if batch.ops.is_empty() {
        return Ok(());
    }
    let batch = barrier.seal_batch(batch);
    let mut begun = store.begin()?;
    let applied = begun.apply(&batch)?;
    applied.map_err(|_| prepared("somebody else writes to the store".to_owned()))?;
    begun.commit()?;
    Ok(())
}

fn create_private_dir(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

fn narrow(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// Makes the barrier of an empty store, the mounts and policies that each cluster begins with, and a
/// root token: `root` if it is given, else a random one. All of it is one commit.
pub fn initialise(
    store: &dyn Store,
    seal: &dyn Seal,
    cluster: ClusterId,
    root: Option<Secret<String>>,
) -> Result<(Arc<Unsealed>, Secret<String>), StartError> {
    initialise_by(store, &[seal], cluster, root, Compat::Strict)
}

/// As [`initialise`], by several seals; where the server is to be taken for Vault, nothing is mounted
/// at `secret/`.
fn initialise_by(
    store: &dyn Store,
    seals: &[&dyn Seal],
    cluster: ClusterId,
    root: Option<Secret<String>>,
    compat: Compat,
) -> Result<(Arc<Unsealed>, Secret<String>), StartError> {
    let mut token = None;
    let barrier = Barrier::initialise_with(store, seals, cluster, |barrier| {
        let (text, batch) = first_contents(store, barrier, root, compat)?;
        token = Some(text);
        Ok::<_, StartError>(batch)
    })?;
    let token = token.expect("a store that was made has a root token");
    Ok((barrier, token))
}

/// What an initialisation gives out, once: nobody keeps it.
pub struct Made {
    /// The shares of the seal's key.
    pub shares: Vec<Share>,
    /// The root token.
    pub root: Secret<String>,
}

/// As [`initialise`], sealed by shares of a key that is drawn here, and by others.
pub(crate) fn initialise_shared(
    store: &dyn Store,
    others: &[Arc<dyn Seal>],
    sharing: Sharing,
    cluster: ClusterId,
    compat: Compat,
) -> Result<(Arc<Unsealed>, Made), StartError> {
    let (seal, shares) = ShamirSeal::split(sharing);
    let mut seals: Vec<&dyn Seal> = vec![&seal];
    seals.extend(others.iter().map(|other| &**other));
    let (barrier, root) = initialise_by(store, &seals, cluster, None, compat)?;
    Ok((barrier, Made { shares, root }))
}

/// Decides what each cluster begins with; returns the root token beside it.
fn first_contents(
    store: &dyn Store,
    barrier: &Arc<Unsealed>,
    root: Option<Secret<String>>,
    compat: Compat,
) -> Result<(Secret<String>, Batch), StartError> {
    let snapshot = OpenSnapshot::new(store.snapshot()?, Arc::clone(barrier));
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).expect("the system's random source answers");
    let entropy = Entropy::new(&Secret::new(seed));
    let now = now();
    let mut draft = Draft::new(&snapshot, now, entropy, &[]);
    let token = decide_first(&mut draft, root, compat)
        .map_err(|error| StartError::Prepare(format!("{error:?}")))?;
    let (batch, _) = draft.finish();
    Ok((token, batch))
}

fn decide_first(
    draft: &mut Draft<'_>,
    root: Option<Secret<String>>,
    compat: Compat,
) -> Result<Secret<String>, Refusal> {
    Registry::mount_fixed(draft)?;
    let default = builtin::DEFAULT.as_bytes().to_vec();
    draft.put(
        bastide_store::Key::new(tables::POLICIES, "default"),
        default,
    )?;
    if compat == Compat::Strict {
        let path = MountPath::parse("secret").expect("a valid path");
        let mut secret = Mount::new(draft.entropy(), path, "kv");
        secret.options.insert("version".to_owned(), "2".to_owned());
        "key/value secret storage".clone_into(&mut secret.description);
        mounts::save(draft, &secret)?;
    }
    let mounts = draft.mounts()?;
    let mount = mounts
        .at("auth/token/")
        .expect("a fixed mount was just made");
    let new = NewToken {
        policies: vec!["root".to_owned()],
        path: "auth/token/root".to_owned(),
        display_name: "root".to_owned(),
        eternal: true,
        text: root,
        no_default_policy: true,
        ..NewToken::default()
    };
    let (text, _) = tokens::create(draft, mount, new)?;
    Ok(text)
}

impl Server {
    /// Starts a server on the store in `config.data`; at the first start it is made, and a root
    /// token returned. Must be called within a tokio runtime.
    pub fn start(
        config: &ServerConfig,
        cluster: ClusterId,
        registry: Registry,
    ) -> Result<(Self, Option<Secret<String>>), StartError> {
        let (store, barrier, root) = open(config, cluster)?;
        let server = on_open_store(store, barrier, registry, config, "key-file".to_owned())?;
        Ok((server, root))
    }

    /// Makes a store that is sealed by shares, and starts a server on it, open this once. Fails if
    /// there is a store already. Must be called within a tokio runtime.
    pub fn start_shared(
        config: &ServerConfig,
        cluster: ClusterId,
        registry: Registry,
        sharing: Sharing,
    ) -> Result<(Self, Made), StartError> {
        let store = open_store(config)?;
        let (barrier, made) = initialise_shared(&*store, &[], sharing, cluster, config.compat)?;
        let server = on_open_store(store, barrier, registry, config, BY_SHARES.to_owned())?;
        Ok((server, made))
    }

    /// Starts a server on an open store.
    pub fn on(
        store: Arc<dyn Store>,
        barrier: Arc<Unsealed>,
        registry: Registry,
        info: ServerInfo,
        audit: Option<AuditTo>,
    ) -> Result<Self, StartError> {
        let (plane, writer) = Plane::start(store, barrier, registry, info, audit)?;
        let mut this = Self {
            plane,
            tasks: TaskGroup::new(),
            writer: Some(writer),
        };
        let (plane, stop) = (this.plane.clone(), this.stop_token());
        this.spawn("expiry", async move {
            loop {
                let wait = plane.tend().await;
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        });
        Ok(this)
    }

    /// Returns the control plane, to be called without HTTP.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Returns when the store takes no more writes: after that only a new start mends it, and until
    /// then nothing that writes or is audited is served.
    pub async fn failed(&self) {
        self.plane.failed().await;
    }

    /// Listens on `address`; port 0 is any free one. Returns the address listened on.
    pub async fn listen(
        &mut self,
        address: SocketAddr,
        security: Security,
        door: Door,
    ) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.serve(listener, security, door);
        Ok(bound)
    }

    /// Serves the connections of a listener.
    pub fn serve(&mut self, listener: TcpListener, security: Security, door: Door) {
        let (plane, stop) = (self.plane.clone(), self.stop_token());
        self.spawn(
            "listener",
            listen::serve(listener, security, door, Front::Plane(plane), stop),
        );
    }

    /// Returns what is cancelled when the server stops.
    pub fn stop_token(&self) -> CancellationToken {
        self.tasks.stop_token()
    }

    /// Runs a task until the server stops; it must heed [`Self::stop_token`].
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(name, async move {
            task.await;
            Ok::<_, Infallible>(())
        });
    }

    /// Stops: accepts nothing new, lets open requests end within seconds, and closes store and
    /// audit file.
    pub async fn stop(self) {
        let Self {
            plane,
            tasks,
            writer,
        } = self;
        let by = Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
        let (failed, aborted) = tasks.shutdown(by).await;
        if let Some(error) = failed {
            tracing::error!(cause = ?error, "a task of the server failed");
        }
        if !aborted.is_empty() {
            tracing::warn!(tasks = ?aborted, "tasks of the server did not end in time");
        }
        plane.stop().await;
        drop(plane);
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

pub(crate) fn now() -> UnixTime {
    Clock::leading(None).now()
}
