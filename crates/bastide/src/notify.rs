//! Telling systemd how a daemon does (sd_notify(3)): that it is ready, that it lives, that it ends.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who is told; nobody, unless a service manager asked for it.
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it is to be told that the daemon lives.
    every: Option<Duration>,
    told: Mutex<Option<Instant>>,
}

impl Notifier {
    /// Takes what the service manager put into the environment.
    pub fn from_environment() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            let bytes = path.as_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&path),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // Meant for another process, if one is named that we are not.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|_| is_ours);
        Self {
            to,
            every: limit.map(|limit| Duration::from_micros(limit) / 3),
            told: Mutex::new(None),
        }
    }

    /// The daemon does what it is for.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The daemon's loop goes round. May be called as often as it does.
    pub fn alive(&self) {
        let Some(every) = self.every else { return };
        let mut told = self
            .told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_none_or(|at| every <= at.elapsed()) {
            *told = Some(Instant::now());
            self.tell("WATCHDOG=1");
        }
    }

    /// The daemon ends because it was told to.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// How often [`Self::alive`] is to be called at least, if at all.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::debug!(%error, what, "the service manager was not told");
        }
    }
}
