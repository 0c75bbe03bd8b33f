//! One thread that owns the machine, its socket and its TUN device.
//!
//! Drain the socket, drain the TUN, wait only when both are empty: on few cores this beats a thread
//! for each direction. Everything else that wants to touch the machine comes as a [`Call`] and runs
//! on that thread, so there is no lock.

mod companion;
mod floor;
mod sockets;
mod sources;
mod thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use bastide_linux::clock;
use bastide_linux::tun::{LinkWatch, Tun, TunError};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::rand::GetRandomFlags;

use crate::core::wireguard::{Entropy, Machine, MachineOptions, Roaming};

pub use companion::{Action, Alone, Companion};
pub use sockets::{Bind, Sockets};

use thread::Loop;

/// Calls that wait for the device's thread. It takes them within a batch's time, so more than a few
/// wait only if the thread hangs; a caller then waits too.
const CALLS_MAX: usize = 64;

/// MTU that padding respects until the link tells its own, bytes.
const MTU: u16 = 1420;

/// How long a device may still be held by a process that is ending.
const FREE_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a device is started.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Name of the TUN interface to make or attach; `%d` counts up from 0.
    pub interface: String,
    /// UDP port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// MTU to set on the interface, bytes; `None` leaves it.
    pub mtu: Option<u16>,
    /// Who decides about endpoints.
    pub roaming: Roaming,
    /// When the UDP port is bound.
    pub bind: Bind,
    /// The file that keeps the handshake timestamps' high-water mark; `None` trusts the clock.
    pub floor: Option<PathBuf>,
    /// What happens to the interface when the device ends.
    pub after: After,
}

/// What happens to an interface when its device ends, however that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is removed.
    Gone,
    /// It stays, with its addresses and routes, for the next device of this name; what is sent to
    /// it meanwhile is dropped.
    Kept,
}

/// Why a device could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UDP socket.
    #[error(transparent)]
    Udp(#[from] bastide_linux::udp::UdpError),
    /// The high-water mark could not be read.
    #[error("could not read the handshake timestamps in `{}`", path.display())]
    Floor {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Something else that the system denied.
    #[error("could not {operation} for device `{interface}`")]
    System {
        /// What was tried, in the imperative.
        operation: &'static str,
        /// The device.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The device's thread has ended, so nothing can be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device has ended")]
pub struct Ended;

/// Why a device's thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The interface was deleted.
    InterfaceGone,
    /// The thread panicked: our bug.
    Panicked,
}

/// What a call on the device's thread can reach.
pub struct Parts<'a, C> {
    /// The time of this call.
    pub now: Instant,
    /// The WireGuard machine.
    pub machine: &'a mut Machine,
    /// What lives beside it.
    pub companion: &'a mut C,
    /// The UDP port and its mark.
    pub sockets: &'a mut Sockets,
    /// What the thread has counted.
    pub counters: &'a Counters,
}

/// What a device has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were read.
    pub received: u64,
    /// Datagrams that the machine dropped.
    pub received_discarded: u64,
    /// Datagrams that were forwarded for others.
    pub forwarded: u64,
    /// Packets that the kernel would not take from us.
    pub tun_refused: u64,
    /// Packets that were read from the TUN device.
    pub packets: u64,
    /// Packets that the machine dropped: no peer, not IP.
    pub packets_discarded: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Datagrams that the kernel would not send.
    pub send_refused: u64,
}

type Call<C> = Box<dyn FnOnce(&mut Parts<'_, C>) + Send>;

enum Job<C> {
    Call(Call<C>),
    Stop,
}

/// Asks the device's thread to do something. Cheap to clone.
pub struct Handle<C> {
    jobs: mpsc::SyncSender<Job<C>>,
    bell: Arc<OwnedFd>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<C> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl<C: Companion> Handle<C> {
    /// Runs `call` on the device's thread and waits for its result. What the call makes the machine
    /// or the companion want to send is sent right after it.
    pub fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Parts<'_, C>) -> R + Send + 'static,
    ) -> Result<R, Ended> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.post(Job::Call(Box::new(move |parts| {
            // A caller that has gone does not want the answer.
            let _ = reply.send(call(parts));
        })))?;
        answer.recv().map_err(|_| Ended)
    }

    /// As [`Self::call`], to be awaited. Cancel safe; a call that was posted is run all the same.
    pub async fn ask<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Parts<'_, C>) -> R + Send + 'static,
    ) -> Result<R, Ended> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.post(Job::Call(Box::new(move |parts| {
            let _ = reply.send(call(parts));
        })))?;
        answer.await.map_err(|_| Ended)
    }

    /// Tells the device to end; does not wait.
    pub fn stop(&self) {
        // If it has ended already, so much the better.
        let _ = self.post(Job::Stop);
    }

    fn post(&self, job: Job<C>) -> Result<(), Ended> {
        self.jobs.send(job).map_err(|_| Ended)?;
        ring(&self.bell);
        Ok(())
    }
}

/// A running device. Dropping it ends its thread, and removes the interface if it was not to stay.
#[derive(Debug)]
pub struct Device<C: Companion> {
    handle: Handle<C>,
    interface: String,
    done: Arc<OwnedFd>,
    thread: Option<JoinHandle<End>>,
}

impl<C: Companion> Device<C> {
    /// Makes the TUN device, binds the port, and starts the thread, all in the calling thread's
    /// network namespace.
    pub fn start(options: DeviceOptions, companion: C) -> Result<Self, DeviceError> {
        let tun = attach(&options.interface)?;
        if options.after == After::Kept {
            tun.keep()?;
        }
        if let Some(mtu) = options.mtu {
            tun.set_mtu(mtu)?;
        }
        let interface = tun.name().to_owned();
        let failed = |operation| {
            let interface = interface.clone();
            move |source: io::Error| DeviceError::System {
                operation,
                interface,
                source,
            }
        };
        // Before the state is looked at, so that no change falls between.
        let watch = LinkWatch::open().map_err(failed("watch the link"))?;
        let sockets = Sockets::new(options.bind, options.port, tun.is_up()?)?;
        let floor = floor::Floor::open(options.floor)?;
        let now = Instant::now();
        let machine = Machine::new(
            now,
            MachineOptions {
                wall: clock::wall(),
                timestamp_floor: floor.last(),
                roaming: options.roaming,
                mtu: tun.mtu().unwrap_or(MTU),
            },
            Box::new(SystemEntropy),
        );
        let (jobs, inbox) = mpsc::sync_channel(CALLS_MAX);
        let bell = Arc::new(new_bell().map_err(failed("make a bell"))?);
        let done = Arc::new(new_bell().map_err(failed("make a bell"))?);
        let (its_bell, its_done) = (Arc::clone(&bell), Arc::clone(&done));
        let thread = std::thread::Builder::new()
            .name(format!("mesh-{interface}"))
            .spawn(move || {
                let _rings = RingOnDrop(its_done);
                Loop::new(
                    tun, watch, sockets, floor, machine, companion, inbox, its_bell,
                )
                .run()
            })
            .map_err(failed("start the thread"))?;
        Ok(Self {
            handle: Handle { jobs, bell },
            interface,
            done,
            thread: Some(thread),
        })
    }

    /// Returns the interface's name when it was made.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Returns what asks the device's thread to do something.
    pub fn handle(&self) -> Handle<C> {
        self.handle.clone()
    }

    /// Returns a descriptor that is readable once the thread has ended.
    pub fn done(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.done)
    }

    /// Waits until the thread has ended by itself.
    pub fn join(mut self) -> End {
        self.thread.take().map_or(End::Stopped, join)
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) -> End {
        self.handle.stop();
        self.join()
    }
}

impl<C: Companion> Drop for Device<C> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            join(thread);
        }
    }
}

/// Attaches to the TUN device. Its holder may have been killed, and take a moment to end.
fn attach(interface: &str) -> Result<Tun, TunError> {
    let began = Instant::now();
    loop {
        match Tun::open(interface) {
            Err(error) if error.is_busy() && began.elapsed() < FREE_WITHIN => {
                std::thread::sleep(LOOK_EVERY);
            }
            result => return result,
        }
    }
}

fn join(thread: JoinHandle<End>) -> End {
    thread.join().unwrap_or(End::Panicked)
}

/// An event counter that wakes a poll.
fn new_bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn ring(bell: &OwnedFd) {
    // It can only fail when it has been rung 2^64 times and not heard.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

struct RingOnDrop(Arc<OwnedFd>);

impl Drop for RingOnDrop {
    fn drop(&mut self) {
        ring(&self.0);
    }
}

/// The kernel's random numbers, straight: the generator of aws-lc-rs takes 60 to 300 ms to seed
/// itself at its first use in a process, which would be the first handshake's latency.
pub(super) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::rand::getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
                Ok(len) => filled += len,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel has random numbers once it has booted: {error}"),
            }
        }
    }
}
