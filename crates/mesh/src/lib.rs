//! The mesh: a WireGuard machine, the path finder that tells it where its peers are, and the relay
//! for peers that cannot reach each other.
//!
//! ```text
//!             TUN batches                     UDP batches
//!  kernel <----------------> run/device <----------------> network
//!                              |    ^
//!           packets, datagrams v    | sealed, opened, transmits, events
//!                     core/wireguard, core/path, core/relay
//! ```
//!
//! The cores never open a socket, read a clock or draw randomness; the crate never sends a packet
//! that is not sealed for its receiver, and never shows a private key of a managed device.
#![forbid(unsafe_code)]

pub mod core;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod run;

pub use run::alone;
pub use run::node::{Mesh, MeshConfig, MeshError, PeerSpec};
