//! The running control plane: what listeners, the agent's watch and tests call.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{self, KeySize};
use bastide_api::{Revision, Secret, UnixTime};
use bastide_linux::clock::Clock;
use bastide_pki::log::Hash;
use bastide_store::{Barrier, KeyRange, OpenSnapshot, Store, Unsealed};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use zeroize::Zeroize;

use crate::core::audit::Audited;
use crate::core::audit::devices::{self, Target};
use crate::core::audit::headers;
use crate::core::draft::{Draft, WorkResult};
use crate::core::engine::{Call, Caller, Context, ServerInfo, World};
use crate::core::engines::sys::keys::Rotation;
use crate::core::engines::sys::quotas;
use crate::core::entropy::{Entropy, uuid};
use crate::core::facts::{Facts, Observation};
use crate::core::mounts::MountTable;
use crate::core::need::Need;
use crate::core::path::ApiPath;
use crate::core::pipeline::{self, Decision, Outcome, Response};
use crate::core::quotas::{Left, Verdict};
use crate::core::refusal::{PASSWORD_COST, Refusal, Work};
use crate::core::registry::Registry;
use crate::core::reply::Stream;
use crate::core::request::{Inside, Operation, Peer, Request};
use crate::core::tables;
use crate::core::tend;
use crate::run::audit_desk::{Desk, Noted};
use crate::run::audit_devices::{DeviceTable, Records};
use crate::run::audit_remote;
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

    /// Returns the mounts at a snapshot: those read last, unless they have changed since.
    fn mounts(&self, snapshot: &OpenSnapshot) -> Result<Arc<MountTable>, Refusal> {
        let at = snapshot.revision();
        let known = self
            .0
            .mounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((read_at, table)) = known
            && self
                .0
                .store
                .unchanged(&MountTable::range(), at.min(read_at))
        {
            return Ok(table);
        }
        let mut draft = Draft::new(snapshot, self.now(), Entropy::new(&seed()), &[]);
        draft.know_ttls(self.0.server.ttls);
        let table = draft.mounts()?;
        let known = Some((at, Arc::clone(&table)));
        *self.0.mounts.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(table)
    }

    /// Makes the records of a request and its answer, for all audit devices; none if there are none.
    fn record(
        &self,
        audited: &Audited,
        request: &Request,
        response: &Response,
    ) -> Result<Option<Records>, Undone> {
        let devices = self.devices().map_err(Undone::Refused)?;
        if devices.is_empty() {
            return Ok(None);
        }
        let answer = response.outcome.as_ref().ok();
        Ok(Some(devices.record(audited, request, answer, self.now())))
    }

    /// Returns the audit devices as they are now.
    fn devices(&self) -> Result<Arc<DeviceTable>, Refusal> {
        let known = self
            .0
            .devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, table)) = known
            && self.0.store.unchanged(&devices::range(), at)
        {
            return Ok(table);
        }
        let snapshot = self.snapshot()?;
        let mut draft = Draft::new(&snapshot, self.now(), Entropy::new(&seed()), &[]);
        let others = devices::load(&mut draft)?;
        let recorded = Arc::new(headers::load(&mut draft)?);
        let own = self.0.server.audit.first().map(|own| own.path.as_str());
        let at = snapshot.revision();
        let table = Arc::new(DeviceTable::new(
            at,
            &self.0.barrier,
            own,
            others,
            &recorded,
        ));
        let known = Some((at, Arc::clone(&table)));
        *self
            .0
            .devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = known;
        Ok(table)
    }

    /// Returns a number that stands for the policies as they are at a snapshot.
    fn policies(&self, snapshot: &OpenSnapshot) -> u64 {
        let at = snapshot.revision();
        let all = KeyRange::prefix(tables::POLICIES, "");
        let known = self.0.policies.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let (looked, number) = *known;
        // Nothing changed between the two, in whichever order they are.
        if number == 0 || !self.0.store.unchanged(&all, at.min(looked)) {
            *known = (at, number + 1);
        }
        known.1
    }

    /// Returns a snapshot of the last revision. Requests between two commits share one: to begin one
    /// costs more than to read from it.
    fn snapshot(&self) -> Result<Arc<OpenSnapshot>, Refusal> {
        let at = self.0.store.revision();
        let newest = self.0.newest.lock();
        let mut newest = newest.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = newest.as_ref().filter(|known| known.revision() == at) {
            return Ok(Arc::clone(known));
        }
        let snapshot = self.0.store.snapshot().map_err(|error| {
            tracing::error!(cause = ?error, "the store cannot be read");
            Refusal::Internal("the store cannot be read".to_owned())
        })?;
        let snapshot = Arc::new(OpenSnapshot::new(snapshot, Arc::clone(&self.0.barrier)));
        *newest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
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

    /// Counts a request under the rate limit that it falls under. Returns what is left of it, if that
    /// is to be told.
    fn counted(&self, request: &Request) -> Result<Option<Left>, (Refusal, Option<Left>)> {
        let (Inside::No, Some(address)) = (request.inside, request.peer.address) else {
            return Ok(None);
        };
        let silent = |refusal| (refusal, None);
        let read = || self.inspect("sys/", |ctx| quotas::load(ctx.draft));
        let rules = self.0.limits.rules(&*self.0.store, read).map_err(silent)?;
        if rules.is_empty() {
            return Ok(None);
        }
        let path = request.path.as_str();
        let role = if rules.wants_role(path) {
            self.role_of(request).map_err(silent)?
        } else {
            None
        };
        // The most specific rule comes first: for the path as it is written, or as its engine reads it.
        let folded = self.folded(request).map_err(silent)?;
        let spellings = [Some(path), folded.as_ref().map(ApiPath::as_str)];
        let found = spellings.into_iter().flatten();
        let found = found.filter_map(|path| rules.find(path, role.as_deref()));
        let Some(number) = found.min() else {
            return Ok(None);
        };
        let told = |left| rules.settings().headers.then_some(left);
        match self.0.limits.ask(&rules, number, address.ip()) {
            Verdict::Passes(left) => Ok(told(left)),
            Verdict::Waits(left, wait) => {
                let path = path.to_owned();
                Err((Refusal::Limited { path, wait }, told(left)))
            }
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

    /// Returns the role that a login is of.
    fn role_of(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let (_, found) = self.inspect("sys/", |ctx| {
            let mounts = ctx.draft.mounts()?;
            let Some((mount, below)) = mounts.route(&request.path) else {
                return Ok(None);
            };
            if request.operation != Operation::Update || !below.starts_with("login") {
                return Ok(None);
            }
            let mut within = ctx.within(mount.path.as_str())?;
            let engine = Arc::clone(within.engine()?);
            let call = Call {
                operation: request.operation,
                path: below,
                folder: request.path.is_folder(),
                data: &request.data,
            };
            engine.role_of(&mut within, &call)
        })?;
        Ok(found)
    }

    /// Answers what was refused before it was looked at; it is audited where that is asked for.
    async fn turn_away(&self, request: &Request, refusal: Refusal, left: Option<Left>) -> Response {
        let response = |refusal| Response {
            request_id: request.id.clone(),
            mount_kind: String::new(),
            spread: false,
            left,
            outcome: Err(refusal),
        };
        let rules = self.0.limits.known();
        if !rules.is_some_and(|rules| rules.settings().audit) {
            return response(refusal);
        }
        let audited = Audited::new(Caller::Nobody, request.operation, None, Some(&refusal));
        let decision = Decision {
            batch: bastide_store::Batch::default(),
            audit: Some(audited),
            need: Need::Record,
            observations: Vec::new(),
            response: response(refusal),
        };
        match self.commit(request, decision).await {
            Ok(told) => told,
            Err(Undone::Refused(refusal)) => response(refusal),
            Err(Undone::Again) => {
                response(Refusal::Unavailable("the record was not taken".to_owned()))
            }
        }
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

    async fn work(&self, work: Work) -> Result<WorkResult, Refusal> {
        if let Work::AuditDevice { target } = work {
            return probe(target).await;
        }
        if let Work::Directory(question) = work {
            let asked = self.0.directories.ask(*question, &self.0.clock);
            return asked.await.map(WorkResult);
        }
        if let Work::Fetch(fetch) = work {
            return self
                .0
                .fetcher
                .fetch(*fetch, &self.0.clock)
                .await
                .map(WorkResult);
        }
        let busy = || Refusal::Unavailable("too many logins wait".to_owned());
        let _place = self.0.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.0.passwords.acquire().await.map_err(|_| busy())?;
        let result = tokio::task::spawn_blocking(move || match work {
            Work::Password { password, salt } => Ok(password_key(&password, &salt)),
            Work::RsaKey { bits } => rsa_key(bits),
            Work::AuditDevice { .. } | Work::Fetch(_) | Work::Directory(_) => {
                Err(Refusal::Internal("no work of the pool".to_owned()))
            }
        });
        let key = result
            .await
            .map_err(|error| Refusal::Internal(error.to_string()))??;
        Ok(WorkResult(key))
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

    /// Begins another epoch of the barrier: what is written from now on is sealed under a new key.
    pub async fn rotate(&self) -> Result<u32, Refusal> {
        let (store, barrier) = (Arc::clone(&self.0.store), Arc::clone(&self.0.barrier));
        let rotated = tokio::task::spawn_blocking(move || Barrier::rotate(&*store, &barrier)).await;
        match rotated {
            Ok(Ok(epoch)) => {
                tracing::info!(epoch, "values are sealed under a new key from now on");
                Ok(epoch)
            }
            Ok(Err(error)) => {
                tracing::error!(cause = ?error, "the barrier's key was not changed");
                Err(Refusal::Internal(error.to_string()))
            }
            Err(error) => Err(Refusal::Internal(error.to_string())),
        }
    }

    /// Changes the barrier's key when it is time, and notes how much it has sealed.
    async fn tend_epoch(&self) {
        let due = || -> Result<bool, Refusal> {
            let snapshot = self.snapshot()?;
            let mut draft = Draft::new(&snapshot, self.now(), Entropy::new(&seed()), &[]);
            let rotation = Rotation::load(&mut draft)?;
            Ok(rotation.is_due(self.now(), self.0.barrier.epoch_status()))
        };
        match due() {
            Ok(true) => {
                let _ = self.rotate().await;
            }
            Ok(false) => {}
            Err(refusal) => {
                tracing::error!(cause = ?refusal, "it is not known when to change the key");
            }
        }
        let (store, barrier) = (Arc::clone(&self.0.store), Arc::clone(&self.0.barrier));
        let noted = tokio::task::spawn_blocking(move || Barrier::note_sealed(&*store, &barrier));
        if let Ok(Err(error)) = noted.await {
            tracing::error!(cause = ?error, "how much was sealed is not noted");
        }
    }

    /// Logs whose upkeep fails: once, and again after it has worked.
    fn tell_failed(&self, failed: Vec<(String, Refusal)>) {
        let mut known = self
            .0
            .failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|mount| failed.iter().any(|(other, _)| other == mount));
        for (mount, refusal) in failed {
            if known.insert(mount.clone()) {
                tracing::error!(%mount, cause = %refusal, "the upkeep of this mount fails");
            }
        }
    }

    /// Ends what is due and sweeps what hangs on revoked tokens. Returns after how long to call it
    /// again, at most a second.
    pub async fn tend(&self) -> Duration {
        let _ = self.0.jobs.try_send(Job::Tick);
        self.tend_epoch().await;
        for _ in 0..ATTEMPTS_MAX {
            let tended = {
                let Ok(snapshot) = self.snapshot() else {
                    break;
                };
                let facts = Arc::clone(&self.0.facts.borrow());
                tend::tend(
                    self.world(&facts),
                    &snapshot,
                    self.now(),
                    &seed(),
                    EXPIRED_MAX,
                )
            };
            match tended {
                Ok(tended) => {
                    self.tell_failed(tended.failed);
                    let (batch, observations, more) =
                        (tended.batch, tended.observations, tended.more);
                    if !batch.ops.is_empty() {
                        let batch = self.0.barrier.seal_batch(batch);
                        match self.write(batch, None, Need::Vital).await {
                            Ok(_) => {}
                            Err(Undone::Again) => continue,
                            Err(Undone::Refused(_)) => break,
                        }
                    }
                    for observation in observations {
                        self.observe(observation);
                    }
                    if !more {
                        break;
                    }
                }
                Err(refusal) => {
                    tracing::error!(cause = ?refusal, "leases cannot be ended");
                    break;
                }
            }
        }
        Duration::from_secs(1)
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

/// Finds out whether an audit device takes lines.
async fn probe(target: Target) -> Result<WorkResult, Refusal> {
    let probed = tokio::task::spawn_blocking(move || audit_remote::probe(&target)).await;
    let probed = probed.map_err(|error| Refusal::Internal(error.to_string()))?;
    let trouble = probed.err().unwrap_or_default();
    Ok(WorkResult(Secret::new(trouble.into_bytes())))
}

/// Draws a text of letters and digits.
pub(crate) fn letters(count: usize) -> Secret<String> {
    Secret::new(Entropy::new(&seed()).base62(count))
}

/// Draws a request's id.
pub fn request_id() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system's random source answers once it is seeded");
    uuid(&bytes)
}

/// Makes an RSA key of one of the lengths of [`crate::core::refusal::RSA_BITS`], as PKCS #8 in DER.
pub(crate) fn rsa_key(bits: u32) -> Result<Secret<Vec<u8>>, Refusal> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        _ => return Err(Refusal::invalid(format!("no RSA keys of {bits} bits"))),
    };
    let failed = |_| Refusal::Internal("could not make an RSA key".to_owned());
    let pair = rsa::KeyPair::generate(size).map_err(failed)?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(failed)?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn password_key(password: &Secret<Vec<u8>>, salt: &[u8; 16]) -> Secret<Vec<u8>> {
    let (memory, passes, lanes) = PASSWORD_COST;
    let params = Params::new(memory, passes, lanes, Some(32)).expect("the cost is constant");
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = vec![0; 32];
    hasher
        .hash_password_into(password.expose(), salt, &mut key)
        .expect("passwords are shorter than Argon2's limit, and the salt has 16 bytes");
    Secret::new(key)
}

#[cfg(test)]
mod tests;
