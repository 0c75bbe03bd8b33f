//! What lives beside the WireGuard machine on the same socket and thread.

use std::net::SocketAddr;
use std::time::Instant;

use crate::core::wireguard::{Event, Machine, Transmit};

/// What becomes of a datagram that a companion was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing more: it was taken, or is to be dropped.
    Done,
    /// The datagram, as it now is, goes to this address, in the batch's order and without a copy.
    Forward(SocketAddr),
}

/// What shares the device's thread and UDP socket with the machine: path finder and relay.
///
/// All calls come from the device's thread. After each batch of inputs the device calls
/// [`Self::direct`], then drains [`Self::poll_transmit`], and asks [`Self::poll_timeout`] before it
/// waits.
pub trait Companion: Send + 'static {
    /// Handles a datagram that the machine has no use for: not WireGuard, or WireGuard for somebody
    /// else (an initiation with another's `mac1`, an index that is not ours).
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) -> Action;

    /// Handles an event of the machine.
    fn handle_event(&mut self, now: Instant, event: &Event);

    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);

    /// Applies its decisions: sets endpoints, starts handshakes.
    fn direct(&mut self, now: Instant, machine: &mut Machine);

    /// Returns the next datagram to send from the device's socket.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// Returns when to call [`Self::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;
}

/// No companion: plain WireGuard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Companion for Alone {
    fn handle_datagram(
        &mut self,
        _now: Instant,
        _from: SocketAddr,
        _datagram: &mut [u8],
    ) -> Action {
        Action::Done
    }

    fn handle_event(&mut self, _now: Instant, _event: &Event) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn direct(&mut self, _now: Instant, _machine: &mut Machine) {}

    fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
