//! The path finder: which address reaches which peer, found by asking and never by guessing.
//!
//! ```text
//!  candidates (published, told, heard, last good)
//!        |  ping, sealed                    pong: your address as I see it
//!        v                                        |
//!   probe each -> first answer -> selected way -> checked for as long as it is used
//!        |                             ^
//!        +-> bind at a relay ----------+  at once, until something direct answers
//! ```
//!
//! Relay first, direct as soon as a probe is answered, back to a relay when nothing answers for
//! [`PATIENCE`]. Every message is sealed between two nodes' discovery keys, so that strangers get no
//! answer; every question is at least as long as its answer, so that nobody is amplified.

mod address;
mod budget;
mod event;
mod finder;
pub(crate) mod message;
mod node;
mod observers;
mod options;
mod peer;
pub(crate) mod seal;
mod window;

pub use address::Exclude;
pub use budget::{DESTINATIONS_MAX, PER_SECOND_MAX};
pub use event::{BindAsked, Discard, Event};
pub use finder::{PATIENCE, PING_ACTIVE, PING_IDLE, PING_RELAYED, PathFinder, TRUST};
pub use message::{CANDIDATES_MAX, Verdict};
pub use node::{Node, NodeOptions, Note, PeerRecord, Take};
pub use options::{FinderOptions, PeerOptions};
pub use seal::is_discovery;

#[cfg(test)]
mod tests;
