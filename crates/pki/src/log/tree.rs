//! The tree over a log's lines (RFC 6962, section 2.1), kept in tiles of 256 hashes.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// SHA-256.
pub type Hash = [u8; 32];

/// Hashes of a full tile.
pub const TILE_HASHES: usize = 256;
/// Levels of the tree that a tile spans.
const TILE_HEIGHT: u32 = 8;

fn array(digest: &aws_lc_rs::digest::Digest) -> Hash {
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Returns the hash that the line after `line` names.
pub fn line_hash(line: &[u8]) -> Hash {
    array(&digest(&SHA256, line))
}

/// Returns the leaf of a line, by the line's hash: `SHA-256(0x00 || hash)`.
pub fn leaf_hash(line: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(line);
    array(&context.finish())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    array(&context.finish())
}

/// Returns the root over leaves, or over roots of subtrees of one size, that are a power of two in
/// number.
pub fn subtree(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            node_hash(&subtree(left), &subtree(right))
        }
    }
}

/// Where the hashes of full subtrees are found.
pub trait Nodes {
    /// What went wrong.
    type Error;

    /// Returns the root of the subtree over the leaves from `index << level` on, `1 << level` of them.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Returns the root over the first `size` leaves.
pub fn root<N: Nodes>(size: u64, nodes: &mut N) -> Result<Hash, N::Error> {
    match size {
        0 => Ok(array(&digest(&SHA256, &[]))),
        _ => over(0, size, nodes),
    }
}

/// Returns the root over leaves `low` to `high`, of which there is at least one.
fn over<N: Nodes>(low: u64, high: u64, nodes: &mut N) -> Result<Hash, N::Error> {
    let count = high - low;
    if count.is_power_of_two() && low.is_multiple_of(count) {
        return nodes.node(count.trailing_zeros(), low / count);
    }
    let middle = low + split(count);
    let left = over(low, middle, nodes)?;
    Ok(node_hash(&left, &over(middle, high, nodes)?))
}

/// Returns the largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// Proves that the tree of the first `to` leaves begins with that of the first `from` ones.
pub fn consistency<N: Nodes>(from: u64, to: u64, nodes: &mut N) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if from == 0 || to <= from {
        return Ok(proof);
    }
    // The way down to `from`, and what lies beside it; the proof tells that from below.
    let (mut low, mut high, mut is_known) = (0, to, true);
    let mut beside = Vec::new();
    while high != from {
        let middle = low + split(high - low);
        if from <= middle {
            beside.push((middle, high));
            high = middle;
        } else {
            beside.push((low, middle));
            low = middle;
            is_known = false;
        }
    }
    if !is_known {
        proof.push(over(low, high, nodes)?);
    }
    for (low, high) in beside.into_iter().rev() {
        proof.push(over(low, high, nodes)?);
    }
    Ok(proof)
}

/// Returns whether a proof shows that the tree with the root `to_root` begins with the one with the
/// root `from_root` (RFC 9162, section 2.1.4.2).
pub fn is_consistent(
    (from, from_root): (u64, &Hash),
    (to, to_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if to < from {
        return false;
    }
    if from == to {
        return from_root == to_root && proof.is_empty();
    }
    if from == 0 {
        return proof.is_empty();
    }
    let mut path = proof.iter();
    let first = if from.is_power_of_two() {
        Some(from_root)
    } else {
        path.next()
    };
    let Some(first) = first else {
        return false;
    };
    let (mut f, mut s) = (from - 1, to - 1);
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let (mut from_made, mut to_made) = (*first, *first);
    for hash in path {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            from_made = node_hash(hash, &from_made);
            to_made = node_hash(hash, &to_made);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            to_made = node_hash(&to_made, hash);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && from_made == *from_root && to_made == *to_root
}

/// A tile of the tree: up to 256 hashes side by side, each over `256^level` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its level, counted in tiles.
    pub level: u8,
    /// Which of its level.
    pub index: u64,
    /// Its hashes.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// Returns which tile holds a subtree, as its level and index, and where in it its hashes begin.
    pub fn of(level: u32, index: u64) -> (u8, u64, usize) {
        let within = level % TILE_HEIGHT;
        let first = index << within;
        let tile = u8::try_from(level / TILE_HEIGHT).unwrap_or(u8::MAX);
        let at = usize::try_from(first % 256).unwrap_or_default();
        (tile, first / 256, at)
    }

    /// Returns the root of a subtree that this tile holds; `None` if it does not reach that far.
    pub fn node(&self, level: u32, at: usize) -> Option<Hash> {
        let count = 1 << (level % TILE_HEIGHT);
        self.hashes.get(at..at + count).map(subtree)
    }
}

/// The right edge of a growing tree: its tiles that are not full yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// By level.
    parts: Vec<Vec<Hash>>,
}

impl Edge {
    /// Returns how many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Restores an edge: `part` returns the hashes of a tile that is not full, by level and index, of
    /// which there are so many. `None` if one of them is not right.
    pub fn restore<E>(
        size: u64,
        mut part: impl FnMut(u8, u64, usize) -> Result<Option<Vec<Hash>>, E>,
    ) -> Result<Option<Self>, E> {
        let mut parts = Vec::new();
        let (mut count, mut level) = (size, 0);
        while count != 0 {
            let wanted = usize::try_from(count % 256).unwrap_or_default();
            let hashes = match wanted {
                0 => Vec::new(),
                _ => match part(level, count / 256, wanted)? {
                    Some(mut hashes) if wanted <= hashes.len() => {
                        hashes.truncate(wanted);
                        hashes
                    }
                    _ => return Ok(None),
                },
            };
            parts.push(hashes);
            count /= 256;
            level += 1;
        }
        Ok(Some(Self { size, parts }))
    }

    /// Adds a leaf; tiles that it fills are appended to `full`.
    pub fn push(&mut self, leaf: Hash, full: &mut Vec<Tile>) {
        self.size += 1;
        let (mut hash, mut count) = (leaf, self.size);
        for level in 0.. {
            if self.parts.len() == level {
                self.parts.push(Vec::with_capacity(TILE_HASHES));
            }
            let part = &mut self.parts[level];
            part.push(hash);
            if part.len() < TILE_HASHES {
                return;
            }
            hash = subtree(part);
            count /= 256;
            full.push(Tile {
                level: u8::try_from(level).unwrap_or(u8::MAX),
                index: count - 1,
                hashes: std::mem::take(part),
            });
        }
    }

    /// Returns the tiles that are not full, by level.
    pub fn parts(&self) -> impl Iterator<Item = Tile> + '_ {
        self.parts
            .iter()
            .enumerate()
            .filter(|(_, hashes)| !hashes.is_empty())
            .map(|(level, hashes)| Tile {
                level: u8::try_from(level).unwrap_or(u8::MAX),
                index: (0..=level).fold(self.size, |count, _| count / 256),
                hashes: hashes.clone(),
            })
    }

    /// Returns the root over all leaves.
    pub fn root(&self) -> Hash {
        // From the right: each part is a run of subtrees of one size, split as the tree splits them.
        let mut right: Option<Hash> = None;
        for part in &self.parts {
            let mut rest = part.as_slice();
            let mut runs = Vec::new();
            while !rest.is_empty() {
                let largest = 1 << (usize::BITS - 1 - rest.len().leading_zeros());
                let (run, after) = rest.split_at(largest);
                runs.push(subtree(run));
                rest = after;
            }
            for run in runs.into_iter().rev() {
                right = Some(match right {
                    Some(right) => node_hash(&run, &right),
                    None => run,
                });
            }
        }
        right.unwrap_or_else(|| array(&digest(&SHA256, &[])))
    }
}
