//! The running control plane: what listeners, the agent's watch and tests call.

mod known;
mod quota;
mod upkeep;
pub(crate) mod work;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::rand;
use bastide_api::{Revision, Secret, UnixTime};
use bastide_linux::clock::Clock;
use bastide_pki::log::Hash;
use bastide_store::{OpenSnapshot, Store, Unsealed};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use zeroize::Zeroize;

use crate::core::draft::{Draft, WorkResult};
use crate::core::engine::{Call, Caller, Context, ServerInfo, World};
use crate::core::entropy::{Entropy, uuid};
use crate::core::facts::{Facts, Observation};
use crate::core::mounts::MountTable;
use crate::core::need::Need;
use crate::core::path::ApiPath;
use crate::core::pipeline::{self, Decision, Outcome, Response};
use crate::core::refusal::Refusal;
use crate::core::registry::Registry;
use crate::core::reply::Stream;
use crate::core::request::{Inside, Operation, Peer, Request};
use crate::run::audit_desk::{Desk, Noted};
use crate::run::audit_devices::{DeviceTable, Records};
use crate::run::directory::Directories;
use crate::run::fetch::Fetcher;
use crate::run::limits::Limits;
use crate::run::log_book::{self, Signed};
use crate::run::outbox::AuditTo;
use crate::run::writer::{self, Job, QUEUE_MAX, WriteError, Writer, WriterError};

/// How often a decision is made anew because something changed below it.
const ATTEMPTS_MAX: usize = 256;
/// Password hashes at a time: each takes 19 MiB and a core for some 15 ms.
const PASSWORDS_AT_ONCE: usize = 4;
/// Password hashes that may wait; beyond it logins are refused.
const PASSWORDS_WAITING_MAX: usize = 256;
/// Leases that one pass of the expiry ends.
const EXPIRED_MAX: usize = 500;
/// Lines of a stream that may wait for a slow reader.
pub const STREAM_LINES_MAX: usize = 1024;

/// The running control plane. Cheap to clone.
#[derive(Clone)]
pub struct Plane(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    barrier: Arc<Unsealed>,
    registry: Registry,
    server: ServerInfo,
    clock: Clock,
    facts: watch::Sender<Arc<Facts>>,
    commits: watch::Receiver<Revision>,
    broken: watch::Receiver<bool>,
    jobs: mpsc::Sender<Job>,
    /// Where what was only looked at is recorded.
    desk: Arc<Desk>,
    /// The newest snapshot, for all that reads before the next commit.
    newest: Mutex<Option<Arc<OpenSnapshot>>>,
    /// The mounts, and at which revision they were read.
    mounts: Mutex<Option<(Revision, Arc<MountTable>)>>,
    checkpoints: watch::Receiver<Option<Arc<Signed>>>,
    /// At which revision the policies were looked at last, and how often they had changed.
    policies: Mutex<(Revision, u64)>,
    /// The audit devices, and from which revision on they are.
    devices: Mutex<Option<(Revision, Arc<DeviceTable>)>>,
    /// How much each source may ask.
    limits: Limits,
    passwords: Semaphore,
    fetcher: Fetcher,
    directories: Directories,
    waiting: Semaphore,
    streams: OnceLock<Box<dyn Streams>>,
    /// Mounts whose upkeep failed the last time.
    failing: Mutex<BTreeSet<String>>,
}

/// Serves the streams that engines answer with.
pub trait Streams: Send + Sync {
    /// Begins a stream; it ends when the receiver is dropped or the sender is.
    fn open(&self, plane: &Plane, stream: Stream, peer: Peer) -> mpsc::Receiver<Bytes>;
}

impl Plane {
    /// Starts the control plane on an open store. Returns it and the writer's thread, which ends
    /// at [`Self::stop`] or when the last [`Plane`] is dropped.
    pub fn start(
        store: Arc<dyn Store>,
        barrier: Arc<Unsealed>,
        registry: Registry,
        server: ServerInfo,
        audit: Option<AuditTo>,
    ) -> Result<(Self, std::thread::JoinHandle<()>), WriterError> {
        let clock = Clock::leading(writer::highest_time(&*store, &barrier)?);
        let (commits, heard) = watch::channel(store.revision());
        let (jobs, taken) = mpsc::channel(QUEUE_MAX);
        let (broke, broken) = watch::channel(false);
        let writer = Writer::new(
            Arc::clone(&store),
            Arc::clone(&barrier),
            audit,
            clock.clone(),
            commits,
            broke,
        )?;
        let (checkpoints, desk) = (writer.checkpoints(), writer.desk());
        let thread = std::thread::Builder::new()
            .name("control-writer".to_owned())
            .spawn(move || writer.run(taken))
            .expect("a thread can be made at start");
        let plane = Self(Arc::new(Inner {
            store,
            barrier,
            registry,
            server,
            clock,
            facts: watch::channel(Arc::default()).0,
            commits: heard,
            broken,
            jobs,
            desk,
            newest: Mutex::new(None),
            mounts: Mutex::new(None),
            checkpoints,
            policies: Mutex::new((Revision(0), 0)),
            devices: Mutex::new(None),
            limits: Limits::default(),
            passwords: Semaphore::new(PASSWORDS_AT_ONCE),
            fetcher: Fetcher::default(),
            directories: Directories::default(),
            waiting: Semaphore::new(PASSWORDS_WAITING_MAX),
            streams: OnceLock::new(),
            failing: Mutex::default(),
        }));
        Ok((plane, thread))
    }

    /// Stops the writer: what was handed to it is committed, what comes later is refused.
    pub async fn stop(&self) {
        let _ = self.0.jobs.send(Job::Stop).await;
    }

    /// Looks after the audit file: it was moved away, and a new one is to be begun.
    pub async fn reopen_audit(&self) {
        let _ = self.0.jobs.send(Job::Reopen).await;
    }

    /// Hears of signed checkpoints of the server's own audit log.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Arc<Signed>>> {
        self.0.checkpoints.clone()
    }

    /// Proves that the audit log of `to` lines begins with that of `from` lines; `None` if that is too
    /// long ago.
    pub fn log_proof(&self, from: u64, to: u64) -> Result<Option<Vec<Hash>>, Refusal> {
        let snapshot = self.snapshot()?;
        Ok(log_book::proof(&snapshot, from, to)?)
    }

    /// Returns when the store takes no more writes.
    pub async fn failed(&self) {
        let mut broken = self.0.broken.clone();
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sets what serves streams. Once; a second call changes nothing.
    pub fn set_streams(&self, streams: Box<dyn Streams>) {
        let _ = self.0.streams.set(streams);
    }

    /// Begins a stream that an engine answered with.
    pub fn stream(&self, stream: Stream, peer: Peer) -> Option<mpsc::Receiver<Bytes>> {
        Some(self.0.streams.get()?.open(self, stream, peer))
    }

    /// Returns the clock of the control plane, which all nodes follow.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Returns the time of the control plane.
    pub fn now(&self) -> UnixTime {
        self.0.clock.now()
    }

    /// Returns the store, to ask what changed since a revision.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Returns the open barrier.
    pub fn barrier(&self) -> &Arc<Unsealed> {
        &self.0.barrier
    }

    /// Returns what the server is.
    pub fn server(&self) -> &ServerInfo {
        &self.0.server
    }

    /// Returns the revision of the last commit, and hears of each further one.
    pub fn commits(&self) -> watch::Receiver<Revision> {
        self.0.commits.clone()
    }

    /// Returns what is observed, and hears of each change.
    pub fn facts(&self) -> watch::Receiver<Arc<Facts>> {
        self.0.facts.subscribe()
    }

    /// Notes what was observed.
    pub fn observe(&self, observation: Observation) {
        let now = self.now();
        self.0
            .facts
            .send_modify(|facts| Arc::make_mut(facts).apply(now, observation));
    }

    fn world<'w>(&'w self, facts: &'w Facts) -> World<'w> {
        World {
            registry: &self.0.registry,
            facts,
            server: &self.0.server,
            mounts: None,
            policies: None,
        }
    }

    /// Reads at one revision, seen from the mount at `mount`, such as `mesh/`. Nothing is written.
    pub fn inspect<T>(
        &self,
        mount: &str,
        read: impl FnOnce(&mut Context<'_, '_>) -> Result<T, Refusal>,
    ) -> Result<(Revision, T), Refusal> {
        let snapshot = self.snapshot()?;
        let facts = Arc::clone(&self.0.facts.borrow());
        let entropy = Entropy::new(&seed());
        let mut draft = Draft::new(&snapshot, self.now(), entropy, &[]);
        draft.know_ttls(self.0.server.ttls);
        let mounts = draft.mounts()?;
        let mount = mounts
            .at(mount)
            .ok_or_else(|| Refusal::NoMount(mount.to_owned()))?;
        let mut ctx = Context {
            draft: &mut draft,
            world: self.world(&facts),
            mount: Arc::clone(mount),
            caller: &Caller::Program,
            entity: None,
            bearer: None,
            peer: Peer::default(),
            path: "",
        };
        let value = read(&mut ctx)?;
        Ok((snapshot.revision(), value))
    }

    /// Serves a request: decides, commits, answers. Cancel safe up to the commit: what was handed to
    /// the writer is committed though nobody waits.
    pub async fn call(&self, request: &Request) -> Response {
        match self.counted(request) {
            Ok(left) => {
                let mut response = self.serve(request).await;
                response.left = left;
                response
            }
            Err((refusal, left)) => self.turn_away(request, refusal, left).await,
        }
    }

    /// Returns a request's path as its engine reads it, where that folds names and it is written
    /// otherwise.
    fn folded(&self, request: &Request) -> Result<Option<ApiPath>, Refusal> {
        if !pipeline::may_fold(request.path.as_str()) {
            return Ok(None);
        }
        let (_, folded) = self.inspect("sys/", |ctx| {
            let mounts = ctx.draft.mounts()?;
            let Some((mount, below)) = mounts.route(&request.path) else {
                return Ok(None);
            };
            let call = Call {
                operation: request.operation,
                path: below,
                folder: request.path.is_folder(),
                data: &request.data,
            };
            let engine = self.0.registry.of(mount)?;
            Ok(pipeline::folded(&**engine, &mount.path, &call))
        })?;
        Ok(folded)
    }

    async fn serve(&self, request: &Request) -> Response {
        let seed = seed();
        let mut results = Vec::new();
        let mut last = Refusal::Unavailable("too many requests change the same thing".to_owned());
        for _ in 0..ATTEMPTS_MAX {
            let decided = match self.decide(request, &seed, &results) {
                Ok(decided) => decided,
                Err(refusal) => {
                    last = refusal;
                    break;
                }
            };
            match decided {
                Outcome::Needs(work) => match self.work(work).await {
                    Ok(result) => results.push(result),
                    Err(refusal) => {
                        last = refusal;
                        break;
                    }
                },
                Outcome::Decided(decision) => match self.commit(request, *decision).await {
                    Ok(response) => return response,
                    Err(Undone::Again) => {}
                    Err(Undone::Refused(refusal)) => {
                        last = refusal;
                        break;
                    }
                },
            }
        }
        if let Refusal::Internal(cause) = &last {
            tracing::error!(request = %request.id, %cause, "request failed");
        }
        Response {
            request_id: request.id.clone(),
            mount_kind: String::new(),
            spread: false,
            left: None,
            outcome: Err(last),
        }
    }

    fn decide(
        &self,
        request: &Request,
        seed: &Secret<[u8; 32]>,
        results: &[WorkResult],
    ) -> Result<Outcome, Refusal> {
        let snapshot = self.snapshot()?;
        let facts = Arc::clone(&self.0.facts.borrow());
        let mounts = self.mounts(&snapshot)?;
        let world = World {
            mounts: Some(&mounts),
            policies: Some(self.policies(&snapshot)),
            ..self.world(&facts)
        };
        Ok(pipeline::decide(
            world,
            &snapshot,
            request,
            self.now(),
            seed,
            results,
        ))
    }

    async fn commit(&self, request: &Request, decision: Decision) -> Result<Response, Undone> {
        let Decision {
            batch,
            audit,
            need,
            observations,
            response,
        } = decision;
        if let Err(Refusal::Internal(cause)) = &response.outcome {
            tracing::error!(request = %response.request_id, %cause, "request failed");
        }
        // What was wrong counts before its record is durable: until then others would be tried. It
        // stays counted though whoever asked is gone.
        let (at_once, observations) = if batch.ops.is_empty() && response.outcome.is_err() {
            (observations, Vec::new())
        } else {
            (Vec::new(), observations)
        };
        for observation in at_once {
            self.observe(observation);
        }
        let audit = match audit {
            Some(audited) => self.record(&audited, request, &response)?,
            None => None,
        };
        let is_noted = match &audit {
            Some(records) if writer::is_glance(&batch, need) => self.note(records).await?,
            _ => false,
        };
        if !is_noted && (!batch.ops.is_empty() || audit.is_some()) {
            let batch = self.0.barrier.seal_batch(batch);
            self.write(batch, audit, need).await?;
        }
        for observation in observations {
            self.observe(observation);
        }
        Ok(response)
    }

    /// Records what was only looked at, on this thread. Returns whether it is done; else it is for the
    /// writer.
    async fn note(&self, records: &Records) -> Result<bool, Undone> {
        let noted = self
            .0
            .desk
            .note(records, Need::Glance, self.0.store.has_room());
        match noted {
            Noted::AtRisk => {
                // Whatever is committed next takes along what is stored nowhere.
                let nothing = bastide_store::Batch::default();
                self.write(nothing, None, Need::Record).await.map(|_| true)
            }
            Noted::Later => Ok(false),
            Noted::Refused => Err(Undone::of_audit()),
            Noted::Recorded { wants_sync } => {
                if wants_sync {
                    // With a full queue the writer is about to look after the devices anyway.
                    let _ = self.0.jobs.try_send(Job::Sync);
                }
                Ok(true)
            }
        }
    }

    async fn write(
        &self,
        batch: bastide_store::Batch,
        audit: Option<Records>,
        need: Need,
    ) -> Result<Revision, Undone> {
        let refused = |why: &str| Undone::Refused(Refusal::Unavailable(why.to_owned()));
        if !batch.ops.is_empty() {
            // What is kept only for the next reader must not keep replaced pages from being used anew.
            *self.0.newest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let (done, answer) = oneshot::channel();
        let job = Job::Write {
            batch,
            audit,
            need,
            done,
        };
        self.0
            .jobs
            .try_send(job)
            .map_err(|_| refused("too many requests wait to be committed"))?;
        match answer.await {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(WriteError::Conflict)) => Err(Undone::Again),
            Ok(Err(error @ WriteError::Room)) => {
                Err(Undone::Refused(Refusal::NoRoom(error.to_string())))
            }
            Ok(Err(WriteError::Audit)) => Err(Undone::of_audit()),
            Ok(Err(error @ WriteError::Store)) => {
                Err(Undone::Refused(Refusal::Internal(error.to_string())))
            }
            Err(_) => Err(refused("the control plane stops")),
        }
    }

    /// Makes a request of the program's own: it may do everything, and is audited like any other.
    pub async fn ask(
        &self,
        operation: Operation,
        path: &str,
        data: Map<String, Value>,
    ) -> Result<pipeline::Envelope, Refusal> {
        let request = Request {
            id: request_id(),
            operation,
            path: ApiPath::parse(path).map_err(|error| Refusal::invalid(error.to_string()))?,
            data,
            headers: hyper::HeaderMap::new(),
            token: None,
            wrap: None,
            idempotency: None,
            peer: Peer::default(),
            inside: Inside::Yes,
        };
        self.call(&request).await.outcome
    }
}

/// Why a decision did not become a commit.
enum Undone {
    Again,
    Refused(Refusal),
}

impl Undone {
    fn of_audit() -> Self {
        Self::Refused(Refusal::Unavailable(WriteError::Audit.to_string()))
    }
}

fn seed() -> Secret<[u8; 32]> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system's random source answers once it is seeded");
    let seed = Secret::new(bytes);
    bytes.zeroize();
    seed
}

/// Draws a text of letters and digits.
pub(crate) fn letters(count: usize) -> Secret<String> {
    Secret::new(Entropy::new(&seed()).base62(count))
}

/// Draws a request's id. It names a request and opens nothing, so a thread draws many at once.
pub fn request_id() -> String {
    const DRAWN: usize = 64;
    thread_local! {
        static IDS: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    IDS.with_borrow_mut(|ids| {
        if ids.is_empty() {
            let mut drawn = [[0; 16]; DRAWN];
            rand::fill(drawn.as_flattened_mut())
                .expect("the system's random source answers once it is seeded");
            ids.extend_from_slice(&drawn);
        }
        uuid(&ids.pop().expect("it was just filled"))
    })
}

#[cfg(test)]
mod tests;
