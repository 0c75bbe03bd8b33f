//! Keeps a host's container engine in step with the view of the cluster: its membership in the Swarm,
//! its networks, the services of the deployed stacks, and the packet filter round its containers.
//! Each round looks at what is there, decides in a pure function, and acts through the one module
//! that knows the engine's API; nothing is assumed to have worked.
//!
//! ```text
//! view, tokens -+
//!               +-> core::swarm::plan -> steps -> engine -> report (tasks, tokens, troubles)
//! engine -------+
//! ```
//!
//! This crate never keeps desired state of its own, never shows a join token, never uses Swarm's
//! ingress or virtual addresses, and never touches a Swarm, service or table that is not ours.
#![forbid(unsafe_code)]

pub mod core;
pub mod engine;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod images;
pub mod run;

pub use crate::core::firewall;
pub use crate::core::service::Trouble;
pub use crate::engine::{Change, Engine, EngineError};
pub use crate::run::filter;
pub use crate::run::leave::leave;
pub use crate::run::reconcile::{
    Managed, RebuildError, RebuildPlan, Reconciler, Report, SwarmAccess,
};
