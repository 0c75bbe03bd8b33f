//! One thread that owns the machine, its socket and its TUN device.

mod companion;

use std::time::Instant;

use crate::core::wireguard::Machine;

pub use companion::{Action, Alone, Companion};

/// How a device is started.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Name of the TUN interface to make or attach.
    pub interface: String,
    /// UDP port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// MTU to set on the interface, bytes; `None` leaves it.
    pub mtu: Option<u16>,
}

/// What a call on the device's thread can reach.
pub struct Parts<'a, C> {
    /// The time of this call.
    pub now: Instant,
    /// The WireGuard machine.
    pub machine: &'a mut Machine,
    /// What lives beside it.
    pub companion: &'a mut C,
    /// The UDP port that is bound; 0 while none is.
    pub port: u16,
}
