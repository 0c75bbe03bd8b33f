//! The agent: one loop per host that keeps mesh, names, firewall and container engine in step with
//! the control plane.
//!
//! ```text
//! controller --watch--> view, facts --core--> peers, routes, rules, steps --run--> kernel, engine
//!      ^                                                                              |
//!      +------------------------- report: endpoints, tasks, paths <-------------------+
//! ```
//!
//! It never decides what the cluster should be, never drops a peer because the control plane is
//! silent, and never changes a host without writing down how to put it back.

#![forbid(unsafe_code)]

mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
mod run;

pub use core::doctor::is_sound;
pub use run::agent::{AgentError, AgentOptions, Pulse, run};
pub use run::doctor::{Doctor, examine};
pub use run::handover::{HANDOVER_BYTES_MAX, Handover, NodeSettings};
pub use run::host::HostError;
pub use run::join::{JoinError, Joining, join_host, tell_leaving};
pub use run::preflight::collisions;
pub use run::sshd::{
    AUTHORITY as SSH_AUTHORITY, FOLDER as SSH_FOLDER, KRL as SSH_KRL,
    certificate_name as host_certificate_name,
};
pub use run::undo::{LeaveError, LeaveOptions, is_member, last_view, leave, lock_of};
