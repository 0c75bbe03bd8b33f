//! What does: sockets, the TUN device, threads and clocks.

pub mod device;
