//! Cryptokey routing: which peer holds an address, by longest prefix.

use std::net::IpAddr;

use ipnet::IpNet;

use super::event::PeerId;

/// Prefixes of both families and the peers that hold them: a path-compressed binary trie each.
#[derive(Default)]
pub struct AllowedIps {
    v4: Trie,
    v6: Trie,
}

impl AllowedIps {
    /// Gives a prefix to `peer` and returns who held exactly this prefix before.
    pub fn insert(&mut self, prefix: IpNet, peer: PeerId) -> Option<PeerId> {
        let (trie, key) = self.at(prefix);
        trie.insert(key, peer)
    }

    /// Removes exactly this prefix and returns who held it.
    pub fn remove(&mut self, prefix: IpNet) -> Option<PeerId> {
        let (trie, key) = self.at(prefix);
        trie.remove(key)
    }

    /// Returns the peer with the longest prefix that covers `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(v4) => self.v4.lookup(u128::from(v4.to_bits()) << 96),
            IpAddr::V6(v6) => self.v6.lookup(v6.to_bits()),
        }
    }

    /// Returns how many prefixes are held.
    pub fn len(&self) -> usize {
        self.v4.held + self.v6.held
    }

    fn at(&mut self, prefix: IpNet) -> (&mut Trie, Prefix) {
        match prefix {
            IpNet::V4(net) => {
                let bits = u128::from(net.network().to_bits()) << 96;
                (
                    &mut self.v4,
                    Prefix {
                        bits,
                        len: net.prefix_len(),
                    },
                )
            }
            IpNet::V6(net) => (
                &mut self.v6,
                Prefix {
                    bits: net.network().to_bits(),
                    len: net.prefix_len(),
                },
            ),
        }
    }
}

/// The first `len` of 128 bits; the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    bits: u128,
    len: u8,
}

impl Prefix {
    fn covers(self, key: u128) -> bool {
        common(self.bits, key) >= self.len
    }

    /// Which child of this prefix leads to `key`.
    fn branch(self, key: u128) -> usize {
        usize::from(self.len < 128 && key << self.len >> 127 == 1)
    }
}

/// How many leading bits two keys share.
fn common(a: u128, b: u128) -> u8 {
    u8::try_from((a ^ b).leading_zeros()).expect("at most 128")
}

struct Node {
    prefix: Prefix,
    peer: Option<PeerId>,
    children: [Option<Box<Node>>; 2],
}

impl Node {
    fn leaf(prefix: Prefix, peer: PeerId) -> Self {
        Self {
            prefix,
            peer: Some(peer),
            children: [None, None],
        }
    }
}

#[derive(Default)]
struct Trie {
    root: Option<Box<Node>>,
    held: usize,
}

impl Trie {
    fn insert(&mut self, prefix: Prefix, peer: PeerId) -> Option<PeerId> {
        let mut slot = &mut self.root;
        // Goes down while the node's prefix covers the new one.
        while slot
            .as_ref()
            .is_some_and(|node| node.prefix.len < prefix.len && node.prefix.covers(prefix.bits))
        {
            let node = slot.as_mut().expect("looked at above");
            slot = &mut node.children[node.prefix.branch(prefix.bits)];
        }
        let Some(node) = slot.as_mut() else {
            *slot = Some(Box::new(Node::leaf(prefix, peer)));
            self.held += 1;
            return None;
        };
        if node.prefix == prefix {
            let before = node.peer.replace(peer);
            self.held += usize::from(before.is_none());
            return before;
        }
        let shared = common(node.prefix.bits, prefix.bits)
            .min(node.prefix.len)
            .min(prefix.len);
        let below = slot.take().expect("looked at above");
        let mut joint = if shared == prefix.len {
            Box::new(Node::leaf(prefix, peer))
        } else {
            let bits = prefix.bits & mask(shared);
            let mut joint = Box::new(Node {
                prefix: Prefix { bits, len: shared },
                peer: None,
                children: [None, None],
            });
            let side = joint.prefix.branch(prefix.bits);
            joint.children[side] = Some(Box::new(Node::leaf(prefix, peer)));
            joint
        };
        let side = joint.prefix.branch(below.prefix.bits);
        joint.children[side] = Some(below);
        *slot = Some(joint);
        self.held += 1;
        None
    }

    fn remove(&mut self, prefix: Prefix) -> Option<PeerId> {
        let removed = remove(&mut self.root, prefix);
        self.held -= usize::from(removed.is_some());
        removed
    }

    fn lookup(&self, key: u128) -> Option<PeerId> {
        let mut best = None;
        let mut next = self.root.as_deref();
        while let Some(node) = next.filter(|node| node.prefix.covers(key)) {
            best = node.peer.or(best);
            if node.prefix.len == 128 {
                break;
            }
            next = node.children[node.prefix.branch(key)].as_deref();
        }
        best
    }
}

/// Removes below `slot`; depth is at most 128. Nodes that hold no peer keep two children.
fn remove(slot: &mut Option<Box<Node>>, prefix: Prefix) -> Option<PeerId> {
    let node = slot.as_mut()?;
    if node.prefix.len > prefix.len || !node.prefix.covers(prefix.bits) {
        return None;
    }
    let removed = if node.prefix == prefix {
        node.peer.take()
    } else {
        remove(&mut node.children[node.prefix.branch(prefix.bits)], prefix)
    };
    if removed.is_some() && node.peer.is_none() {
        match (node.children[0].take(), node.children[1].take()) {
            (Some(left), Some(right)) => node.children = [Some(left), Some(right)],
            (only, None) | (None, only) => *slot = only,
        }
    }
    removed
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
