//! What the agent does: sockets, files, the kernel, the engine.

pub mod agent;
pub mod doctor;
mod engine;
mod follow;
pub mod handover;
pub mod host;
mod images;
pub mod join;
mod ledger;
mod log_guard;
mod membership;
pub mod preflight;
mod report;
mod sessions;
mod socket;
pub mod sshd;
pub(crate) mod state;
pub mod undo;
mod upkeep;
