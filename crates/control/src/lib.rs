//! The control plane: one pipeline for every request, whoever asks and whatever it is about.
//!
//! A request is authenticated, authorised, routed to the mount that owns its path and decided there
//! by a pure function; what was decided is one batch, with its lease and its audit record, that one
//! writer commits together with many others before the answer goes out. The API is Vault's HTTP API
//! where Vault has the thing, and the same shape where it has not.
//!
//! ```text
//!  HTTP ──> door ──> Request ──> pipeline::decide ──> Decision ──> writer ──> answer
//!          parses    snapshot,    authenticate,       batch,       group       │
//!          paths     now,         authorise,          audit,       commit,     └─> watch,
//!          once      entropy      route to a mount    answer       fsync           facts
//! ```
//!
//! This crate never writes a table outside that path, never answers before what it answers is
//! durable, never logs a secret, and serves nothing while it is sealed.

#![forbid(unsafe_code)]

pub mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod run;
