//! The WireGuard machine: the protocol as the whitepaper gives it, without I/O.

mod event;
mod machine;
pub mod message;
mod timestamp;

pub use event::{Discard, Event, PeerId, Received, Sent, Transmit};
pub use machine::{Entropy, Machine, MachineOptions, PeerStatus, Refusal, Roaming};
pub use timestamp::Tai64N;
