//! What decides: pure functions from what is wanted and what is there to what to do.

pub mod collisions;
pub mod facts;
pub mod firewall;
#[cfg(test)]
pub(crate) mod fixture;
pub mod service;
pub mod spread;
pub mod state;
pub mod swarm;
