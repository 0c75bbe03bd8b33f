//! Auth methods: what proves who asks.

pub mod userpass;
