//! What an engine answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bastide_api::{Revision, UnixTime};
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::core::identity::Alias;
use crate::core::pipeline::Envelope;
use crate::core::token_type::TokenType;

/// What an engine answers, before the pipeline makes tokens and leases of it.
#[derive(Debug, Default)]
pub struct Answer {
    /// The answer itself.
    pub reply: Reply,
    /// Shown to whoever asked; makes a 200 of a 204.
    pub warnings: Vec<String>,
    /// Something granted that expires.
    pub lease: Option<Grant>,
    /// When to ask again, of what is no lease.
    pub refresh_after: Option<std::time::Duration>,
    /// Whether the request is observation only: with no writes it is then neither stored nor audited.
    pub quiet: bool,
}

/// The answer itself.
#[derive(Debug, Default)]
pub enum Reply {
    /// Done, nothing to say.
    #[default]
    Empty,
    /// It will be done.
    Accepted,
    /// The field `data` of the envelope.
    Data(Map<String, Value>),
    /// Not there, but something is to be said about it: the envelope with status 404.
    AbsentData(Map<String, Value>),
    /// The field `data` of the envelope, with a status of its own: a batch of which not all is done.
    Partial(Partial),
    /// JSON without envelope.
    Bare(Map<String, Value>),
    /// JSON without envelope, with a status of its own: errors in another protocol's words.
    Told(Partial),
    /// A login succeeded: make a token.
    Login(Box<Login>),
    /// The field `auth` of the envelope, ready made.
    Auth(Value),
    /// The envelope's lease fields alone, after a renewal.
    Renewed {
        /// Which lease.
        lease_id: String,
        /// For how long it is good now.
        ttl: Duration,
        /// Whether it can be renewed again.
        renewable: bool,
    },
    /// Bytes as they are, without JSON: a key, a certificate.
    Raw(Raw),
    /// An answer that was made before, whole.
    Ready(Box<Envelope>),
    /// A stream that goes on.
    Stream(Stream),
    /// It may be done, and is done once that is recorded: the keys of the barrier are not a decision's.
    Step(Step),
}

/// What is done with the barrier's keys, after it was decided who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub kind: StepKind,
    /// Who asked.
    pub by: Asker,
}

/// What can be done with the barrier's keys. Path and fields of the request say the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// Close the barrier.
    Seal,
    /// Begin another epoch.
    Rotate,
    /// Change the shares that open it.
    Rekey,
    /// Make a root token for those who show enough shares.
    GenerateRoot,
}

/// Who asked for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody whose policies allow it.
    Trusted,
    /// Anybody, where `compat = "vault"` allows that.
    Stranger,
}

/// An answer with a status of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The field `data`.
    pub data: Map<String, Value>,
    /// The HTTP status, 200 to 599.
    pub status: u16,
}

/// An answer that is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// What the body is, such as `text/plain`.
    pub content_type: &'static str,
    /// The body; empty: status 204.
    pub body: Vec<u8>,
}

/// A stream that goes on after the answer began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The signed view and the facts, from a revision on; `None`: from a snapshot on.
    Watch {
        /// The last revision that the watcher has.
        from: Option<Revision>,
        /// Which view the watcher knows, and the run of the control plane that it is of.
        known: Option<(Revision, String)>,
        /// How many lines of the audit log the watcher knows, if it wants to hear of it.
        log: Option<u64>,
    },
}

/// Something granted that expires, of which the engine keeps `data` to undo it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// For how long.
    pub ttl: Duration,
    /// For how long at most, with all renewals.
    pub ttl_max: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// What the engine needs to revoke it.
    pub data: Value,
}

/// What a login grants: the token that the pipeline makes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Login {
    /// The token's policies; `default` is added.
    pub policies: Vec<String>,
    /// What is known of whoever logged in. Not secret.
    pub metadata: BTreeMap<String, String>,
    /// What the method keeps of the login, to judge a renewal by. Shown nowhere.
    pub kept: BTreeMap<String, String>,
    /// The name shown in lookups.
    pub display_name: String,
    /// How long the token is to live; `None`: the mount's default.
    pub ttl: Option<Duration>,
    /// Its longest life; `None`: the mount's.
    pub ttl_max: Option<Duration>,
    /// If set, each renewal gives this long, without a longest life.
    pub period: Option<Duration>,
    /// A longest life that no setting prolongs.
    pub explicit_max_ttl: Option<Duration>,
    /// How often it can be used; 0: as often as wanted.
    pub num_uses: u64,
    /// Whether `default` is left out.
    pub no_default_policy: bool,
    /// Which kind of token; the mount's tuning has a say, see [`TokenType::at_login`].
    pub token_type: TokenType,
    /// Networks from which alone the token is good, and from which the login must come; none: all.
    pub bound_cidrs: Vec<IpNet>,
    /// Whether the token cannot be renewed.
    pub fixed: bool,
    /// Under which name the mount knows whoever logged in. `None`: the token belongs to no entity.
    pub alias: Option<Alias>,
    /// The names of the groups that the method says he is in: aliases of external groups.
    pub groups: Vec<String>,
}

impl Answer {
    /// Answers with `data`.
    pub fn data(data: Map<String, Value>) -> Self {
        Self::from(Reply::Data(data))
    }

    /// Answers with the fields of a JSON object.
    ///
    /// Give it `json!({…})`: anything else is an invariant broken.
    pub fn json(value: Value) -> Self {
        let Value::Object(data) = value else {
            unreachable!("answers are JSON objects")
        };
        Self::data(data)
    }

    /// Answers that it is done.
    pub fn done() -> Self {
        Self::default()
    }

    /// Answers a list; an empty one is absent.
    pub fn keys(keys: Vec<String>) -> Result<Self, super::refusal::Refusal> {
        if keys.is_empty() {
            return Err(super::refusal::Refusal::Absent);
        }
        Ok(Self::json(serde_json::json!({ "keys": keys })))
    }

    /// Adds a warning.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Adds a warning, if there is one.
    #[must_use]
    pub fn warned(self, warning: Option<impl Into<String>>) -> Self {
        match warning {
            Some(warning) => self.warn(warning),
            None => self,
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self {
            reply,
            ..Self::default()
        }
    }
}

/// Length of a time as Vault prints it, until the year 10,000.
const TIMESTAMP_BYTES: usize = 30;

/// A time as Vault prints it: RFC 3339 with nanoseconds.
pub fn timestamp(at: UnixTime) -> String {
    let mut text = String::with_capacity(TIMESTAMP_BYTES);
    write!(text, "{at}").expect("a text takes what is written to it");
    text.truncate(text.len() - 1);
    text.push_str("000000Z");
    text
}
