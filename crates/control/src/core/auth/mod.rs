//! Auth methods: what proves who asks.

pub mod join;
pub mod token;
pub mod userpass;
