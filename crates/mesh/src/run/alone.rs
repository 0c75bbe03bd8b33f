//! A plain WireGuard device, configured by `wg` and nobody else: `bastide wg`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::device::{After, Alone, Bind, Device, DeviceError, DeviceOptions, End};
use super::uapi::{Access, Uapi, UapiError};
use crate::core::wireguard::Roaming;

/// Why a device could not be run.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its socket.
    #[error(transparent)]
    Uapi(#[from] UapiError),
    /// The device's thread panicked.
    #[error("the thread of device `{interface}` panicked")]
    Panicked {
        /// The device.
        interface: String,
    },
}

/// Ends a device that runs. Cheap to clone; may be used from a signal handler's thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    /// Ends the device.
    pub fn now(&self) {
        // It can only fail when it has been told 2^64 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Runs a device in the calling thread's network namespace until it is stopped, its interface is
/// deleted or its UAPI socket is deleted. Removes both.
///
/// `ready` is called with the interface's name once `wg` can configure it. A caller that wants to
/// return to the shell starts its program anew, with a descriptor that `ready` writes to, and waits
/// for that: a process with threads must not fork.
pub fn run(interface: &str, stop: &Stop, ready: impl FnOnce(&str)) -> Result<(), AloneError> {
    let device = Device::start(
        DeviceOptions {
            interface: interface.to_owned(),
            port: 0,
            mtu: Some(1420),
            roaming: Roaming::On,
            bind: Bind::WhileUp,
            floor: None,
            after: After::Gone,
        },
        Alone,
    )?;
    let uapi = Uapi::open(device.interface())?;
    let interface = device.interface().to_owned();
    tracing::info!(%interface, socket = %uapi.path().display(), "device started");
    ready(&interface);
    let done = device.done();
    let closed = uapi.serve_until(
        &device.handle(),
        Access::Full,
        &[done.as_fd(), stop.0.as_fd()],
    );
    drop(uapi);
    let end = device.stop();
    tracing::info!(%interface, ?closed, ?end, "device ended");
    match end {
        End::Stopped | End::InterfaceGone => Ok(()),
        End::Panicked => Err(AloneError::Panicked { interface }),
    }
}
