//! What decides: no socket, clock, file, task or randomness of its own.

pub mod wireguard;
