//! A control plane in a test: no disk, no wire, time and randomness given by the test.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::{ClusterId, Secret, UnixTime};
use bastide_store::{Barrier, DevSeal, OpenSnapshot, RedbStore, Store, Unsealed};
use serde_json::{Value, json};

use crate::core::config::{Compat, Ttls};
use crate::core::draft::{Draft, WorkResult};
use crate::core::engine::{Caller, Context, Engine, ServerInfo, World};
use crate::core::entropy::Entropy;
use crate::core::facts::Facts;
use crate::core::lockout::Configured;
use crate::core::outside;
use crate::core::path::ApiPath;
use crate::core::pipeline::{self, Decision, Envelope, Outcome};
use crate::core::refusal::{Refusal, Work};
use crate::core::registry::Registry;
use crate::core::request::{Identity, Inside, Operation, Peer, Request};
use crate::core::tend;

/// The control plane of one test.
pub(crate) struct Trial {
    store: RedbStore,
    barrier: Arc<Unsealed>,
    newest: RefCell<Option<Arc<OpenSnapshot>>>,
    registry: Registry,
    pub server: ServerInfo,
    facts: Facts,
    /// The time; tests move it.
    pub now: UnixTime,
    seeds: u64,
    /// Passwords hashed so far.
    pub hashed: usize,
    /// What servers elsewhere answer; nothing, unless the test says otherwise.
    pub outside: Box<dyn FnMut(Work) -> Secret<Vec<u8>>>,
}

/// Who asks in a test.
#[derive(Clone, Copy)]
pub(crate) enum As<'t> {
    Nobody,
    Root,
    Token(&'t str),
    Machine(Identity),
    Program,
}

impl Trial {
    pub fn new() -> Self {
        let store = RedbStore::in_memory().unwrap();
        let cluster = ClusterId::from_bytes([7; 16]);
        let root = Some(Secret::new("root".to_owned()));
        let (barrier, _) =
            crate::run::server::initialise(&store, &DevSeal::new(), cluster, root).unwrap();
        assert!(Barrier::is_initialised(&store).unwrap());
        let started = crate::run::server::now();
        Self {
            store,
            barrier,
            newest: RefCell::new(None),
            registry: Registry::built_in(),
            server: ServerInfo {
                version: "1.21.4".to_owned(),
                cluster_name: "trial".to_owned(),
                cluster_id: cluster.to_string(),
                storage: "inmem",
                seal: "dev".to_owned(),
                audit: Vec::new(),
                audit_by_api: true,
                started,
                compat: Compat::Strict,
                ttls: Ttls::default(),
                lockouts: Configured::new(),
            },
            facts: Facts::default(),
            now: started.plus(Duration::from_secs(60)),
            seeds: 0,
            hashed: 0,
            outside: Box::new(|_| outside::failed("a trial has no network")),
        }
    }

    /// Has the server open what Vault's own clients need.
    pub fn be_like_vault(&mut self) {
        self.server.compat = Compat::Vault;
    }

    /// Adds an engine of the test's own.
    pub fn add_engine(&mut self, engine: Arc<dyn Engine>) {
        self.registry.add_engine(engine);
    }

    /// Writes a row as it is, behind the barrier.
    pub fn write_row(&mut self, key: bastide_store::Key, value: Vec<u8>) {
        let mut batch = bastide_store::Batch::default();
        batch.ops.push(bastide_store::Op::Put(key, value));
        let batch = self.barrier.seal_batch(batch);
        let mut begun = self.store.begin().unwrap();
        begun.apply(&batch).unwrap().unwrap();
        begun.commit().unwrap();
    }

    fn seed(&mut self) -> Secret<[u8; 32]> {
        self.seeds += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seeds.to_be_bytes());
        Secret::new(seed)
    }

    /// Returns the snapshot of now: requests between two commits share one, as in a server.
    pub fn snapshot(&self) -> Arc<OpenSnapshot> {
        let mut newest = self.newest.borrow_mut();
        if let Some(known) = newest.as_ref()
            && known.revision() == self.store.revision()
        {
            return Arc::clone(known);
        }
        let snapshot = self.store.snapshot().unwrap();
        let snapshot = Arc::new(OpenSnapshot::new(snapshot, Arc::clone(&self.barrier)));
        *newest = Some(Arc::clone(&snapshot));
        snapshot
    }

    fn world(&self) -> World<'_> {
        World {
            registry: &self.registry,
            facts: &self.facts,
            server: &self.server,
            mounts: None,
            policies: None,
        }
    }

    pub fn barrier(&self) -> &Unsealed {
        &self.barrier
    }

    pub fn request(who: As<'_>, operation: Operation, path: &str, data: Value) -> Request {
        let token = match who {
            As::Root => Some("root"),
            As::Token(token) => Some(token),
            As::Nobody | As::Machine(_) | As::Program => None,
        };
        let identity = match who {
            As::Machine(identity) => Some(identity),
            _ => None,
        };
        let Value::Object(data) = data else {
            panic!("a test's fields are an object")
        };
        let path = ApiPath::parse(path).unwrap();
        Request {
            id: "request".to_owned(),
            operation,
            path: if operation == Operation::List {
                path.into_folder()
            } else {
                path
            },
            data,
            headers: hyper::HeaderMap::new(),
            token: token.map(|token| Secret::new(token.to_owned())),
            wrap: None,
            idempotency: None,
            peer: Peer {
                identity,
                ..Peer::default()
            },
            inside: match who {
                As::Program => Inside::Yes,
                _ => Inside::No,
            },
        }
    }

    /// Decides without committing.
    pub fn decide(&mut self, request: &Request) -> Decision {
        let seed = self.seed();
        let snapshot = self.snapshot();
        let mut results = Vec::new();
        loop {
            let world = self.world();
            match pipeline::decide(world, &snapshot, request, self.now, &seed, &results) {
                Outcome::Decided(decision) => return *decision,
                Outcome::Needs(Work::Password { password, salt }) => {
                    self.hashed += 1;
                    let text = [password.expose().as_slice(), &salt].concat();
                    let key = digest(&SHA256, &text).as_ref().to_vec();
                    results.push(WorkResult(Secret::new(key)));
                }
                Outcome::Needs(Work::AuditDevice { .. }) => {
                    results.push(WorkResult(Secret::new(Vec::new())));
                }
                Outcome::Needs(work @ (Work::Fetch(_) | Work::Directory(_))) => {
                    results.push(WorkResult((self.outside)(work)));
                }
                Outcome::Needs(Work::RsaKey { bits }) => {
                    let key = crate::run::plane::work::rsa_key(bits).unwrap();
                    results.push(WorkResult(key));
                }
            }
        }
    }

    /// Commits a decision; `false` if what it was decided on has changed.
    pub fn commit(&mut self, decision: Decision) -> bool {
        let batch = self.barrier.seal_batch(decision.batch);
        let mut begun = self.store.begin().unwrap();
        let applied = begun.apply(&batch).unwrap().is_ok();
        if applied {
            begun.commit().unwrap();
            for observation in decision.observations {
                self.facts.apply(self.now, observation);
            }
        }
        applied
    }

    pub fn ask(
        &mut self,
        who: As<'_>,
        operation: Operation,
        path: &str,
        data: Value,
    ) -> Result<Envelope, Refusal> {
        self.send(&Self::request(who, operation, path, data))
    }

    /// Decides and commits a request.
    pub fn send(&mut self, request: &Request) -> Result<Envelope, Refusal> {
        let mut decision = self.decide(request);
        let outcome = std::mem::replace(&mut decision.response.outcome, Err(Refusal::Absent));
        assert!(self.commit(decision), "nobody else writes in a trial");
        outcome
    }

    /// Decides something as the engine behind `mount` would, and commits it.
    pub fn within<T>(
        &mut self,
        mount: &str,
        decide: impl FnOnce(&mut Context<'_, '_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let seed = self.seed();
        let snapshot = self.snapshot();
        let mut draft = Draft::new(&snapshot, self.now, Entropy::new(&seed), &[]);
        let mounts = draft.mounts()?;
        let mut ctx = Context {
            draft: &mut draft,
            world: self.world(),
            mount: Arc::clone(mounts.at(mount).unwrap()),
            caller: &Caller::Program,
            entity: None,
            bearer: None,
            peer: Peer::default(),
            path: "",
        };
        let value = decide(&mut ctx)?;
        let (batch, observations) = draft.finish();
        let batch = self.barrier.seal_batch(batch);
        let mut begun = self.store.begin().unwrap();
        begun.apply(&batch).unwrap().unwrap();
        begun.commit().unwrap();
        for observation in observations {
            self.facts.apply(self.now, observation);
        }
        Ok(value)
    }

    /// Asks as root, and returns `data`.
    pub fn root(
        &mut self,
        operation: Operation,
        path: &str,
        data: Value,
    ) -> Result<Value, Refusal> {
        let envelope = self.ask(As::Root, operation, path, data)?;
        Ok(envelope.data.map_or(Value::Null, Value::Object))
    }

    /// Writes as root what must be accepted.
    pub fn write(&mut self, path: &str, data: Value) -> Value {
        self.root(Operation::Update, path, data).unwrap()
    }

    /// Makes a token as `who`, and returns its text and its accessor.
    pub fn token(&mut self, who: As<'_>, data: Value) -> (String, String) {
        let made = self
            .ask(who, Operation::Update, "auth/token/create", data)
            .unwrap();
        let auth = made.auth.unwrap();
        let text = |name: &str| auth[name].as_str().unwrap().to_owned();
        (text("client_token"), text("accessor"))
    }

    /// Returns whether a token is good.
    pub fn is_good(&mut self, token: &str) -> bool {
        let path = "auth/token/lookup-self";
        self.ask(As::Token(token), Operation::Read, path, json!({}))
            .is_ok()
    }

    /// Lets the expiry work until nothing is due.
    pub fn tend(&mut self) {
        loop {
            let seed = self.seed();
            let snapshot = self.snapshot();
            let tended = tend::tend(self.world(), &snapshot, self.now, &seed, 3).unwrap();
            assert!(tended.failed.is_empty(), "{:?}", tended.failed);
            let batch = self.barrier.seal_batch(tended.batch);
            let mut begun = self.store.begin().unwrap();
            begun.apply(&batch).unwrap().unwrap();
            begun.commit().unwrap();
            for observation in tended.observations {
                self.facts.apply(self.now, observation);
            }
            if !tended.more {
                return;
            }
        }
    }

    /// Returns what is observed.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Puts `plain` where one of the stored values stands and returns what stood there; `number` says
    /// which, all tables counted.
    pub fn replace(&mut self, number: usize, plain: &[u8]) -> Secret<Vec<u8>> {
        let snapshot = self.snapshot();
        let tables = (1..=u8::MAX).map(bastide_store::Table);
        let keys = tables.flat_map(|table| {
            let range = bastide_store::KeyRange::prefix(table, "");
            snapshot.keys(&range, 1_000).unwrap()
        });
        let keys: Vec<_> = keys.collect();
        let key = &keys[number % keys.len()];
        let before = snapshot.get(key).unwrap().unwrap();
        let batch = bastide_store::Batch {
            compares: Vec::new(),
            ops: vec![bastide_store::Op::Put(key.clone(), plain.to_vec())],
        };
        let batch = self.barrier.seal_batch(batch);
        let mut begun = self.store.begin().unwrap();
        begun.apply(&batch).unwrap().unwrap();
        begun.commit().unwrap();
        before
    }

    /// Lets the expiry do one pass, and returns what of it failed.
    pub fn tend_once(&mut self) -> Vec<(String, Refusal)> {
        let seed = self.seed();
        let snapshot = self.snapshot();
        let tended = tend::tend(self.world(), &snapshot, self.now, &seed, 100).unwrap();
        let batch = self.barrier.seal_batch(tended.batch);
        let mut begun = self.store.begin().unwrap();
        begun.apply(&batch).unwrap().unwrap();
        begun.commit().unwrap();
        tended.failed
    }

    /// Lets time pass, and the expiry decide once what is due then.
    pub fn pass_and_try_to_tend(&mut self, secs: u64) {
        self.pass(secs);
        let seed = self.seed();
        let snapshot = self.snapshot();
        let _ = tend::tend(self.world(), &snapshot, self.now, &seed, 100);
    }

    /// Lets time pass.
    pub fn pass(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
    }

    /// Returns the id of the mount at `path`.
    pub fn mount(&self, path: &str) -> crate::core::mounts::MountId {
        let snapshot = self.snapshot();
        let entropy = Entropy::new(&Secret::new([0; 32]));
        let mut draft = Draft::new(&snapshot, self.now, entropy, &[]);
        draft.mounts().unwrap().at(path).unwrap().id
    }

    /// Returns the values of a table, opened.
    pub fn values(&self, table: bastide_store::Table) -> Vec<Vec<u8>> {
        let all = bastide_store::KeyRange::prefix(table, "");
        let found = self.snapshot().range(&all, usize::MAX / 2).unwrap();
        found
            .into_iter()
            .map(|(_, value)| value.expose().clone())
            .collect()
    }

    /// Returns how many keys a table has.
    pub fn count(&mut self, table: bastide_store::Table) -> usize {
        let snapshot = self.snapshot();
        let mut draft = Draft::new(
            &snapshot,
            self.now,
            Entropy::new(&Secret::new([0; 32])),
            &[],
        );
        draft
            .keys(&bastide_store::KeyRange::prefix(table, ""), usize::MAX / 2)
            .unwrap()
            .len()
    }
}

/// Returns the text of a refusal that shows one.
pub(crate) fn text(refusal: Refusal) -> String {
    match refusal {
        Refusal::Invalid(text)
        | Refusal::Forbidden(text)
        | Refusal::Failed(text)
        | Refusal::Ticket { text, .. } => text,
        other => format!("{other:?}"),
    }
}
