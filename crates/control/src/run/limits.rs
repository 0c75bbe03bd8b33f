//! The rate limits that hold now, and what each source has left of them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bastide_api::Revision;
use bastide_store::Store;

use crate::core::engines::sys::quotas;
use crate::core::quotas::{Limiter, Rules, Verdict};
use crate::core::refusal::Refusal;

/// Rules as they were read last, and the buckets under them.
#[derive(Default)]
pub struct Limits {
    rules: Mutex<Option<(Revision, Arc<Rules>)>>,
    limiter: Mutex<Limiter>,
}

impl Limits {
    /// Returns the rules: those read last, unless they have changed since. `read` reads them, and says
    /// at which revision.
    pub fn rules(
        &self,
        store: &dyn Store,
        read: impl FnOnce() -> Result<(Revision, Rules), Refusal>,
    ) -> Result<Arc<Rules>, Refusal> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, rules)) = &*known
            && store.unchanged(&quotas::range(), *at)
        {
            return Ok(Arc::clone(rules));
        }
        let (at, rules) = read()?;
        let rules = match known.take() {
            // The store forgets what changed when; rules that are the same keep their buckets.
            Some((_, before)) if *before == rules => before,
            _ => {
                self.limiter().clear();
                Arc::new(rules)
            }
        };
        *known = Some((at, Arc::clone(&rules)));
        Ok(rules)
    }

    /// Returns the rules that were read last.
    pub fn known(&self) -> Option<Arc<Rules>> {
        let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|(_, rules)| Arc::clone(rules))
    }

    /// Counts a request under the rule of this number.
    pub fn ask(&self, rules: &Rules, number: usize, source: IpAddr) -> Verdict {
        self.limiter().ask(Instant::now(), rules, number, source)
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
