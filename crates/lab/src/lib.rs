//! The network laboratory: a whole network of hosts, routers, NATs and switches on one machine,
//! described in a YAML file, up in a fraction of a second and gone without a trace.
//!
//! ```text
//!   file -> Plan -> operations -> supervisor (PID 1 of its own PID namespace)
//!                                   | holds, by descriptor
//!                 +-----------------+-------------------+
//!            bridges of all     routers: network     hosts: network, files,
//!            segments, own      namespaces, NAT      processes, hostname, groups,
//!            namespace                               a first process each
//! ```
//!
//! The kernel takes everything of a lab away when its supervisor ends, however it ends; empty
//! control groups and the state folder alone stay, and the surviving parent or [`sweep`] removes
//! those. This crate never touches the machine's own network, never leaves a mount in its mount
//! namespace, and never starts a process outside the lab but the supervisor.

#![forbid(unsafe_code)]

pub mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod run;

pub use core::fault::{Fault, Which};
pub use core::file::ParseError;
pub use core::plan::Plan;
pub use core::tally::{Canary, Counts, Filters};
pub use run::lab::{Lab, LabError, Options};
pub use run::sweep::sweep;
