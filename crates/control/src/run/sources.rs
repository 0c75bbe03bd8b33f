//! What is kept of the source addresses that the door facing the world hears from.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::throttle::{Connections, Throttle};

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
