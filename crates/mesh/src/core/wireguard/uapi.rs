//! The text of the standard UAPI (wireguard.com/xplatform): what `wg` says to a device and what it
//! is answered.
//!
//! A request is parsed whole before any of it is applied, so that a torn one changes nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::{Secret, UnixTime, WireGuardKey};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use ipnet::IpNet;
use zeroize::Zeroize;

use super::{Machine, Refusal};

/// Longest request: room for every peer and prefix that a device can hold.
pub const REQUEST_LEN_MAX: usize = 16 << 20;

/// Why a request was refused, as the number that UAPI answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// A line that is not understood: EINVAL.
    #[error("a line of the request is not valid")]
    Invalid,
    /// A managed device takes no configuration from here: EPERM.
    #[error("the device is managed")]
    NotPermitted,
    /// A table is full: ENOSPC.
    #[error("a table of the device is full")]
    NoSpace,
    /// The port is taken: EADDRINUSE.
    #[error("the port is in use")]
    AddressInUse,
    /// The device is going away: ENODEV.
    #[error("the device has ended")]
    NoDevice,
    /// Something else of the system: EIO.
    #[error("the system refused")]
    Io,
}

impl Errno {
    /// Returns the number, negative as UAPI has it.
    pub fn number(self) -> i32 {
        match self {
            Self::Invalid => -22,
            Self::NotPermitted => -1,
            Self::NoSpace => -28,
            Self::AddressInUse => -98,
            Self::NoDevice => -19,
            Self::Io => -5,
        }
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManyPeers { .. } | Refusal::TooManyPrefixes { .. } => Self::NoSpace,
            Refusal::OwnKey | Refusal::NoSuchPeer => Self::Invalid,
        }
    }
}

/// A `set=1` request.
#[derive(Default)]
pub struct Set {
    /// The device's private key; `Some(None)` removes it.
    pub private_key: Option<Option<Secret<[u8; 32]>>>,
    /// The UDP port; 0 lets the kernel choose.
    pub listen_port: Option<u16>,
    /// The mark of outgoing datagrams; 0 is none.
    pub fwmark: Option<u32>,
    /// Whether peers that are not named are removed.
    pub replace_peers: bool,
    /// What happens to which peer, in order.
    pub peers: Vec<SetPeer>,
}

/// What a request says of one peer.
pub struct SetPeer {
    /// Its public key.
    pub key: WireGuardKey,
    /// Whether it is removed.
    pub remove: bool,
    /// Whether it is left alone if it is not there.
    pub update_only: bool,
    /// The preshared key; all zeros removes it.
    pub preshared_key: Option<Secret<[u8; 32]>>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 is never.
    pub keepalive_seconds: Option<u16>,
    /// Whether prefixes that are not named are taken from it.
    pub replace_allowed: bool,
    /// Prefixes that are given to it, or taken from it.
    pub allowed: Vec<Allowed>,
}

/// A prefix in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// `allowed_ip=…`
    Add(IpNet),
    /// `allowed_ip=-…`
    Remove(IpNet),
}

/// Parses the lines after `set=1`, without the empty line that ends them.
pub fn parse_set(text: &str) -> Result<Set, Errno> {
    let mut set = Set::default();
    let mut peer: Option<SetPeer> = None;
    for line in text.lines() {
        let (key, value) = line.split_once('=').ok_or(Errno::Invalid)?;
        if key == "public_key" {
            set.peers.extend(peer.take());
            peer = Some(SetPeer::new(parse_key(value)?));
            continue;
        }
        match &mut peer {
            None => set.device_line(key, value)?,
            Some(peer) => peer.line(key, value)?,
        }
    }
    set.peers.extend(peer);
    Ok(set)
}

impl Set {
    fn device_line(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match key {
            "private_key" => {
                let key = parse_secret(value)?;
                self.private_key = Some((key.expose() != &[0; 32]).then_some(key));
            }
            "listen_port" => self.listen_port = Some(number(value)?),
            "fwmark" => self.fwmark = Some(number(value)?),
            "replace_peers" => self.replace_peers = yes(value)?,
            _ => return Err(Errno::Invalid),
        }
        Ok(())
    }

    /// Applies everything but port and mark, which are the caller's.
    pub fn apply(self, now: Instant, machine: &mut Machine) -> Result<(), Errno> {
        if let Some(key) = self.private_key {
            machine.set_private_key(now, key);
        }
        if self.replace_peers {
            let old: Vec<_> = machine.peers().collect();
            for key in old {
                machine.remove_peer(&key);
            }
        }
        for peer in self.peers {
            peer.apply(now, machine)?;
        }
        Ok(())
    }
}

impl SetPeer {
    fn new(key: WireGuardKey) -> Self {
        Self {
            key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keepalive_seconds: None,
            replace_allowed: false,
            allowed: Vec::new(),
        }
    }

    fn line(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match key {
            "remove" => self.remove = yes(value)?,
            "update_only" => self.update_only = yes(value)?,
            "preshared_key" => self.preshared_key = Some(parse_secret(value)?),
            "endpoint" => self.endpoint = Some(value.parse().map_err(|_| Errno::Invalid)?),
            "persistent_keepalive_interval" => self.keepalive_seconds = Some(number(value)?),
            "replace_allowed_ips" => {
                self.replace_allowed = yes(value)?;
                self.allowed.clear();
            }
            "allowed_ip" => {
                let (prefix, allowed): (_, fn(IpNet) -> Allowed) = match value.strip_prefix('-') {
                    Some(prefix) => (prefix, Allowed::Remove),
                    None => (value.strip_prefix('+').unwrap_or(value), Allowed::Add),
                };
                let prefix: IpNet = prefix.parse().map_err(|_| Errno::Invalid)?;
                self.allowed.push(allowed(prefix.trunc()));
            }
            // "protocol_version … must be 1 if specified".
            "protocol_version" if value == "1" => {}
            _ => return Err(Errno::Invalid),
        }
        Ok(())
    }

    fn apply(self, now: Instant, machine: &mut Machine) -> Result<(), Errno> {
        let key = self.key;
        if self.remove {
            machine.remove_peer(&key);
            return Ok(());
        }
        // A device's own key among its peers is passed over: configurations are copied around.
        if machine.public_key() == Some(key) {
            return Ok(());
        }
        if machine.peer(&key).is_none() {
            if self.update_only {
                return Ok(());
            }
            machine.add_peer(key)?;
        }
        if let Some(preshared) = self.preshared_key {
            machine.set_preshared_key(&key, Some(preshared))?;
        }
        if let Some(endpoint) = self.endpoint {
            machine.set_endpoint(now, &key, Some(endpoint))?;
        }
        if self.replace_allowed {
            machine.disallow_all(&key)?;
        }
        for allowed in self.allowed {
            match allowed {
                Allowed::Add(prefix) => machine.allow(&key, prefix)?,
                Allowed::Remove(prefix) => machine.disallow(&key, prefix)?,
            }
        }
        if let Some(seconds) = self.keepalive_seconds {
            machine.set_keepalive(now, &key, seconds)?;
        }
        Ok(())
    }
}

/// What a `get=1` answer needs beside the machine.
#[derive(Debug, Clone, Copy)]
pub struct GetOptions {
    /// The time of the request, by both clocks.
    pub now: (Instant, UnixTime),
    /// The UDP port.
    pub listen_port: u16,
    /// The mark; 0 is none.
    pub fwmark: u32,
    /// Whether private and preshared keys are shown.
    pub secrets: Secrets,
}

/// Whether secrets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// To root, on a device that root configures.
    Shown,
    /// On a managed device: nobody needs them.
    Hidden,
}

/// Writes the answer to `get=1`, without the `errno` line that ends it.
pub fn write_get(machine: &Machine, options: GetOptions) -> Secret<String> {
    let mut text = String::new();
    let shown = options.secrets == Secrets::Shown;
    if let Some(key) = machine.private_key().filter(|_| shown) {
        line(&mut text, "private_key", &HEX.encode(key.expose()));
    }
    if options.listen_port != 0 {
        line(&mut text, "listen_port", &options.listen_port);
    }
    if options.fwmark != 0 {
        line(&mut text, "fwmark", &options.fwmark);
    }
    for key in machine.peers() {
        write_peer(&mut text, machine, &key, options);
    }
    Secret::new(text)
}

fn write_peer(text: &mut String, machine: &Machine, key: &WireGuardKey, options: GetOptions) {
    let Some(peer) = machine.peer(key) else {
        return;
    };
    line(text, "public_key", &HEX.encode(key.as_bytes()));
    match machine.preshared_key(key) {
        Some(preshared) if options.secrets == Secrets::Shown => {
            line(text, "preshared_key", &HEX.encode(preshared.expose()));
        }
        Some(_) | None => {}
    }
    line(text, "protocol_version", &1);
    if let Some(endpoint) = peer.endpoint {
        line(text, "endpoint", &endpoint);
    }
    let (now, wall) = options.now;
    let last = peer.last_handshake.map_or(Duration::ZERO, |at| {
        let ago = now.saturating_duration_since(at);
        Duration::from_millis(wall.as_millis()).saturating_sub(ago)
    });
    line(text, "last_handshake_time_sec", &last.as_secs());
    line(text, "last_handshake_time_nsec", &last.subsec_nanos());
    line(text, "tx_bytes", &peer.sent_bytes);
    line(text, "rx_bytes", &peer.received_bytes);
    line(
        text,
        "persistent_keepalive_interval",
        &peer.keepalive_seconds,
    );
    for prefix in &peer.allowed {
        line(text, "allowed_ip", prefix);
    }
}

fn line(text: &mut String, key: &str, value: &dyn std::fmt::Display) {
    writeln!(text, "{key}={value}").expect("writing to a string cannot fail");
}

fn parse_key(value: &str) -> Result<WireGuardKey, Errno> {
    let mut bytes = [0; 32];
    decode(value, &mut bytes)?;
    Ok(WireGuardKey::from_bytes(bytes))
}

fn parse_secret(value: &str) -> Result<Secret<[u8; 32]>, Errno> {
    let mut bytes = [0; 32];
    decode(value, &mut bytes)?;
    let secret = Secret::new(bytes);
    bytes.zeroize();
    Ok(secret)
}

fn decode(value: &str, to: &mut [u8; 32]) -> Result<(), Errno> {
    if value.len() != 64 {
        return Err(Errno::Invalid);
    }
    HEX.decode_mut(value.as_bytes(), to)
        .map_err(|_| Errno::Invalid)?;
    Ok(())
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, Errno> {
    // Numbers have one spelling: no sign, no spaces.
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Errno::Invalid);
    }
    value.parse().map_err(|_| Errno::Invalid)
}

fn yes(value: &str) -> Result<bool, Errno> {
    if value == "true" {
        Ok(true)
    } else {
        Err(Errno::Invalid)
    }
}

#[cfg(test)]
mod tests;
