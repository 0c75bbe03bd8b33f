//! What a lab is, decided without touching the kernel.

pub mod fault;
pub mod file;
pub mod frame;
pub mod nat;
pub mod operations;
pub mod plan;
pub mod tally;
