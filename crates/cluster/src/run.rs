//! What does: the loop's body for an engine, and the host's packet filter.

mod disk;
pub mod filter;
pub mod leave;
pub mod reconcile;
