//! Sessions with containers, from node to node over the mesh: their logs, and commands in them.
//!
//! The control plane allows one under a policy path of its own (`cluster/logs/<stack>/<service>`,
//! `cluster/exec/<stack>/<service>`) and answers with a grant that it signed. Whoever asked takes the
//! grant to the node, which checks it and serves it once.
//!
//! ```text
//! caller --------- POST cluster/exec/shop/web {node, command} --------> control plane (policy, audit)
//!        <-------- {grant, signature} --------------------------------
//! caller -- TCP to the node's mesh address: line of JSON, then frames --> agent of the node -> engine
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, NodeId, ServiceName, StackName, UnixTime};

/// How long a grant can be taken up: a connection over the mesh, and clocks that are a little apart.
pub const GRANT_LIFE: Duration = Duration::from_secs(60);
/// Longest first line of a session, in bytes.
pub const OPENING_BYTES_MAX: usize = 64 * 1024;
/// Longest payload of a frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most words of a command, and most bytes of all of them.
pub const WORDS_MAX: usize = 1024;
/// See [`WORDS_MAX`].
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// What one session may do. Signed by the control plane, good once and for a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// 128 random bits, in hexadecimal: what makes it good only once.
    pub id: String,
    /// The node that serves it.
    pub node: NodeId,
    /// The stack whose containers it is about.
    pub stack: StackName,
    /// The service of that stack.
    pub service: ServiceName,
    /// What it allows.
    pub action: Action,
    /// Until when it can be taken up.
    pub until: UnixTime,
}

/// What a session does with a service's containers on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Shows what all of them wrote.
    Logs {
        /// Whether to go on with what they write from now on.
        follow: bool,
        /// How many lines of the past, of each; none: all.
        tail: Option<u32>,
    },
    /// Runs a command in one of them.
    Exec {
        /// The command and its arguments, not interpreted by a shell.
        command: Vec<String>,
        /// Whether it gets a terminal.
        tty: bool,
        /// Whether it gets what the caller types.
        stdin: bool,
    },
}

/// A grant, as text, with what proves it. The signature is over the text as it stands, so nobody
/// has to write JSON in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedGrant {
    /// The grant, as JSON.
    pub grant: String,
    /// Ed25519 signature over [`signed_bytes`], in base64.
    pub signature: String,
}

/// Returns what is signed: a word that no other signature of the cluster begins with, the cluster,
/// the text.
pub fn signed_bytes(cluster: ClusterId, grant: &str) -> Vec<u8> {
    let mut bytes = b"bastide session grant 1\0".to_vec();
    bytes.extend_from_slice(cluster.as_bytes());
    bytes.extend_from_slice(grant.as_bytes());
    bytes
}

/// What a frame carries. The layout is that of the Docker Engine's attach stream: one byte of kind,
/// three of zero, the payload's length in four (big-endian), the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the caller types; empty: it is over.
    Input,
    /// What a container wrote to its standard output.
    Output,
    /// What it wrote to its standard error.
    Errors,
    /// How the session ended: [`Ended`] as JSON. The last frame.
    Ended,
    /// The caller's terminal has these columns and rows, two bytes each (big-endian).
    Size,
}

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 8;

impl Kind {
    /// Returns the head of a frame with `length` bytes of payload, at most [`FRAME_BYTES_MAX`].
    pub fn head(self, length: usize) -> [u8; HEAD_BYTES] {
        let length = u32::try_from(length.min(FRAME_BYTES_MAX)).unwrap_or(0);
        let [a, b, c, d] = length.to_be_bytes();
        let kind = match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Errors => 2,
            Self::Ended => 3,
            Self::Size => 4,
        };
        [kind, 0, 0, 0, a, b, c, d]
    }

    /// Reads a head: the kind and the payload's length. `None` if it is none of ours.
    pub fn of_head(head: [u8; HEAD_BYTES]) -> Option<(Self, usize)> {
        let [kind, 0, 0, 0, a, b, c, d] = head else {
            return None;
        };
        let kind = match kind {
            0 => Self::Input,
            1 => Self::Output,
            2 => Self::Errors,
            3 => Self::Ended,
            4 => Self::Size,
            _ => return None,
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        (length <= FRAME_BYTES_MAX).then_some((kind, length))
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// All there was has been shown, or the command ended with this exit code.
    Exit(i64),
    /// It could not be served: why, in words.
    Refused(String),
}

#[cfg(test)]
mod tests;
