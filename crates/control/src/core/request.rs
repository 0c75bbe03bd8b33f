//! A request, parsed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::{NodeId, Secret};
use hyper::HeaderMap;
use serde_json::{Map, Value};

use crate::core::idempotency::IdempotencyKey;
use crate::core::path::ApiPath;

/// What a request wants to do at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Write what is not there yet. The pipeline makes it of `Update` where the engine tells.
    Create,
    /// Read.
    Read,
    /// Write.
    Update,
    /// Merge into what is there.
    Patch,
    /// Delete.
    Delete,
    /// List what is below.
    List,
}

impl Operation {
    /// Returns the word for it in audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// A machine, proved by its client certificate on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A node.
    Node(NodeId),
    /// A node that also runs the control plane.
    Controller(NodeId),
    /// A node whose certificate has ended: it has proven its key, and may renew if it is a member.
    Ended(NodeId),
}

impl Identity {
    /// Returns which node it is.
    pub fn node(self) -> NodeId {
        match self {
            Self::Node(node) | Self::Controller(node) | Self::Ended(node) => node,
        }
    }
}

/// The certificates that a client showed in the handshake, the first of which it proved to have the
/// key of. Nobody has judged them: they may be self-signed, ended or revoked. Only for machines that
/// are not of this cluster; those have an [`Identity`] instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// In DER, the client's own first. At least one.
    pub chain: Vec<Vec<u8>>,
}

/// Where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection; `None` inside the process.
    pub address: Option<SocketAddr>,
    /// Who its client certificate says it is.
    pub identity: Option<Identity>,
    /// What certificates it showed, if it is no machine of this cluster.
    pub presented: Option<Arc<Presented>>,
    /// How patient one is with its address.
    pub patience: Patience,
}

/// How patient one is with an address. It may be of many machines, so it never decides alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patience {
    /// It is heard.
    #[default]
    Left,
    /// It was refused so often that only a ticket's right secret is heard.
    Worn,
}

/// A request, parsed and not yet authenticated.
pub struct Request {
    /// A random id in UUID form.
    pub id: String,
    /// What it wants to do; a write is `Update`.
    pub operation: Operation,
    /// Where.
    pub path: ApiPath,
    /// The fields of body or query.
    pub data: Map<String, Value>,
    /// The headers as they came, for the audit records alone. There may be secrets among them.
    pub headers: HeaderMap,
    /// The token, if one came.
    pub token: Option<Secret<String>>,
    /// How long a wrapped response should last, if it should be wrapped.
    pub wrap: Option<Duration>,
    /// Under which key its answer is remembered, for a repetition.
    pub idempotency: Option<IdempotencyKey>,
    /// Where it came from.
    pub peer: Peer,
    /// Whether the program itself asks: root without a token. Never set for what came over a wire.
    pub inside: Inside,
}

/// Whether a request was made by the program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// By a client.
    No,
    /// By the program: it may do everything.
    Yes,
}
