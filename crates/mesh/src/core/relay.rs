//! The relay: forwards datagrams between members that cannot reach each other, without a header of
//! its own and without being able to read them.
//!
//! ```text
//!   A ----datagram for P----> relay ----the same bytes----> P
//!         source address says A;      P's address, as it was last heard;
//!         mac1 or index says P        P answers to where it came from: the relay
//! ```
//!
//! Only members that proved who they are from an address are forwarded from that address, and only
//! to members that they are bound with. The relay makes no datagram by itself: what leaves it has
//! come in, byte for byte, and is paid for from the sender's share.

mod bucket;
mod table;

pub use bucket::Bucket;
pub use table::{
    BIND_LIFE, Discard, HEARD_LIFE, INDICES_MAX, MemberKey, PAIRS_MAX, PAIRS_PER_MEMBER_MAX, Quota,
    Relay, RelayStatus, Share, Unbound,
};
