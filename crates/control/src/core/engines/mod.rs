//! Engines: what grants things.

pub mod cubbyhole;
pub mod kv1;
pub mod kv2;
pub mod sys;
