//! Reads a compose file strictly and turns it into the services of a stack.
//!
//! A key that is not understood is an error with its line, never ignored; what would break out of a
//! container is refused by name. The result is plain data: the control plane stores it as JSON, and
//! the cluster's reconciler turns it into the orchestrator's words.
//!
//! ```text
//! compose text -> core::yaml (tree with lines) -> core::compose (checks) -> Stack -> JSON
//! ```
//!
//! This crate never opens a file, asks a registry, reads the environment or talks to an engine.
#![forbid(unsafe_code)]

mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;

pub use crate::core::compose::{
    COMPOSE_BYTES_MAX, ComposeError, SERVICES_MAX, declared_name, parse,
};
pub use crate::core::image::{Digest, DigestError, ImageRef, ImageRefError};
pub use crate::core::model::{
    ByteSize, Constraint, FailureAction, Healthcheck, Millis, NanoCpus, Placement, Port,
    ProbeCommand, Protocol, Resources, Restart, RestartCondition, Service, Stack, Tmpfs, Update,
    UpdateOrder, Volume, VolumeMount, VolumeName,
};
