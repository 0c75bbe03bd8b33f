//! The mesh against real kernels and other people's programs, in network namespaces of its own.

mod rig;
mod wireguard;
