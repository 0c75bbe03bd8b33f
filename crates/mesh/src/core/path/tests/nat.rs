//! NATs as RFC 4787 tells them apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How a NAT maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None: a public address.
    Open,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address and port dependent filtering: most homes.
    PortRestricted,
    /// Address and port dependent mapping and filtering.
    Symmetric,
}

struct Mapping {
    inside: SocketAddr,
    /// Only for packets to there; `None` for all.
    only_to: Option<SocketAddr>,
    port: u16,
    /// Whom packets were sent to, and when last.
    talked: BTreeMap<SocketAddr, Instant>,
    used: Instant,
}

pub struct Nat {
    pub kind: Kind,
    pub outside: Ipv4Addr,
    pub timeout: Duration,
    mappings: Vec<Mapping>,
    next_port: u16,
}

impl Nat {
    pub fn new(kind: Kind, outside: Ipv4Addr, timeout: Duration) -> Self {
        Self {
            kind,
            outside,
            timeout,
            mappings: Vec::new(),
            next_port: 20_000,
        }
    }

    /// Forgets all mappings, as at a restart.
    pub fn restart(&mut self, outside: Ipv4Addr) {
        self.mappings.clear();
        self.outside = outside;
        self.next_port += 1000;
    }

    pub fn outbound(&mut self, now: Instant, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.expire(now);
        let only_to = (self.kind == Kind::Symmetric).then_some(to);
        let found = self
            .mappings
            .iter()
            .position(|it| it.inside == inside && it.only_to == only_to);
        let at = found.unwrap_or_else(|| {
            let is_free = self.mappings.iter().all(|it| it.port != inside.port());
            let port = if is_free && only_to.is_none() {
                inside.port()
            } else {
                self.next_port += 7;
                self.next_port
            };
            self.mappings.push(Mapping {
                inside,
                only_to,
                port,
                talked: BTreeMap::new(),
                used: now,
            });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        mapping.used = now;
        mapping.talked.insert(to, now);
        SocketAddr::new(IpAddr::V4(self.outside), mapping.port)
    }

    /// Returns who inside gets a packet, if anybody.
    pub fn inbound(&mut self, now: Instant, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        self.expire(now);
        let kind = self.kind;
        let timeout = self.timeout;
        let mapping = self.mappings.iter_mut().find(|it| it.port == port)?;
        let is_known = mapping
            .talked
            .get(&from)
            .is_some_and(|at| now.duration_since(*at) < timeout);
        if kind != Kind::FullCone && !is_known {
            return None;
        }
        mapping.used = now;
        mapping.talked.insert(from, now);
        Some(mapping.inside)
    }

    pub fn mappings(&self) -> usize {
        self.mappings.len()
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.timeout;
        self.mappings
            .retain(|it| now.duration_since(it.used) < timeout);
    }
}
