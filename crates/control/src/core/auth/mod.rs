//! Auth methods: what proves who asks.

pub mod token;
pub mod userpass;
