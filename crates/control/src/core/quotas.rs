//! Rate limits: which rule a request falls under, and whether it may pass now. Decided before
//! anything else of a request is looked at, and kept in memory.
//!
//! A rule is for everything, a mount, a path, the paths that begin alike, or the logins of a role; of
//! those that fit, the most specific one alone counts. Each source address has a bucket of its own
//! under each rule, as in Vault, so that one flooder does not use up what is everybody's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::core::throttle::whole;

/// Most rules of a cluster.
pub const RULES_MAX: usize = 256;
/// Most buckets, and how many are forgotten at once where there is no room for one more.
const BUCKETS_MAX: usize = 65_536;
const FORGOTTEN_AT_ONCE: usize = 1_024;
/// Largest rate: beyond it a limit is none.
pub const RATE_MAX: f64 = 1e9;

/// Paths that no rule holds up: what must be answered for a server in trouble to be helped, and what
/// keeps nodes in the mesh.
pub const ALWAYS_EXEMPT: &[&str] = &[
    "mesh/leave",
    "mesh/renew",
    "mesh/watch",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
];

/// A rule, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Requests in each interval; more than 0.
    pub rate: f64,
    /// The interval, in seconds; not 0.
    pub interval: u64,
    /// For how long who asked too often is refused, in seconds; 0: until the next one is due.
    pub block: u64,
    /// Empty: everything. With a slash at its end: a mount. With `*` at its end: what begins so. Else
    /// a path.
    pub path: String,
    /// Of which role's logins; empty: of all requests.
    pub role: String,
    /// Kept for clients: there are no namespaces here.
    pub inheritable: bool,
}

/// What is set for all rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Paths that no rule holds up, besides [`ALWAYS_EXEMPT`].
    pub exempt: Vec<String>,
    /// Whether refused requests are audited.
    pub audit: bool,
    /// Whether answers tell what is left.
    pub headers: bool,
}

impl Rule {
    fn fits(&self, path: &str) -> bool {
        if self.path.is_empty() {
            return true;
        }
        if let Some(start) = self.path.strip_suffix('*') {
            return path.starts_with(start);
        }
        match self.path.strip_suffix('/') {
            Some(mount) => is_below(mount, path),
            None => path == self.path,
        }
    }

    /// How long it takes until one more request may pass.
    fn every(&self) -> Duration {
        let secs = Duration::from_secs(self.interval).as_secs_f64() / self.rate;
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
    }

    /// How many requests may pass at once.
    fn burst(&self) -> f64 {
        self.rate.max(1.0)
    }

    /// How long it takes until an empty bucket is full.
    fn whole(&self) -> Duration {
        let secs = self.every().as_secs_f64() * self.burst();
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
    }
}

fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The rules, most specific first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
    settings: Settings,
}

impl Rules {
    /// Puts rules in order.
    pub fn new(mut rules: Vec<Rule>, settings: Settings) -> Self {
        rules.sort_by_key(|rule| {
            let kind = match rule.path.as_bytes().last() {
                None => 3,
                Some(b'/') => 2,
                Some(b'*') => 1,
                Some(_) => 0,
            };
            (
                rule.role.is_empty(),
                kind,
                Reverse(rule.path.len()),
                rule.name.clone(),
            )
        });
        Self { rules, settings }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns what is set for all.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns whether the role of a login at this path matters.
    pub fn wants_role(&self, path: &str) -> bool {
        let of_role = |rule: &&Rule| !rule.role.is_empty();
        self.rules
            .iter()
            .take_while(of_role)
            .any(|rule| rule.fits(path))
    }

    /// Returns the number of the rule that counts for a path, and for the login of a role there.
    pub fn find(&self, path: &str, role: Option<&str>) -> Option<usize> {
        let exempt = self.settings.exempt.iter().map(String::as_str);
        let mut exempt = exempt.chain(ALWAYS_EXEMPT.iter().copied());
        if exempt.any(|exempt| is_below(exempt, path)) {
            return None;
        }
        self.rules.iter().position(|rule| {
            (rule.role.is_empty() || role == Some(rule.role.as_str())) && rule.fits(path)
        })
    }
}

/// What became of a request under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Passes(Left),
    /// It may not, before this time has passed.
    Waits(Left, Duration),
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// How many requests may pass at once.
    pub limit: u64,
    /// How many are left now.
    pub remaining: u64,
    /// In how long the bucket is full again.
    pub reset: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it will be full again.
    full_at: Instant,
    blocked_until: Option<Instant>,
}

/// Buckets of all sources under all rules.
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: BTreeMap<(usize, IpAddr), Bucket>,
}

impl Limiter {
    /// Forgets all buckets: the rules have changed.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    /// Counts a request from `source` under the rule of this number.
    pub fn ask(&mut self, now: Instant, rules: &Rules, number: usize, source: IpAddr) -> Verdict {
        let rule = &rules.rules[number];
        let (every, whole_bucket) = (rule.every(), rule.whole());
        let key = (number, whole(source));
        if BUCKETS_MAX <= self.buckets.len() && !self.buckets.contains_key(&key) {
            self.make_room(now);
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket {
            full_at: now,
            blocked_until: None,
        });
        let debt = bucket.full_at.saturating_duration_since(now);
        if let Some(until) = bucket.blocked_until.filter(|until| now < *until) {
            return Verdict::Waits(left(rule, debt), until - now);
        }
        bucket.blocked_until = None;
        match (debt + every).checked_sub(whole_bucket) {
            Some(wait) if !wait.is_zero() => {
                let wait = wait.max(Duration::from_secs(rule.block));
                if rule.block != 0 {
                    bucket.blocked_until = now.checked_add(wait);
                }
                Verdict::Waits(left(rule, debt), wait)
            }
            _ => {
                let full_at = bucket.full_at.max(now);
                bucket.full_at = full_at.checked_add(every).unwrap_or(full_at);
                Verdict::Passes(left(rule, debt + every))
            }
        }
    }

    fn make_room(&mut self, now: Instant) {
        let mut ranked: Vec<_> = self
            .buckets
            .iter()
            .map(|(key, bucket)| {
                let blocked = bucket.blocked_until.is_some_and(|until| now < until);
                ((blocked, bucket.full_at), *key)
            })
            .collect();
        let last = FORGOTTEN_AT_ONCE.min(ranked.len()) - 1;
        ranked.select_nth_unstable(last);
        for (_, key) in &ranked[..=last] {
            self.buckets.remove(key);
        }
    }
}

fn left(rule: &Rule, debt: Duration) -> Left {
    let free = rule.whole().saturating_sub(debt).as_secs_f64() / rule.every().as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and at most RATE_MAX; what is left of one is not told"
    )]
    let whole = |number: f64| (number + 1e-6) as u64;
    Left {
        limit: whole(rule.burst()),
        remaining: whole(free),
        reset: debt,
    }
}

#[cfg(test)]
mod tests;
