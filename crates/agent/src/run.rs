//! What the agent does: sockets, files, the kernel, the engine.

pub mod agent;
mod engine;
mod follow;
pub mod handover;
mod host;
mod images;
mod join;
mod membership;
mod report;
mod socket;
mod state;
mod undo;
