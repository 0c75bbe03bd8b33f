//! The kernel's interfaces: netlink, nftables, namespaces, processes, control groups, mounts,
//! capture, TUN and UDP batches, locked memory. Each module wraps one of them, thinly, with
//! arguments and results of our own types. This is the only crate with `unsafe`.
//!
//! It never decides anything: what to change in the kernel, and when, is for its callers. It never
//! reads the environment or prints, and it never forks and runs Rust code in the child.

pub mod batch;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod file;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod signals;
pub mod spawn;
pub mod sysctl;
pub mod tun;
pub mod udp;

#[cfg(test)]
mod test_support;
