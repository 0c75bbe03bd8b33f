//! The gate: between the listeners, which stay, and the plane, which is there while the barrier is
//! open.
//!
//! ```text
//!            init                 shares, threshold reached
//!   Empty ----------> Sealed ------------------------------> Open(plane, writer, expiry, crew)
//!                        ^                                      |
//!                        '------------------ seal --------------'   keys dropped, nothing written
//! ```
//!
//! Sealed, it answers `sys/init`, `sys/seal-status`, `sys/unseal`, `sys/leader` and `sys/health` itself,
//! and all else with 503. One task, the keeper, owns the state and makes every step of it; a step once
//! begun goes on though whoever asked for it is gone.

pub(crate) mod answers;
pub(crate) mod ceremony;
mod gather;
mod keeper;
mod rekey;
mod root;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::ClusterId;
use bastide_client::TaskGroup;
use bastide_store::{Seal, SealError, Share, Sharing};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::registry::Registry;
use crate::core::reply::Asker;
use crate::run::channel::ControllerError;
use crate::run::http::Door;
use crate::run::listen::{self, Front, Security};
use crate::run::plane::Plane;
use crate::run::server::{Made, Server, ServerConfig, StartError};

use ceremony::{Ask, Of, Told};
use keeper::Keeper;

/// Steps that may wait: whoever asks while so many wait is told that the server is busy.
const COMMANDS_MAX: usize = 64;
/// How long listeners, plane and writer may take to end.
const SHUTDOWN_SECS_MAX: u64 = 20;

/// What a server behind a gate is made of.
pub struct GateConfig {
    /// Store, audit file and name. Its seal opens a store that is sealed by a key file.
    pub server: ServerConfig,
    /// What a store that is not yet initialised becomes.
    pub cluster: ClusterId,
    /// The engines.
    pub registry: fn() -> Registry,
    /// What else opens the store by itself, beside the server's key; a store that they do not open yet
    /// is sealed by them too, once it is open.
    pub seals: Vec<Arc<dyn Seal>>,
    /// Kinds of seals that open the store no longer, once it is open.
    pub seals_disabled: Vec<String>,
}

/// What runs beside an open plane, and the listeners that it needs.
pub trait Crew: Send {
    /// Called each time the barrier has opened, before anybody is served. Returns listeners that are
    /// to be served from now on, sealed or not.
    fn open<'a>(
        &'a mut self,
        server: &'a mut Server,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Post>, ControllerError>> + Send + 'a>>;

    /// Called when the barrier is about to close: lets go of the plane.
    fn close(&mut self);

    /// Called when the server starts sealed. Returns listeners, as [`Self::open`] does.
    fn wait(&mut self) -> Result<Vec<Post>, ControllerError>;
}

/// A listener, and how it is served.
pub struct Post {
    /// Where connections come from.
    pub listener: TcpListener,
    /// How they are secured.
    pub security: Security,
    /// What they may ask for.
    pub door: Door,
}

/// Nothing runs beside the plane.
pub struct NoCrew;

impl Crew for NoCrew {
    fn open<'a>(
        &'a mut self,
        _server: &'a mut Server,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Post>, ControllerError>> + Send + 'a>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn close(&mut self) {}

    fn wait(&mut self) -> Result<Vec<Post>, ControllerError> {
        Ok(Vec::new())
    }
}

/// Why a server did not start or did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Store, seal, barrier or writer.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What runs beside the plane.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// A socket of this host cannot be listened on.
    #[error("could not listen on `{path}`")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Why a step of the gate was not made.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// There is a store already.
    #[error("Vault is already initialized")]
    Initialised,
    /// There is no store yet.
    #[error("server is not yet initialized")]
    NotInitialised,
    /// Nobody holds shares of this store's key.
    #[error("this server is not sealed by shares: it opens with its key file when it is started")]
    NotByShares,
    /// A share of another length.
    #[error("a share of this store has {bytes} bytes")]
    Length {
        /// The right length.
        bytes: usize,
    },
    /// The shares do not open the store; all of them are forgotten.
    #[error("{0}; progress is reset")]
    Shares(#[source] SealError),
    /// There is nothing to reset.
    #[error("vault is unsealed")]
    Unsealed,
    /// It takes an open server.
    #[error("Vault is sealed")]
    Sealed,
    /// Another change of shares is on its way.
    #[error("rekey already in progress")]
    RekeyBegun,
    /// No change of shares is on its way.
    #[error("no rekey in progress")]
    NoRekey,
    /// New shares were given out, and wait to be shown.
    #[error("rekey operation already finished; verification must be performed")]
    Unverified,
    /// No new shares wait to be shown.
    #[error("no rekey verification operation in progress")]
    NoVerification,
    /// The shares that were shown are not the new ones; all of them are forgotten.
    #[error("rekey verification failed; one of the shares at least is not of the new ones")]
    NotVerified,
    /// Another root token is on its way.
    #[error("root generation already in progress")]
    RootBegun,
    /// No root token is on its way.
    #[error("no root generation in progress")]
    NoRoot,
    /// A password that no root token can be encoded with.
    #[error("OTP string is wrong length")]
    OtpLength,
    /// A share was meant for something else.
    #[error("incorrect nonce supplied for this operation")]
    Nonce,
    /// Whoever asks may not end what others began.
    #[error("only who knows its nonce, or has a token that may, can cancel this")]
    CancelNonce,
    /// The store's key is right, but the server did not come up. It stays sealed.
    #[error("the server did not come up: {0}")]
    Failed(String),
    /// Somebody still held the barrier's keys when the time was up.
    #[error("the server is sealed, but a key may still be in memory: restart it")]
    Held,
    /// Too many ask at once, or the server ends.
    #[error("the server is busy or ends")]
    Busy,
}

/// What the server is at present.
#[derive(Clone)]
pub(crate) enum Phase {
    /// It has no store yet.
    Empty,
    /// The barrier is closed.
    Sealed,
    /// The barrier is open.
    Open(Plane),
}

/// What is told of the server at present.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Cancelled when the phase ends.
    pub(crate) turn: CancellationToken,
    pub(crate) sharing: Option<Sharing>,
    /// What seals it, in one word.
    pub(crate) kind: String,
    /// Where the store is: `file` or `inmem`.
    pub(crate) storage: &'static str,
    /// How many shares were given.
    pub(crate) progress: usize,
    /// Which attempt they belong to; empty without one.
    pub(crate) nonce: String,
}

/// What the keeper is asked for.
pub(crate) enum Command {
    Init {
        sharing: Sharing,
        done: oneshot::Sender<Result<Made, GateError>>,
    },
    Unseal {
        share: Share,
        done: oneshot::Sender<Result<(), GateError>>,
    },
    Reset {
        done: oneshot::Sender<Result<(), GateError>>,
    },
    Seal {
        done: oneshot::Sender<Result<(), GateError>>,
    },
    Ceremony {
        of: Of,
        ask: Ask,
        by: Asker,
        done: oneshot::Sender<Result<Told, GateError>>,
    },
}

/// A handle on the gate. Cheap to clone; it holds no plane.
#[derive(Clone)]
pub struct Gate {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
}

impl Gate {
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns the plane while the barrier is open. Do not keep it: a seal waits for it.
    pub fn plane(&self) -> Option<Plane> {
        match self.state().phase {
            Phase::Open(plane) => Some(plane),
            Phase::Empty | Phase::Sealed => None,
        }
    }

    /// Returns whether there is a store.
    pub fn is_initialised(&self) -> bool {
        !matches!(self.state().phase, Phase::Empty)
    }

    /// Makes store, barrier and root token in one commit, and seals them with shares. The server
    /// stays sealed.
    pub async fn init(&self, sharing: Sharing) -> Result<Made, GateError> {
        self.ask(|done| Command::Init { sharing, done }).await
    }

    /// Gives one share. With the last one that is needed the server opens, and is open when this
    /// returns.
    pub async fn unseal(&self, share: Share) -> Result<(), GateError> {
        self.ask(|done| Command::Unseal { share, done }).await
    }

    /// Forgets the shares that were given.
    pub async fn reset(&self) -> Result<(), GateError> {
        self.ask(|done| Command::Reset { done }).await
    }

    /// Closes the barrier: what was accepted is committed, everything that runs on the plane ends, and
    /// the keys are dropped. They are gone when this returns.
    pub async fn seal(&self) -> Result<(), GateError> {
        self.ask(|done| Command::Seal { done }).await
    }

    /// Does what people do with shares while the server is open.
    pub(crate) async fn ceremony(&self, of: Of, ask: Ask, by: Asker) -> Result<Told, GateError> {
        let command = |done| Command::Ceremony { of, ask, by, done };
        self.ask(command).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, GateError>>) -> Command,
    ) -> Result<T, GateError> {
        let (done, answer) = oneshot::channel();
        self.commands
            .try_send(command(done))
            .map_err(|_| GateError::Busy)?;
        answer.await.map_err(|_| GateError::Busy)?
    }
}

/// A server that can be sealed and opened without being started anew.
pub struct Gatehouse {
    gate: Gate,
    tasks: TaskGroup,
    broken: watch::Receiver<bool>,
    socket: Option<PathBuf>,
}

impl Gatehouse {
    /// Starts a server: open if its store is sealed by a key file, else sealed, or without a store.
    pub async fn start(config: GateConfig, crew: Box<dyn Crew>) -> Result<Self, OpenError> {
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let (broke, broken) = watch::channel(false);
        let (keeper, state) = Keeper::new(config, crew, broke)?;
        let gate = Gate { commands, state };
        let mut tasks = TaskGroup::new();
        let keeper = keeper.begin(gate.clone()).await?;
        let stop = tasks.stop_token();
        tasks.spawn("keeper", async move {
            keeper.run(asked, stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(Self {
            gate,
            tasks,
            broken,
            socket: None,
        })
    }

    /// Returns a handle on the gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Listens on `address`; port 0 is any free one. Returns the address listened on.
    pub async fn listen(
        &mut self,
        address: SocketAddr,
        security: Security,
        door: Door,
    ) -> Result<SocketAddr, OpenError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let post = Post {
            listener,
            security,
            door,
        };
        attend(&mut self.tasks, &self.gate, post);
        Ok(bound)
    }

    /// Listens on a socket of this host, for its user and root alone: the way in that needs no
    /// certificate. Replaces a socket that an earlier process left.
    pub fn listen_here(&mut self, path: &Path) -> Result<(), OpenError> {
        use std::os::unix::fs::PermissionsExt;
        let bind = || {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| OpenError::Socket {
            path: path.to_owned(),
            source,
        })?;
        self.socket = Some(path.to_owned());
        let (front, stop) = (Front::Gate(self.gate.clone()), self.tasks.stop_token());
        self.tasks.spawn("socket", async move {
            listen::serve_here(listener, front, stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(())
    }

    /// Returns when the store takes no more writes, until the server is started anew.
    pub async fn failed(&self) {
        let mut broken = self.broken.clone();
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops: accepts nothing new, lets open requests end within seconds, closes store and audit file.
    pub async fn stop(self) {
        if let Some(socket) = &self.socket {
            // One that stays is replaced by the next server.
            let _ = std::fs::remove_file(socket);
        }
        let by = Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
        let (failed, aborted) = self.tasks.shutdown(by).await;
        if let Some(error) = failed {
            tracing::error!(cause = ?error, "a task of the server failed");
        }
        if !aborted.is_empty() {
            tracing::warn!(tasks = ?aborted, "tasks of the server did not end in time");
        }
    }
}

/// Serves a listener until the group is told to end.
pub(crate) fn attend(tasks: &mut TaskGroup, gate: &Gate, post: Post) {
    let (front, stop) = (Front::Gate(gate.clone()), tasks.stop_token());
    tasks.spawn("listener", async move {
        listen::serve(post.listener, post.security, post.door, front, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
}
