//! The words that all of Bastide shares: ids, names, addresses, secrets, the ticket, the view of the
//! cluster, and the wire types of the control protocol.
//!
//! Everything here is parsed once, at the door, into a type that cannot hold two spellings of one
//! thing. This crate never opens a socket, reads a clock, draws randomness or does cryptography.
#![forbid(unsafe_code)]

pub mod doctor;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod history;
mod ids;
mod keys;
mod names;
pub mod paths;
mod plan;
mod secret;
pub mod session;
pub mod status;
mod ticket;
mod time;
pub mod v1;
mod view;

pub use ids::{ClusterId, IdError, InstanceId, NodeId, TicketId};
pub use keys::{DiscoveryKey, KeyError, SigningKey, WireGuardKey};
pub use names::{
    Arch, ClusterName, NameError, NodeName, ServiceName, SiteName, StackName, TAGS_MAX, Tag,
};
pub use plan::{AddressPlan, PlanError, ports};
pub use secret::Secret;
pub use ticket::{CONTROLLERS_MAX, CaPin, Ticket, TicketError};
pub use time::UnixTime;
pub use view::{
    ClusterRecord, Controller, EntryKey, NodeRecord, Revision, SwarmSettings, View, ViewEntries,
    ViewError, WaitingJoin,
};
