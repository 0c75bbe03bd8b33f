//! Whether a grant is served: here, now, and only once.

use std::collections::BTreeMap;

use bastide_api::session::{GRANT_LIFE, Grant};
use bastide_api::{NodeId, UnixTime};
use bastide_pki::Verified;

/// Most grants that are remembered until they end.
pub const TAKEN_MAX: usize = 1024;

/// A grant that this node serves. Only [`Desk::take`] makes one, and each once.
#[derive(Debug)]
#[must_use]
pub struct Admitted(Grant);

impl Admitted {
    /// What is allowed.
    pub fn grant(&self) -> &Grant {
        &self.0
    }
}

/// Why a grant is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// It is for another node.
    #[error("the grant is for another node")]
    OtherNode,
    /// It has ended.
    #[error("the grant has ended: ask for a new one")]
    Ended,
    /// It was made before this agent started, which cannot know whether it was taken up.
    #[error("the grant is older than this agent: ask for a new one")]
    BeforeStart,
    /// It was taken up before.
    #[error("the grant was taken up already")]
    Taken,
    /// Too many were taken up within their life.
    #[error("too many sessions were begun within a minute")]
    TooMany,
}

/// What a node remembers of grants.
#[derive(Debug)]
pub struct Desk {
    me: NodeId,
    started: UnixTime,
    taken: BTreeMap<String, UnixTime>,
}

impl Desk {
    /// Nothing taken yet.
    pub fn new(me: NodeId, started: UnixTime) -> Self {
        Self {
            me,
            started,
            taken: BTreeMap::new(),
        }
    }

    /// Takes up a grant.
    pub fn take(
        &mut self,
        grant: Verified<Grant>,
        now: UnixTime,
    ) -> Result<Admitted, GrantRefusal> {
        let grant = grant.into_inner();
        if grant.node != self.me {
            return Err(GrantRefusal::OtherNode);
        }
        if grant.until <= now {
            return Err(GrantRefusal::Ended);
        }
        if grant.until <= self.started.plus(GRANT_LIFE) {
            return Err(GrantRefusal::BeforeStart);
        }
        self.taken.retain(|_, until| now < *until);
        if self.taken.contains_key(&grant.id) {
            return Err(GrantRefusal::Taken);
        }
        if TAKEN_MAX <= self.taken.len() {
            return Err(GrantRefusal::TooMany);
        }
        self.taken.insert(grant.id.clone(), grant.until);
        Ok(Admitted(grant))
    }
}

/// Puts a container's name before each line of what it wrote; a line that never ends is cut.
#[derive(Debug)]
pub struct Lines {
    prefix: String,
    line: Vec<u8>,
}

/// Longest line that is kept back until it is complete, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

impl Lines {
    /// Lines of the container `name`.
    pub fn new(name: &str) -> Self {
        Self {
            prefix: format!("{name} | "),
            line: Vec::new(),
        }
    }

    /// Takes what was written; returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut complete = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || LINE_BYTES_MAX <= self.line.len() {
                self.flush(&mut complete);
            }
        }
        complete
    }

    /// Returns what was left at the end without a line's end.
    pub fn finish(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if !self.line.is_empty() {
            self.flush(&mut rest);
        }
        rest
    }

    fn flush(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.prefix.as_bytes());
        to.append(&mut self.line);
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
