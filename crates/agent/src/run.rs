//! What the agent does: sockets, files, the kernel, the engine.

pub mod agent;
pub mod doctor;
mod engine;
mod follow;
pub mod handover;
mod host;
mod images;
mod join;
mod ledger;
mod membership;
mod report;
mod socket;
pub(crate) mod state;
pub mod undo;
mod upkeep;
