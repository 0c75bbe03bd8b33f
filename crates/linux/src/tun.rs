//! A TUN device: a network interface whose other end is this process.
//!
//! [`Tun::read`] and [`Tun::write`] never wait; wait on the descriptor ([`AsFd`], which is also what
//! `tokio::io::unix::AsyncFd` takes). The device has one queue, which the kernel gives to one
//! process: a second that attaches to it is refused.

mod watch;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::batch::{Packet, Slots};
use crate::namespace::{self, Kind, Namespace};

pub use watch::LinkWatch;

const DEVICE: &str = "/dev/net/tun";

/// Packets that wait for this process before the kernel drops: a default of 500 loses packets at a
/// gigabit, because the reader may sleep for a tick.
const QUEUE_LENGTH: i32 = 2000;

/// Why a TUN device could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The name is not one that an interface can have.
    #[error("`{name}` is no name for a network interface")]
    Name {
        /// The name.
        name: String,
    },
    /// The kernel has no TUN devices, or we may not use them.
    #[error("could not open `{DEVICE}`")]
    Open {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device could not be made or attached.
    #[error("could not attach TUN device `{name}`")]
    Attach {
        /// The device.
        name: String,
        /// What the kernel said; "device or resource busy" if another process has it.
        #[source]
        source: io::Error,
    },
    /// A property could not be read or changed.
    #[error("could not {operation} of `{name}`")]
    Property {
        /// What was tried, in the imperative.
        operation: &'static str,
        /// The device.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A TUN device. Dropping it removes the interface, unless it was made to stay ([`Tun::keep`]).
#[derive(Debug)]
pub struct Tun {
    device: File,
    /// Any socket of the namespace that the device was made in: properties are asked through it.
    control: OwnedFd,
    name: String,
}

impl Tun {
    /// Makes a device in the calling thread's network namespace, or attaches to a persistent one
    /// that nobody holds. It is down and has no address. `%d` in the name counts up from 0.
    pub fn open(name: &str) -> Result<Self, TunError> {
        let mut request = request(name)?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|source| TunError::Open { source })?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("both are below 2^15");
        let attach = |source| TunError::Attach {
            name: name.to_owned(),
            source,
        };
        // WHY: no safe wrapper of this ioctl is among our dependencies.
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is, and keeps no pointer.
        check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
            .map_err(attach)?;
        // Offloads belong to the device and outlive a process: none is wanted, whoever set them.
        let none: libc::c_ulong = 0;
        // WHY: as above.
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, none) })
            .map_err(attach)?;

        let control = control().map_err(attach)?;
        let tun = Self {
            device,
            control,
            name: name_of(&request),
        };
        tun.set_queue_length(QUEUE_LENGTH)?;
        Ok(tun)
    }

    /// Lets the interface stay, with its addresses and routes, when nobody holds the device any more.
    /// What is sent to it then is dropped: it has no carrier, and its routes lead nowhere else. Only
    /// deleting the link removes it.
    pub fn keep(&self) -> Result<(), TunError> {
        let yes: libc::c_ulong = 1;
        // WHY: no safe wrapper of this ioctl is among our dependencies.
        // SAFETY: TUNSETPERSIST takes its argument by value.
        let kept = unsafe { libc::ioctl(self.device.as_raw_fd(), libc::TUNSETPERSIST, yes) };
        check(kept).map_err(|source| TunError::Property {
            operation: "keep the device",
            name: self.name.clone(),
            source,
        })
    }

    /// Returns the interface's name when it was made or last followed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the largest packet in bytes.
    pub fn mtu(&self) -> Result<u16, TunError> {
        let request = self.ask("read the MTU", libc::SIOCGIFMTU as libc::Ioctl, |_| ())?;
        // SAFETY: SIOCGIFMTU succeeded, so the kernel has written this field of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Sets the largest packet in bytes.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), TunError> {
        self.ask("set the MTU", libc::SIOCSIFMTU as libc::Ioctl, |request| {
            request.ifr_ifru.ifru_mtu = mtu.into();
        })?;
        Ok(())
    }

    /// Tells whether the interface is set up.
    pub fn is_up(&self) -> Result<bool, TunError> {
        let request = self.ask("read the state", libc::SIOCGIFFLAGS as libc::Ioctl, |_| ())?;
        // SAFETY: SIOCGIFFLAGS succeeded, so the kernel has written this field of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
    }

    /// Finds the interface again after it was moved to another network namespace or renamed, and
    /// returns a watch for where it is now. Until then its properties cannot be asked.
    pub fn follow(&mut self) -> Result<LinkWatch, TunError> {
        let name = self.name.clone();
        let failed = |source| TunError::Property {
            operation: "find the namespace",
            name: name.clone(),
            source,
        };
        let mut current = request(&name)?;
        let device = self.device.as_raw_fd();
        // WHY: no safe wrapper of this ioctl is among our dependencies.
        // SAFETY: TUNGETIFF writes one `ifreq`, which `current` is, and keeps no pointer.
        check(unsafe { libc::ioctl(device, libc::TUNGETIFF, &raw mut current) }).map_err(failed)?;
        // WHY: as above.
        // SAFETY: TUNGETDEVNETNS takes no argument.
        let network = unsafe { libc::ioctl(device, libc::TUNGETDEVNETNS) };
        check(network).map_err(failed)?;
        // WHY: a descriptor that an ioctl returns is a bare number.
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let network = unsafe { OwnedFd::from_raw_fd(network) };
        let network = Namespace::from_fd(Kind::Network, network);
        let (control, watch) = namespace::within(&[&network], || {
            Ok::<_, io::Error>((control()?, LinkWatch::open()?))
        })
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)?;
        self.control = control;
        self.name = name_of(&current);
        Ok(watch)
    }

    fn set_queue_length(&self, packets: i32) -> Result<(), TunError> {
        // "struct ifreq … ifr_qlen" shares its place with `ifr_ivalue`.
        self.ask(
            "set the queue length",
            libc::SIOCSIFTXQLEN as libc::Ioctl,
            |request| {
                request.ifr_ifru.ifru_metric = packets;
            },
        )?;
        Ok(())
    }

    fn ask(
        &self,
        operation: &'static str,
        code: libc::Ioctl,
        fill: impl FnOnce(&mut libc::ifreq),
    ) -> Result<libc::ifreq, TunError> {
        let mut request = request(&self.name)?;
        fill(&mut request);
        // WHY: no safe wrapper of these ioctls is among our dependencies.
        // SAFETY: all codes that are passed here read and write one `ifreq` and keep no pointer.
        check(unsafe { libc::ioctl(self.control.as_raw_fd(), code, &raw mut request) }).map_err(
            |source| TunError::Property {
                operation,
                name: self.name.clone(),
                source,
            },
        )?;
        Ok(request)
    }

    /// Reads packets until none waits or the slots from `first` on are full, and appends them to
    /// `packets`. An error other than "none waits" is returned after the packets before it were
    /// appended; EBADFD means that the interface is gone.
    pub fn read(
        &self,
        slots: &mut Slots,
        first: usize,
        packets: &mut Vec<Packet>,
    ) -> io::Result<()> {
        let start = slots.start();
        for slot in first..slots.count() {
            match (&self.device).read(slots.space(slot)) {
                Ok(len) => packets.push(Packet {
                    slot,
                    range: start..start + len,
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives one packet to the kernel. EIO means that the interface is down.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.device).write(packet).map(drop)
    }
}

impl TunError {
    /// Tells whether another process holds the device.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Attach { source, .. }
            if source.kind() == io::ErrorKind::ResourceBusy)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn control() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Makes a request about an interface, all else zero.
fn request(name: &str) -> Result<libc::ifreq, TunError> {
    let bytes = name.as_bytes();
    let fits = (1..libc::IFNAMSIZ).contains(&bytes.len())
        && !bytes.contains(&0)
        && !bytes.contains(&b'/')
        && !bytes.iter().any(u8::is_ascii_whitespace)
        && !matches!(name, "." | "..");
    if !fits {
        return Err(TunError::Name {
            name: name.to_owned(),
        });
    }
    // WHY: libc gives `ifreq` no constructor.
    // SAFETY: `ifreq` is a plain C structure; all bytes zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    Ok(request)
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request
        .ifr_name
        .iter()
        .map(|c| c.to_ne_bytes()[0])
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
