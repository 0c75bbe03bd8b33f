//! What an engine or auth method is, and what it gets to decide with.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Key, KeyRange};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::core::config::{Compat, Ttls};
use crate::core::draft::{Draft, RANGE_KEYS_MAX, key};
use crate::core::entropy::Entropy;
use crate::core::facts::{Facts, Observation};
use crate::core::fields::Fields;
use crate::core::identity::{Alias, EntityFacts};
use crate::core::leases::{self, Lease, LeaseId, Owner};
use crate::core::lockout;
use crate::core::mounts::{Mount, MountTable};
use crate::core::refusal::{RSA_BITS, Refusal, Work};
use crate::core::registry::Registry;
use crate::core::reply::{Answer, Grant};
use crate::core::request::{Identity, Operation, Peer};
use crate::core::role::Terms;
use crate::core::tables;
use crate::core::tokens::Token;

/// An engine that grants things, or an auth method that proves who asks.
pub trait Engine: Send + Sync {
    /// Its name in `sys/mounts` or `sys/auth`.
    fn kind(&self) -> &'static str;

    /// Whether a call needs no token: a login, a public key. Such a call has [`Caller::Nobody`].
    fn is_open(&self, _call: &Call<'_>) -> bool {
        false
    }

    /// Whether Vault asks for no token for a call that takes one here. Under `compat = "vault"` it then
    /// needs none; if nobody with a token that may makes it, it has [`Caller::Nobody`].
    fn is_public(&self, _call: &Call<'_>) -> bool {
        false
    }

    /// Whether a call needs the capability `sudo` besides its own.
    fn needs_sudo(&self, _call: &Call<'_>) -> bool {
        false
    }

    /// Whether names in the path of a call mean the same however they are written, as to
    /// [`folded`](crate::core::engines::identity::names::folded). Such a path is judged in its folded
    /// form too, so that a rule for a name is not passed by under another spelling of it.
    fn folds(&self, _call: &Call<'_>) -> bool {
        false
    }

    /// Whether what a write goes to exists already; `None` if the engine does not distinguish
    /// creating from updating.
    fn exists(
        &self,
        _ctx: &mut Context<'_, '_>,
        _call: &Call<'_>,
    ) -> Result<Option<bool>, Refusal> {
        Ok(None)
    }

    /// Decides a call that its caller is allowed to make. Pure: everything comes with `ctx` and
    /// `call`, and what is written is written through `ctx`.
    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal>;

    /// Returns for how long to renew a lease, given what was asked for; it is cut to the lease's
    /// longest life.
    fn renew(
        &self,
        _ctx: &mut Context<'_, '_>,
        _lease: &Lease,
        asked: Option<Duration>,
    ) -> Result<Option<Duration>, Refusal> {
        Ok(asked)
    }

    /// Judges anew a login that this method granted, whose token is to be renewed, and returns what its
    /// role says now of lives; `None`: what the token itself says.
    fn renew_login(
        &self,
        _ctx: &mut Context<'_, '_>,
        _token: &Token,
    ) -> Result<Option<Terms>, Refusal> {
        Ok(None)
    }

    /// Undoes what a lease stood for: it expired or was revoked. The lease itself is already gone.
    /// Called once or more often: if it fails, nothing of it is kept, and it is called again later.
    fn revoke(&self, _ctx: &mut Context<'_, '_>, _lease: &Lease) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether [`Self::tend`] is to be called for its mounts.
    fn tends(&self) -> bool {
        false
    }

    /// Does what is due at this mount without anybody asking: called about once a second, so looking
    /// must be cheap. Returns whether there is more to do at once. If it fails, nothing of it is kept.
    fn tend(&self, _ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Returns the role that a login is of, for rate limits; `None` if it names none.
    fn role_of(
        &self,
        _ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
    ) -> Result<Option<String>, Refusal> {
        call.fields().text("role")
    }

    /// Whether a machine with a certificate of ours is a member now. Asked of the mount `mesh/`.
    fn admits(&self, _ctx: &mut Context<'_, '_>, _machine: Identity) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Returns the entity of whoever logged in at `login.mount`, made or changed as the login says;
    /// `None`: the token belongs to no entity. Asked of the mount `identity/`.
    fn entity_of(
        &self,
        _ctx: &mut Context<'_, '_>,
        _login: &Persona<'_>,
    ) -> Result<Option<Arc<EntityFacts>>, Refusal> {
        Ok(None)
    }

    /// Returns what is known of an entity now; `None` if there is none of this id, and its tokens
    /// are refused. Asked of the mount `identity/` once for each request of a token that names one,
    /// so it must be fast.
    fn entity(
        &self,
        _ctx: &mut Context<'_, '_>,
        _id: &str,
    ) -> Result<Option<Arc<EntityFacts>>, Refusal> {
        Ok(None)
    }
}

/// Who logged in, as an auth method knows him.
pub struct Persona<'l> {
    /// The method's mount.
    pub mount: &'l Mount,
    /// His name there.
    pub alias: &'l Alias,
    /// The groups that the method says he is in.
    pub groups: &'l [String],
}

/// A call, as the engine behind a mount sees it.
pub struct Call<'r> {
    /// What it wants to do.
    pub operation: Operation,
    /// The path below the mount, without slash at either end.
    pub path: &'r str,
    /// Whether a slash ended the path.
    pub folder: bool,
    /// The fields of body or query.
    pub data: &'r Map<String, Value>,
}

impl<'r> Call<'r> {
    /// Returns the segments of the path; none for the mount itself.
    pub fn segments(&self) -> Vec<&'r str> {
        self.path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect()
    }

    /// Returns the fields.
    pub fn fields(&self) -> Fields<'r> {
        Fields(self.data)
    }

    /// Parses all fields into a type; what is wrong is told to whoever asked, without the values.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_value(Value::Object(self.data.clone())).map_err(|error| {
            let kind = match error.classify() {
                serde_json::error::Category::Data => "a field is missing or of a wrong kind",
                _ => "the fields are not valid",
            };
            Refusal::invalid(kind)
        })
    }
}

/// Who calls.
pub enum Caller {
    /// Whoever: only on paths that need no token.
    Nobody,
    /// The holder of a token.
    Token(Arc<Token>),
    /// A machine with a client certificate.
    Machine(Identity),
    /// The program itself.
    Program,
}

impl Caller {
    /// Returns which machine calls, if one does.
    pub fn machine(&self) -> Option<Identity> {
        match self {
            Self::Machine(identity) => Some(*identity),
            Self::Nobody | Self::Token(_) | Self::Program => None,
        }
    }

    /// Returns the token, if one calls.
    pub fn token(&self) -> Option<&Arc<Token>> {
        match self {
            Self::Token(token) => Some(token),
            Self::Nobody | Self::Machine(_) | Self::Program => None,
        }
    }
}

/// What is the same for every decision.
#[derive(Clone, Copy)]
pub struct World<'w> {
    /// The engines that this program has.
    pub registry: &'w Registry,
    /// What is observed now.
    pub facts: &'w Facts,
    /// What the server is.
    pub server: &'w ServerInfo,
    /// The mounts at the snapshot that is decided on, where an earlier decision read them.
    pub mounts: Option<&'w Arc<MountTable>>,
    /// A number that rises whenever a policy changes; `None`: nothing is known of it, and policies
    /// are read.
    pub policies: Option<u64>,
}

/// What the server tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The version of Vault's API that it speaks, such as `1.21.4`.
    pub version: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// `file` or `inmem`.
    pub storage: &'static str,
    /// The kind of seal.
    pub seal: String,
    /// The audit devices of its configuration.
    pub audit: Vec<AuditDevice>,
    /// Whether audit devices can be enabled and disabled through the API.
    pub audit_by_api: bool,
    /// When it started, in UTC.
    pub started: UnixTime,
    /// When names are locked, as the configuration says.
    pub lockouts: lockout::Configured,
    /// Whose defaults hold towards clients.
    pub compat: Compat,
    /// How long things live where nothing else is said.
    pub ttls: Ttls,
}

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDevice {
    /// Its name, with a slash at the end, such as `file/`; also what its hashes are salted with.
    pub path: String,
    /// The file.
    pub file: String,
}

/// What an engine decides with: its own storage, time, randomness, and the world.
pub struct Context<'c, 's> {
    /// The batch in the making.
    pub draft: &'c mut Draft<'s>,
    /// The world.
    pub world: World<'c>,
    /// The mount that is called.
    pub mount: Arc<Mount>,
    /// Who calls.
    pub caller: &'c Caller,
    /// The entity that the caller's token belongs to, if it belongs to one.
    pub entity: Option<&'c Arc<EntityFacts>>,
    /// The token's text, if one calls: for answers that show a caller his own token.
    pub bearer: Option<&'c Secret<String>>,
    /// Where the request came from.
    pub peer: Peer,
    /// The request's whole path, for lease ids.
    pub path: &'c str,
}

impl<'c, 's> Context<'c, 's> {
    /// Returns the time of the decision.
    pub fn now(&self) -> UnixTime {
        self.draft.now()
    }

    /// Returns the randomness of the decision.
    pub fn entropy(&mut self) -> &mut Entropy {
        self.draft.entropy()
    }

    /// Returns what is observed now.
    pub fn facts(&self) -> &'c Facts {
        self.world.facts
    }

    /// Returns the store's key of this mount's key `at`.
    pub fn key(&self, at: &str) -> Key {
        key(tables::ENGINE, &[&self.mount.id.0, at.as_bytes()])
    }

    /// Returns a value of this mount.
    pub fn get(&mut self, at: &str) -> Result<Option<Secret<Vec<u8>>>, Refusal> {
        let key = self.key(at);
        self.draft.get(&key)
    }

    /// Forgets who asks: whoever it is may no more here than anybody.
    pub(crate) fn become_nobody(&mut self) {
        self.caller = &Caller::Nobody;
        self.entity = None;
        self.bearer = None;
    }

    /// Returns a value of this mount, parsed from JSON.
    pub fn load<T: DeserializeOwned>(&mut self, at: &str) -> Result<Option<T>, Refusal> {
        let key = self.key(at);
        self.draft.load(&key)
    }

    /// As [`Draft::load_shared`], of this mount.
    pub fn load_shared<T>(&mut self, at: &str) -> Result<Option<Arc<T>>, Refusal>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let key = self.key(at);
        self.draft.load_shared(&key)
    }

    /// Writes a value of this mount as JSON.
    pub fn save<T: Serialize>(&mut self, at: &str, value: &T) -> Result<(), Refusal> {
        let key = self.key(at);
        self.draft.save(key, value)
    }

    /// Writes a value of this mount.
    pub fn put(&mut self, at: &str, value: Vec<u8>) -> Result<(), Refusal> {
        let key = self.key(at);
        self.draft.put(key, value)
    }

    /// Deletes a value of this mount.
    pub fn delete(&mut self, at: &str) {
        let key = self.key(at);
        self.draft.delete(key);
    }

    /// Returns the keys of this mount that begin with `prefix`, without it, in order.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<String>, Refusal> {
        let start = [&self.mount.id.0, prefix.as_bytes()].concat();
        let found = self
            .draft
            .keys(&KeyRange::prefix(tables::ENGINE, &start), RANGE_KEYS_MAX)?;
        found
            .iter()
            .map(|key| {
                String::from_utf8(key.rest()[start.len()..].to_vec())
                    .map_err(|error| Refusal::corrupt("key", error))
            })
            .collect()
    }

    /// Returns what is directly below `prefix`, as Vault lists: folders once, with a slash.
    pub fn list(&mut self, prefix: &str) -> Result<Vec<String>, Refusal> {
        let mut names: Vec<String> = self
            .keys(prefix)?
            .into_iter()
            .map(|key| match key.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => key,
            })
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Returns the same decision, seen from another mount: its storage, its leases.
    pub fn within(&mut self, mount: &str) -> Result<Context<'_, 's>, Refusal> {
        let mounts = self.draft.mounts()?;
        let mount = mounts
            .at(mount)
            .ok_or_else(|| Refusal::NoMount(mount.to_owned()))?;
        Ok(Context {
            draft: self.draft,
            world: self.world,
            mount: Arc::clone(mount),
            caller: self.caller,
            entity: self.entity,
            bearer: self.bearer,
            peer: self.peer.clone(),
            path: self.path,
        })
    }

    /// Returns the engine behind this mount.
    pub fn engine(&self) -> Result<&'c Arc<dyn Engine>, Refusal> {
        self.world.registry.of(&self.mount)
    }

    /// Grants a lease of this mount. Its id is `path` and 24 random letters; `owner` is the token
    /// with which it dies, if any.
    pub fn grant(&mut self, path: &str, grant: Grant, owner: Owner) -> Result<LeaseId, Refusal> {
        let mount = Arc::clone(&self.mount);
        leases::grant(self.draft, &mount, path, grant, owner)
    }

    /// Returns a lease.
    pub fn lease(&mut self, id: &LeaseId) -> Result<Option<Lease>, Refusal> {
        leases::find(self.draft, id)
    }

    /// Sets a lease to end `ttl` from now, though not after its longest life. `Refusal::Absent` if
    /// it is gone.
    pub fn extend(&mut self, id: &LeaseId, ttl: Duration) -> Result<Lease, Refusal> {
        leases::extend(self.draft, id, ttl)
    }

    /// Ends a lease: undoes what it stood for, now or, if that fails, later. Nothing happens if it is
    /// gone.
    pub fn end(&mut self, id: &LeaseId) -> Result<(), Refusal> {
        leases::revoke(self.draft, self.world, id).map(drop)
    }

    /// Notes what was observed; it is taken in after the commit.
    pub fn observe(&mut self, observation: Observation) {
        self.draft.observe(observation);
    }

    /// Makes an RSA key of one of [`RSA_BITS`]: PKCS #8 in DER. Slow: the decision is made anew with
    /// the result.
    pub fn rsa_key(&mut self, bits: u32) -> Result<&'s Secret<Vec<u8>>, Refusal> {
        if !RSA_BITS.contains(&bits) {
            return Err(Refusal::invalid(format!("no RSA keys of {bits} bits")));
        }
        self.draft.work(Work::RsaKey { bits })
    }

    /// Derives a key from a password with Argon2id. Slow: the decision is made anew with the result.
    pub fn password_key(
        &mut self,
        password: Secret<Vec<u8>>,
        salt: [u8; 16],
    ) -> Result<&'s Secret<Vec<u8>>, Refusal> {
        self.draft.work(Work::Password { password, salt })
    }
}
