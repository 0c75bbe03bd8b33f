//! Engines: what grants things.

pub mod cluster;
pub mod cubbyhole;
pub mod identity;
pub mod kv1;
pub mod kv2;
pub mod mesh;
pub mod pki;
pub mod ssh;
pub mod sys;
pub mod totp;
pub mod transit;
