//! What can go wrong with a lab.

use std::io;

use bastide_linux::cgroup::GroupError;
use bastide_linux::namespace::NamespaceError;
use bastide_linux::netlink::NetlinkError;
use bastide_linux::nft::NftError;
use bastide_linux::spawn::SpawnError;

use crate::core::file::ParseError;
use crate::run::capture::CaptureError;
use crate::run::state::StateError;

/// Why something could not be done with a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Its folder could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its supervisor could not be started.
    #[error("could not start the lab's supervisor")]
    Start(#[source] SpawnError),
    /// It did not come up.
    #[error("lab `{lab}` did not come up: {why}")]
    Up {
        /// The lab.
        lab: String,
        /// What its supervisor said.
        why: String,
    },
    /// It is not up.
    #[error("lab `{lab}` is not up")]
    NotUp {
        /// The lab.
        lab: String,
        /// Why it could not be reached.
        #[source]
        source: io::Error,
    },
    /// The lab's own file could not be read.
    #[error("could not read the file of the running lab")]
    File(#[source] ParseError),
    /// Its supervisor refused.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// No node has this name.
    #[error("no node is called `{node}`")]
    NoNode {
        /// The name.
        node: String,
    },
    /// A process could not be started in a node.
    #[error("could not run a command in node `{node}`")]
    Spawn {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// A process could not be waited for, or its output not be read.
    #[error("could not follow a command in node `{node}`")]
    Follow {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control group could not be joined.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A node's network could not be looked at.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A fault could not be set or looked at.
    #[error(transparent)]
    Fault(#[from] NftError),
    /// A capture could not begin.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Something else failed.
    #[error("could not {operation}")]
    System {
        /// What.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}
