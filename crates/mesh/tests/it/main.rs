//! The mesh against real kernels and other people's programs, in network namespaces of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking and say aloud what they skip"
)]

mod blackhole;
mod device;
mod flood;
mod nodes;
mod rig;
mod wireguard;
