//! Who listens at a port of this network namespace, as `ss -ltunp` tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::core::doctor::{Holder, Protocol};

/// What the kernel writes for a listening TCP socket, and for a UDP socket that is not connected.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// How our program's file is called. Its process may have another name, because it starts itself as
/// `/proc/self/exe`, and after an upgrade the kernel adds ` (deleted)` to the file's.
const OURS: &str = "bastide";

/// The sockets that listen, and whose they are.
pub struct Listeners {
    /// By protocol and port: the inodes of the sockets.
    sockets: BTreeSet<(Protocol, u16, u64)>,
    /// By a socket's inode: the process that holds it.
    owners: BTreeMap<u64, (String, u32)>,
}

/// Returns all of them. What cannot be read is left out.
pub fn all() -> Listeners {
    let mut sockets = BTreeSet::new();
    // The kernel hands these tables out in pieces, and what moves in between can be missed: what is
    // missed once is hardly missed twice.
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ] {
        for _ in 0..2 {
            let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
            let found = text.lines().skip(1).filter_map(|line| socket(line, state));
            sockets.extend(found.map(|(port, inode)| (protocol, port, inode)));
        }
    }
    let owners = if sockets.is_empty() {
        BTreeMap::new()
    } else {
        owners()
    };
    Listeners { sockets, owners }
}

impl Listeners {
    /// Returns who listens at a port; the first found that is not us, if several do.
    pub fn holder(&self, protocol: Protocol, port: u16) -> Holder {
        let inodes = self
            .sockets
            .iter()
            .filter(|socket| (socket.0, socket.1) == (protocol, port))
            .map(|socket| socket.2);
        let mut holder = Holder::Nobody;
        for inode in inodes {
            match self.owners.get(&inode) {
                Some((name, _)) if is_ours(name) => holder = Holder::Bastide,
                Some((name, pid)) => return Holder::Other(format!("`{name}` (process {pid})")),
                None => return Holder::Other("a process of another namespace".to_owned()),
            }
        }
        holder
    }
}

/// Port and inode of one line of `/proc/net/tcp` or `/proc/net/udp`, if it is in this state.
fn socket(line: &str, state: &str) -> Option<(u16, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (local, found, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    if *found != state {
        return None;
    }
    let (_, port) = local.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, inode.parse().ok()?))
}

/// The sockets of all processes that can be seen, by inode.
fn owners() -> BTreeMap<u64, (String, u32)> {
    let mut owners = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        for inode in sockets_of(&entry.path().join("fd")) {
            owners.insert(inode, (name.clone().into_owned(), pid));
        }
    }
    owners
}

/// Whether a file of this name is our program, though another one may have replaced it since.
fn is_ours(name: &str) -> bool {
    name.strip_suffix(" (deleted)").unwrap_or(name) == OURS
}

fn sockets_of(descriptors: &Path) -> impl Iterator<Item = u64> {
    let links = fs::read_dir(descriptors).into_iter().flatten().flatten();
    links.filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    })
}

#[cfg(test)]
mod tests;
