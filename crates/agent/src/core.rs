//! What the agent decides, without a clock, a socket or a file.

pub mod desired;
pub mod doctor;
pub mod journal;
pub mod picture;
pub mod schedule;
pub mod sessions;
pub mod skew;
pub mod sshd;
