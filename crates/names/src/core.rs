//! Pure: bytes and facts in, bytes and decisions out.

pub mod message;
pub mod quota;
pub mod upstreams;
pub mod zone;
