//! What is kept of the source addresses that listeners hear from.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::throttle::{Connections, Held, Throttle};

/// Most bytes of bodies, and of the heads before them, that are in memory at a time; half of it of one
/// source. What comes beyond it is refused: a body may be waited for, and thousands may wait.
const BODIES_BYTES_MAX: usize = 128 << 20;

static BODIES: Mutex<Held> = Mutex::new(Held::up_to(BODIES_BYTES_MAX));

/// The bytes that are held for one request; dropped, they are free again.
#[derive(Debug)]
pub struct Load {
    source: Option<IpAddr>,
    bytes: usize,
}

impl Load {
    /// Nothing yet, of this source.
    pub fn of(source: Option<IpAddr>) -> Self {
        Self { source, bytes: 0 }
    }

    /// Takes so many bytes more; `false` if there are none left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let is_taken = bodies().take(self.source, bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.bytes != 0 {
            bodies().give_back(self.source, self.bytes);
        }
    }
}

fn bodies() -> MutexGuard<'static, Held> {
    BODIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sources of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    throttle: Throttle,
    connections: Connections,
}

/// A source's place for one connection; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// Begins; each source may have up to `most` connections at a time.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            throttle: Throttle::default(),
            connections: Connections::up_to(most),
        })))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection; `None` if the source has too many.
    pub fn admit(&self, source: IpAddr) -> Option<Place> {
        let is_admitted = self.kept().connections.opened(source);
        is_admitted.then(|| Place {
            sources: self.clone(),
            source,
        })
    }

    /// Returns for how long a source must wait before it may try to join again.
    pub fn wait(&self, source: IpAddr) -> Duration {
        self.kept().throttle.wait(Instant::now(), source)
    }

    /// Notes that a source was refused a join.
    pub fn refused(&self, source: IpAddr) {
        self.kept().throttle.refused(Instant::now(), source);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sources.kept().connections.closed(self.source);
    }
}
