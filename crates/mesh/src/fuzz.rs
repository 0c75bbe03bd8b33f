//! What is fuzzed in this crate: everything that a stranger, or a member that lies, can send.

mod discovery;
mod input;
mod relay;
#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
mod uapi;
mod wireguard;

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("wireguard", wireguard::run),
    ("discovery", discovery::run),
    ("relay", relay::run),
    ("uapi", uapi::run),
];
