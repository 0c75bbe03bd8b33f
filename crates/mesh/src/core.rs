//! What decides: no socket, clock, file, task or randomness of its own.

pub mod path;
pub mod relay;
pub mod wireguard;
