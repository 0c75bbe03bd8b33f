//! What decides: pure functions from what is wanted and what is there to what to do.

pub mod facts;
pub mod firewall;
pub mod service;
pub mod spread;
pub mod state;
pub mod swarm;
