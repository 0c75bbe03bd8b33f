//! What does: sockets, the TUN device, threads and clocks.

pub mod alone;
pub mod device;
pub mod node;
pub mod uapi;
