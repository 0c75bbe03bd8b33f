//! The keeper: owns store, shares and plane, and makes every step between them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bastide_client::TaskGroup;
use bastide_store::{
    Barrier, BarrierError, Seal, SealError, SealedBy, ShamirSeal, Share, Sharing, Store, Unsealed,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rekey::Rekey;
use super::root::Root;
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
    /// What opens the store, once there is one.
    pub(super) sealed_by: Option<SealedBy>,
    given: Vec<Share>,
    pub(super) rekey: Option<Rekey>,
    pub(super) root: Option<Root>,
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
        let sealed_by = Barrier::sealed_by(&*store).map_err(StartError::from)?;
        let phase = match &sealed_by {
            None => Phase::Empty,
            Some(_) => Phase::Sealed,
        };
        let (state, seen) = watch::channel(State {
            phase,
            turn: CancellationToken::new(),
            sharing: sealed_by.as_ref().and_then(|it| it.sharing),
            kind: kind(sealed_by.as_ref(), &config.seals),
            storage: config.server.storage_kind(),
            progress: 0,
            nonce: String::new(),
        });
        let this = Self {
            store,
            config,
            crew,
            sealed_by,
            given: Vec::new(),
            rekey: None,
            root: None,
            server: None,
            state,
            broken,
            listeners: TaskGroup::new(),
        };
        Ok((this, seen))
    }

    /// Opens what a key file opens, and lets what waits sealed listen.
    pub(super) async fn begin(mut self, gate: Gate) -> Result<Working, OpenError> {
        match self.sealed_by.clone() {
            Some(by) => match self.open_by_itself(&by).await {
                Ok(Some(barrier)) => self.open(barrier, &gate).await?,
                Err(error) if by.sharing.is_none() => return Err(error.into()),
                other => {
                    if let Err(error) = other {
                        tracing::error!(cause = ?error, "the server does not open by itself");
                    }
                    for post in self.crew.wait()? {
                        attend(&mut self.listeners, &gate, post);
                    }
                    if let Some(sharing) = by.sharing {
                        let (t, n) = (sharing.threshold(), sharing.shares());
                        tracing::warn!(
                            "the server is sealed: {t} of {n} shares open it with `bastide unseal`"
                        );
                    }
                }
            },
            None => tracing::warn!("the server has no store yet"),
        }
        // The key is not needed again: sealed, only a new start reads it.
        self.config.server.seal = SealKey::Absent;
        Ok(Working { keeper: self, gate })
    }

    /// Opens the barrier with what opens it without people; `None` if nothing does.
    async fn open_by_itself(&self, by: &SealedBy) -> Result<Option<Arc<Unsealed>>, StartError> {
        let mut failed = None;
        for name in &by.others {
            let named = |seal: &&Arc<dyn Seal>| seal.name() == name;
            let seal: Arc<dyn Seal> = match self.config.seals.iter().find(named) {
                Some(seal) => Arc::clone(seal),
                None => match self.config.server.seal.open() {
                    Ok(seal) => Arc::new(seal),
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                },
            };
            let store = Arc::clone(&self.store);
            // It may ask a device, or another server.
            let opened = tokio::task::spawn_blocking(move || Barrier::unseal(&*store, &*seal));
            match opened.await {
                Ok(Ok(barrier)) => return Ok(Some(barrier)),
                Ok(Err(error)) => failed = Some(error.into()),
                Err(error) => failed = Some(StartError::Prepare(error.to_string())),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Has those seals open the store that are to, and no others.
    async fn arrange_seals(&mut self, barrier: &Arc<Unsealed>) -> Result<(), StartError> {
        let by = self.sealed_by.clone().unwrap_or_default();
        let is_new = |seal: &&Arc<dyn Seal>| !by.others.iter().any(|name| name == seal.name());
        let new: Vec<_> = self.config.seals.iter().filter(is_new).cloned().collect();
        let gone = self.config.seals_disabled.iter();
        let gone: Vec<_> = gone
            .filter(|name| by.others.contains(name))
            .cloned()
            .collect();
        if new.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let (store, barrier) = (Arc::clone(&self.store), Arc::clone(barrier));
        let arranged = tokio::task::spawn_blocking(move || {
            for seal in new {
                Barrier::reseal(&*store, &barrier, &*seal)?;
                tracing::warn!(seal = seal.name(), "this opens the store too from now on");
            }
            for name in gone {
                Barrier::drop_seal(&*store, &name)?;
                tracing::warn!(seal = name, "this opens the store no longer");
            }
            Ok::<_, BarrierError>(())
        });
        arranged
            .await
            .map_err(|error| StartError::Prepare(error.to_string()))??;
        self.sealed_by = Barrier::sealed_by(&*self.store)?;
        Ok(())
    }

    async fn handle(&mut self, command: Command, gate: &Gate) {
        // Whoever asked may be gone; the step was made all the same.
        match command {
            Command::Init { sharing, done } => {
                let _ = done.send(self.init(sharing, gate).await);
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
            Command::Ceremony { of, ask, by, done } => {
                let _ = done.send(self.ceremony(of, ask, by).await);
            }
        }
    }

    async fn init(&mut self, sharing: Sharing, gate: &Gate) -> Result<Made, GateError> {
        if self.sealed_by.is_some() {
            return Err(GateError::Initialised);
        }
        let (store, cluster) = (Arc::clone(&self.store), self.config.cluster);
        let compat = self.config.server.compat;
        let seals = self.config.seals.clone();
        let opens = !seals.is_empty();
        let made = tokio::task::spawn_blocking(move || {
            server::initialise_shared(&*store, &seals, sharing, cluster, compat)
        });
        let made = made.await.map_err(|error| failed_to(&error, "finish"))?;
        let (barrier, made) = made.map_err(|error| failed_to(&error, "make the store"))?;
        self.sealed_by = Barrier::sealed_by(&*self.store)
            .map_err(|error| failed_to(&error, "read what seals the store"))?;
        self.turn(Phase::Sealed);
        // Shares and root token are given out whatever comes now: nobody has them otherwise.
        if opens && let Err(error) = self.open(barrier, gate).await {
            let _ = failed_to(&error, "come up");
        }
        let (t, n) = (sharing.threshold(), sharing.shares());
        tracing::info!(threshold = t, shares = n, "store initialised and sealed");
        Ok(made)
    }

    async fn take(&mut self, share: Share, gate: &Gate) -> Result<(), GateError> {
        if self.sealed_by.is_none() {
            return Err(GateError::NotInitialised);
        }
        if self.server.is_some() {
            return Ok(());
        }
        let sharing = self.sharing().ok_or(GateError::NotByShares)?;
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
        self.arrange_seals(&barrier).await?;
        let seal = kind(self.sealed_by.as_ref(), &self.config.seals);
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
        self.root = None;
        self.turn(Phase::Sealed);
        self.crew.close();
        server.stop().await;
        released(&held).await?;
        tracing::warn!("the server is sealed, and the barrier's keys are gone from memory");
        Ok(())
    }

    /// Returns how the key is shared out, if people hold shares of it.
    pub(super) fn sharing(&self) -> Option<Sharing> {
        self.sealed_by.as_ref()?.sharing
    }

    /// Other shares open the store from now on.
    pub(super) fn set_sharing(&mut self, to: Sharing) {
        if let Some(by) = &mut self.sealed_by {
            by.sharing = Some(to);
        }
        self.state.send_modify(|state| state.sharing = Some(to));
    }

    fn turn(&self, phase: Phase) {
        let (sharing, kind) = (
            self.sharing(),
            kind(self.sealed_by.as_ref(), &self.config.seals),
        );
        self.state.send_modify(|state| {
            state.turn.cancel();
            *state = State {
                phase,
                turn: CancellationToken::new(),
                sharing,
                kind,
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

/// Says in one word what opens a store: what does so by itself, or shares.
fn kind(sealed_by: Option<&SealedBy>, seals: &[Arc<dyn Seal>]) -> String {
    let other = match sealed_by {
        Some(by) => by.others.first().map(String::as_str),
        None => seals.first().map(|seal| seal.name()),
    };
    other.unwrap_or(server::BY_SHARES).to_owned()
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

#[cfg(test)]
mod tests;
