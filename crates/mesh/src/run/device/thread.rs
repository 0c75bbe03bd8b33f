//! The loop of the device's thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bastide_linux::batch::{BATCH_MAX, Outgoing, Packet, Received as Datagram, Slots};
use bastide_linux::tun::{LinkWatch, Tun};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

use super::floor::Floor;
use super::sources::Sources;
use super::{Action, Companion, Counters, End, Job, Parts, Sockets};
use crate::core::wireguard::{Event, Machine, Received, Sent, Transmit};

/// Room before a packet in its slot: the header of a data message.
const BEFORE: usize = 16;
/// Room behind it: padding and tag.
const AFTER: usize = 32;
/// The longest datagram and the longest packet.
const LEN_MAX: usize = 65_535;

/// Slots that one read of the socket fills. Each may hold a train of 45 datagrams, so that more
/// would only push what was read out of the cache before it is opened.
const RECEIVE_MAX: usize = 16;

/// How long the thread stays with full batches before it looks at calls and timers again.
const ROUNDS_MAX: usize = 8;

/// Everything that the thread owns.
pub struct Loop<C> {
    tun: Tun,
    watch: LinkWatch,
    sockets: Sockets,
    floor: Floor,
    machine: Machine,
    companion: C,
    inbox: mpsc::Receiver<Job<C>>,
    bell: Arc<OwnedFd>,

    slots: Slots,
    datagrams: Vec<Datagram>,
    packets: Vec<Packet>,
    outgoing: Vec<Outgoing>,
    sources: Sources,
    counters: Counters,
}

impl<C: Companion> Loop<C> {
    #[expect(clippy::too_many_arguments, reason = "one call, each a different type")]
    pub fn new(
        tun: Tun,
        watch: LinkWatch,
        sockets: Sockets,
        floor: Floor,
        machine: Machine,
        companion: C,
        inbox: mpsc::Receiver<Job<C>>,
        bell: Arc<OwnedFd>,
    ) -> Self {
        Self {
            tun,
            watch,
            sockets,
            floor,
            machine,
            companion,
            inbox,
            bell,
            slots: Slots::new(BATCH_MAX, BEFORE, LEN_MAX, AFTER),
            datagrams: Vec::with_capacity(BATCH_MAX),
            packets: Vec::with_capacity(BATCH_MAX),
            outgoing: Vec::with_capacity(BATCH_MAX),
            sources: Sources::default(),
            counters: Counters::default(),
        }
    }

    /// Runs until it is told to stop or the interface is gone.
    pub fn run(mut self) -> End {
        loop {
            let mut now = Instant::now();
            if self.serve_calls(now) {
                return End::Stopped;
            }
            if self.watch.take() {
                self.look_at_link();
            }
            let mut idle = false;
            for _ in 0..ROUNDS_MAX {
                now = Instant::now();
                let from_socket = self.drain_socket(now);
                let Ok(from_tun) = self.drain_tun(now) else {
                    return End::InterfaceGone;
                };
                if from_socket + from_tun == 0 {
                    idle = true;
                    break;
                }
            }
            self.run_timers(now);
            if idle && self.wait(now).is_err() {
                return End::InterfaceGone;
            }
        }
    }

    /// Runs the calls that wait; true if the thread is to end.
    fn serve_calls(&mut self, now: Instant) -> bool {
        while let Ok(job) = self.inbox.try_recv() {
            let Job::Call(call) = job else {
                return true;
            };
            call(&mut Parts {
                now,
                machine: &mut self.machine,
                companion: &mut self.companion,
                sockets: &mut self.sockets,
                counters: &self.counters,
            });
            self.flush(now);
        }
        false
    }

    /// Takes the link's state and MTU over.
    fn look_at_link(&mut self) {
        self.sources.clear();
        let mut mtu = self.tun.mtu();
        if mtu.is_err()
            && let Ok(watch) = self.tun.follow()
        {
            // It was moved or renamed. The socket stays where it was made.
            self.watch = watch;
            mtu = self.tun.mtu();
        }
        if let Ok(mtu) = mtu {
            self.machine.set_mtu(mtu);
        }
        if let Ok(is_up) = self.tun.is_up()
            && let Err(error) = self.sockets.set_up(is_up)
        {
            tracing::error!(%error, "the UDP port could not be bound");
        }
    }

    /// Handles one batch of datagrams; returns how many there were.
    fn drain_socket(&mut self, now: Instant) -> usize {
        let Some(socket) = self.sockets.bound() else {
            return 0;
        };
        self.datagrams.clear();
        if let Err(error) = socket.receive(&mut self.slots, RECEIVE_MAX, &mut self.datagrams) {
            tracing::debug!(%error, "could not read from the socket");
        }
        if self.datagrams.is_empty() {
            return 0;
        }
        self.outgoing.clear();
        for datagram in &self.datagrams {
            let start = datagram.range.start;
            self.sources.note(now, datagram.from, datagram.local);
            let bytes = &mut self.slots.slot(datagram.slot)[datagram.range.clone()];
            match self.machine.handle_datagram(now, datagram.from, bytes) {
                Ok(Received::Packet { range, .. }) => {
                    if let Err(error) = self.tun.write(&bytes[range]) {
                        self.counters.tun_refused += 1;
                        tracing::trace!(%error, "the kernel refused a packet");
                    }
                }
                Ok(Received::Taken) => {}
                Ok(Received::NotOurs) => {
                    match self.companion.handle_datagram(now, datagram.from, bytes) {
                        Action::Done => {}
                        Action::Forward(to) => self.outgoing.push(Outgoing {
                            slot: datagram.slot,
                            range: start..start + bytes.len(),
                            to,
                            local: self.sources.get(now, to),
                        }),
                    }
                }
                Err(reason) => {
                    self.counters.received_discarded += 1;
                    tracing::trace!(from = %datagram.from, %reason, "a datagram was dropped");
                }
            }
        }
        let count = self.datagrams.len();
        self.counters.received += count as u64;
        self.counters.forwarded += self.outgoing.len() as u64;
        self.send_outgoing();
        self.flush(now);
        count
    }

    /// Handles one batch of packets; returns how many there were, or an error if there will never
    /// be more.
    fn drain_tun(&mut self, now: Instant) -> Result<usize, Gone> {
        self.packets.clear();
        let read = self.tun.read(&mut self.slots, 0, &mut self.packets);
        self.outgoing.clear();
        for packet in &self.packets {
            let slot = self.slots.slot(packet.slot);
            match self.machine.handle_tun(now, slot, packet.range.clone()) {
                Ok(Sent::Sealed { to, range }) => self.outgoing.push(Outgoing {
                    slot: packet.slot,
                    range,
                    to,
                    local: self.sources.get(now, to),
                }),
                Ok(Sent::Queued) => {}
                Err(reason) => {
                    self.counters.packets_discarded += 1;
                    tracing::trace!(%reason, "a packet was dropped");
                }
            }
        }
        let count = self.packets.len();
        self.counters.packets += count as u64;
        if count > 0 {
            self.send_outgoing();
            self.flush(now);
        }
        match read {
            Ok(()) => Ok(count),
            Err(error) if is_gone(&error) => Err(Gone),
            Err(error) => {
                tracing::debug!(%error, "could not read from the TUN device");
                Ok(count)
            }
        }
    }

    fn send_outgoing(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        if let Some(socket) = self.sockets.bound() {
            let report = socket.send(&self.slots, &self.outgoing);
            self.counters.sent += report.sent as u64;
            self.counters.send_refused += report.refused as u64;
        }
    }

    fn run_timers(&mut self, now: Instant) {
        let mut any = false;
        if self.machine.poll_timeout().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
            any = true;
        }
        if self.companion.poll_timeout().is_some_and(|at| at <= now) {
            self.companion.handle_timeout(now);
            any = true;
        }
        if any {
            self.flush(now);
        }
    }

    /// Drains what machine and companion have to say.
    fn flush(&mut self, now: Instant) {
        self.drain_events(now);
        self.companion.direct(now, &mut self.machine);
        self.drain_events(now);
        let bound = self.sockets.bound();
        let mut send = |transmit: Transmit| {
            let Transmit {
                to,
                datagram,
                whole,
            } = transmit;
            let local = self.sources.get(now, to);
            let sent = bound.map(|socket| {
                if whole {
                    socket.send_whole(to, local, &datagram)
                } else {
                    socket.send_to(to, local, &datagram)
                }
            });
            if let Some(Ok(())) = sent {
                self.counters.sent += 1;
            } else {
                self.counters.send_refused += 1;
            }
        };
        while let Some(transmit) = self.machine.poll_transmit() {
            send(transmit);
        }
        while let Some(transmit) = self.companion.poll_transmit() {
            send(transmit);
        }
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::TimestampReserved(mark) => self.floor.raise(mark),
                // Perhaps the way from the preferred address is what is broken.
                Event::PeerSilent { .. } => self.sources.clear(),
                Event::WantsHandshake { .. }
                | Event::HandshakeCompleted { .. }
                | Event::SourceChanged { .. } => {}
            }
            tracing::debug!(?event, "the machine reports");
            self.companion.handle_event(now, &event);
        }
    }

    /// Waits for something to do.
    fn wait(&self, now: Instant) -> Result<(), Gone> {
        let first = [self.machine.poll_timeout(), self.companion.poll_timeout()];
        let rest = first
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now));
        let rest = rest.map(timespec);
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::new(&self.tun, PollFlags::IN));
        fds.push(PollFd::new(&self.bell, PollFlags::IN));
        fds.push(PollFd::new(&self.watch, PollFlags::IN));
        if let Some(socket) = self.sockets.bound() {
            fds.push(PollFd::new(socket, PollFlags::IN));
        }
        match poll(&mut fds, rest.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "could not wait");
                return Err(Gone);
            }
        }
        // A TUN device whose interface was deleted is in error for ever.
        if fds[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
        {
            return Err(Gone);
        }
        if fds[1].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.bell, &mut count);
        }
        Ok(())
    }
}

/// The interface is gone.
struct Gone;

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error())
}

fn timespec(rest: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: rest.subsec_nanos().into(),
    }
}
