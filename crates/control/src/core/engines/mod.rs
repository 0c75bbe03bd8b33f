//! Engines: what grants things.

pub mod kv1;
