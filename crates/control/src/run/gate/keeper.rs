//! The keeper: owns store, shares and plane, and makes every step between them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bastide_client::TaskGroup;
use bastide_store::{
    Barrier, BarrierError, SealError, SealKind, ShamirSeal, Share, Sharing, Store, Unsealed,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rekey::Rekey;
use super::{Command, Crew, Gate, GateConfig, GateError, OpenError, Phase, State, attend};
use crate::run::plane::request_id;
use crate::run::server::{self, Made, SealKey, Server, StartError};

/// How long whoever holds a key of the barrier may take to let go of it, once the plane is stopped.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether all did.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the keeper's listeners may take to end.
const SHUTDOWN_SECS_MAX: u64 = 10;

pub(super) struct Keeper {
    pub(super) store: Arc<dyn Store>,
    config: GateConfig,
    crew: Box<dyn Crew>,
    pub(super) kind: Option<SealKind>,
    given: Vec<Share>,
    pub(super) rekey: Option<Rekey>,
    pub(super) server: Option<Server>,
    pub(super) state: watch::Sender<State>,
    broken: watch::Sender<bool>,
    listeners: TaskGroup,
}

impl Keeper {
    /// Opens the store. Nothing runs yet.
    pub(super) fn new(
        config: GateConfig,
        crew: Box<dyn Crew>,
        broken: watch::Sender<bool>,
    ) -> Result<(Self, watch::Receiver<State>), OpenError> {
        let store: Arc<dyn Store> = server::open_store(&config.server)?;
        let kind = Barrier::sealed_by(&*store).map_err(StartError::from)?;
        let phase = match &kind {
            None => Phase::Empty,
            Some(_) => Phase::Sealed,
        };
        let (state, seen) = watch::channel(State {
            phase,
            turn: CancellationToken::new(),
            sharing: sharing(kind.as_ref()),
            storage: config.server.storage_kind(),
            progress: 0,
            nonce: String::new(),
        });
        let this = Self {
            store,
            config,
            crew,
            kind,
            given: Vec::new(),
            rekey: None,
            server: None,
            state,
            broken,
            listeners: TaskGroup::new(),
        };
        Ok((this, seen))
    }

    /// Opens what a key file opens, and lets what waits sealed listen.
    pub(super) async fn begin(mut self, gate: Gate) -> Result<Working, OpenError> {
        match &self.kind {
            Some(SealKind::Other(_)) => {
                let seal = self.config.server.seal.open()?;
                let barrier = Barrier::unseal(&*self.store, &seal).map_err(StartError::from)?;
                self.open(barrier, &gate).await?;
            }
            Some(SealKind::Shares(sharing)) => {
                for post in self.crew.wait()? {
                    attend(&mut self.listeners, &gate, post);
                }
                let (t, n) = (sharing.threshold(), sharing.shares());
                tracing::warn!(
                    "the server is sealed: {t} of {n} shares open it with `bastide unseal`"
                );
            }
            None => tracing::warn!("the server has no store yet"),
        }
        // The key is not needed again: sealed, only a new start reads it.
        self.config.server.seal = SealKey::Absent;
        Ok(Working { keeper: self, gate })
    }

    async fn handle(&mut self, command: Command, gate: &Gate) {
        // Whoever asked may be gone; the step was made all the same.
        match command {
            Command::Init { sharing, done } => {
                let _ = done.send(self.init(sharing).await);
            }
            Command::Unseal { share, done } => {
                let _ = done.send(self.take(share, gate).await);
            }
            Command::Reset { done } => {
                let _ = done.send(self.reset());
            }
            Command::Seal { done } => {
                let _ = done.send(self.seal().await);
            }
            Command::Rekey { ask, done } => {
                let _ = done.send(self.rekey(ask));
            }
        }
    }

    async fn init(&mut self, sharing: Sharing) -> Result<Made, GateError> {
        if self.kind.is_some() {
            return Err(GateError::Initialised);
        }
        let (store, cluster) = (Arc::clone(&self.store), self.config.cluster);
        let compat = self.config.server.compat;
        let made = tokio::task::spawn_blocking(move || {
            server::initialise_shared(&*store, sharing, cluster, compat).map(|(_, made)| made)
        });
        let made = made.await.map_err(|error| failed_to(&error, "finish"))?;
        let made = made.map_err(|error| failed_to(&error, "make the store"))?;
        self.kind = Some(SealKind::Shares(sharing));
        self.turn(Phase::Sealed);
        let (t, n) = (sharing.threshold(), sharing.shares());
        tracing::info!(threshold = t, shares = n, "store initialised and sealed");
        Ok(made)
    }

    async fn take(&mut self, share: Share, gate: &Gate) -> Result<(), GateError> {
        let sharing = match &self.kind {
            None => return Err(GateError::NotInitialised),
            _ if self.server.is_some() => return Ok(()),
            Some(SealKind::Other(_)) => return Err(GateError::NotByShares),
            Some(SealKind::Shares(sharing)) => *sharing,
        };
        let bytes = sharing.share_bytes();
        if share.expose().len() != bytes {
            return Err(GateError::Length { bytes });
        }
        if self.given.iter().any(|known| is_same(known, &share)) {
            return Ok(());
        }
        self.given.push(share);
        if self.given.len() < usize::from(sharing.threshold()) {
            self.tell_progress();
            return Ok(());
        }
        let opened = ShamirSeal::combine(sharing, &std::mem::take(&mut self.given))
            .map_err(BarrierError::from)
            .and_then(|seal| Barrier::unseal(&*self.store, &seal));
        self.tell_progress();
        match opened {
            Ok(barrier) => {
                let opened = self.open(barrier, gate).await;
                opened.map_err(|error| failed_to(&error, "come up"))
            }
            Err(BarrierError::Seal(error @ SealError::Shares)) => {
                tracing::warn!("shares that do not open this store were given");
                Err(GateError::Shares(error))
            }
            Err(error) => Err(failed_to(&error, "open the barrier")),
        }
    }

    fn reset(&mut self) -> Result<(), GateError> {
        if self.server.is_some() {
            return Err(GateError::Unsealed);
        }
        self.given.clear();
        self.tell_progress();
        Ok(())
    }

    /// Starts plane and crew on an open barrier, and lets requests in.
    async fn open(&mut self, barrier: Arc<Unsealed>, gate: &Gate) -> Result<(), OpenError> {
        let seal = match self.kind {
            Some(SealKind::Shares(_)) => server::BY_SHARES,
            _ => "key-file",
        };
        let held = Arc::downgrade(&barrier);
        let started = server::on_open_store(
            Arc::clone(&self.store),
            barrier,
            (self.config.registry)(),
            &self.config.server,
            seal,
        );
        let mut server = started?;
        match self.crew.open(&mut server).await {
            Ok(posts) => {
                for post in posts {
                    attend(&mut self.listeners, gate, post);
                }
            }
            Err(error) => {
                self.crew.close();
                server.stop().await;
                let _ = released(&held).await;
                return Err(error.into());
            }
        }
        self.turn(Phase::Open(server.plane().clone()));
        self.server = Some(server);
        tracing::info!("the barrier is open");
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), GateError> {
        let Some(server) = self.server.take() else {
            return Ok(());
        };
        let held = Arc::downgrade(server.plane().barrier());
        self.rekey = None;
        self.turn(Phase::Sealed);
        self.crew.close();
        server.stop().await;
        released(&held).await?;
        tracing::warn!("the server is sealed, and the barrier's keys are gone from memory");
        Ok(())
    }

    fn turn(&self, phase: Phase) {
        let sharing = sharing(self.kind.as_ref());
        self.state.send_modify(|state| {
            state.turn.cancel();
            *state = State {
                phase,
                turn: CancellationToken::new(),
                sharing,
                storage: state.storage,
                progress: 0,
                nonce: String::new(),
            };
        });
    }

    fn tell_progress(&self) {
        let progress = self.given.len();
        self.state.send_modify(|state| {
            state.progress = progress;
            if progress == 0 {
                state.nonce.clear();
            } else if state.nonce.is_empty() {
                state.nonce = request_id();
            }
        });
    }
}

fn sharing(kind: Option<&SealKind>) -> Option<Sharing> {
    match kind {
        Some(SealKind::Shares(sharing)) => Some(*sharing),
        Some(SealKind::Other(_)) | None => None,
    }
}

/// Whoever gave all shares is told why they did not suffice; the causes are in the log.
pub(super) fn failed_to(error: &dyn std::error::Error, what: &str) -> GateError {
    tracing::error!(what, cause = ?error, "a step of the gate failed");
    GateError::Failed(error.to_string())
}

fn is_same(one: &Share, other: &Share) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.expose(), other.expose()).is_ok()
}

/// Waits until nobody holds the barrier's keys.
async fn released(held: &Weak<Unsealed>) -> Result<(), GateError> {
    let by = Instant::now() + RELEASE_WITHIN;
    while 0 < held.strong_count() {
        if by < Instant::now() {
            tracing::error!(
                holders = held.strong_count(),
                "the barrier's keys are still held"
            );
            return Err(GateError::Held);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// A keeper that has begun.
pub(super) struct Working {
    keeper: Keeper,
    gate: Gate,
}

impl Working {
    /// Makes the steps that are asked for, until `stop`.
    pub(super) async fn run(self, mut asked: mpsc::Receiver<Command>, stop: CancellationToken) {
        let Self { mut keeper, gate } = self;
        loop {
            let is_broken = *keeper.broken.borrow();
            let command = tokio::select! {
                () = stop.cancelled() => break,
                () = failed(keeper.server.as_ref()), if !is_broken => None,
                command = asked.recv() => match command {
                    Some(command) => Some(command),
                    None => break,
                },
            };
            match command {
                Some(command) => keeper.handle(command, &gate).await,
                None => {
                    keeper.broken.send_replace(true);
                }
            }
        }
        let by = Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
        let (_, aborted) = keeper.listeners.shutdown(by).await;
        if !aborted.is_empty() {
            tracing::warn!(tasks = ?aborted, "listeners did not end in time");
        }
        if let Some(server) = keeper.server.take() {
            server.stop().await;
        }
    }
}

async fn failed(server: Option<&Server>) {
    match server {
        Some(server) => server.failed().await,
        None => std::future::pending().await,
    }
}
