//! What is fuzzed in this crate: what the kernel says, in bytes and in words.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("netlink", crate::netlink::fuzz::run),
    ("mountinfo", crate::cgroup::fuzz),
];
