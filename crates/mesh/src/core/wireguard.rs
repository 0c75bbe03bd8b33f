//! The WireGuard machine: the protocol as the whitepaper gives it, without I/O.
//!
//! ```text
//!  datagram -> message -> load, cookie -> noise -> peer: session (previous, current, next)
//!  packet   -> allowed IPs ----------------------> peer: session -> datagram
//! ```

mod allowed;
mod clock;
mod cookie;
mod event;
mod load;
mod machine;
pub mod message;
mod noise;
mod peer;
mod replay;
mod session;
mod timers;
mod timestamp;
pub mod uapi;

pub use event::{Discard, Event, PeerId, Received, Sent, Transmit};
pub use machine::{
    Entropy, Machine, MachineOptions, PEERS_MAX, PREFIXES_MAX, PeerStatus, Refusal, Roaming,
};
pub use timestamp::Tai64N;
