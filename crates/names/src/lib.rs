//! Names of services, nodes and containers, answered on every node by a resolver of the cluster's own.
//!
//! A zone is built from the signed view and from what the nodes report; the resolver answers from the
//! newest zone and passes other names to the host's own resolvers. It needs no controller: with the
//! control plane away it goes on answering from what it last knew.
//!
//! ```text
//! view + reports + dead nodes -> core::zone::Zone ─┐
//! container ── UDP, TCP ──> run::Resolver ── core::message::examine ── answer
//!                                 └── other names ──> the host's resolvers
//! ```
//!
//! This crate never changes the host's resolver settings, never forwards a name or an address of the
//! cluster, never answers a source outside the ranges it was given, and caches nothing.
#![forbid(unsafe_code)]

mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
mod run;

pub use crate::core::upstreams::upstreams;
pub use crate::core::zone::{Lookup, TTL_SECONDS, Zone};
pub use crate::run::{Counters, Resolver, ResolverConfig, ResolverError, knows};
