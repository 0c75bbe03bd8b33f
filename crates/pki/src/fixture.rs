//! What the tests of this crate share.

use std::time::Duration;

use bastide_api::{ClusterId, NodeId, UnixTime};

use crate::{Authority, Identity, Issued, ProvenKey, Validity};

pub const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-20T23:59:59Z.
pub fn now() -> UnixTime {
    UnixTime::from_millis(1_795_219_199_000)
}

pub fn cluster() -> ClusterId {
    ClusterId::from_bytes([1; 16])
}

pub fn node() -> NodeId {
    NodeId::from_bytes([2; 16])
}

pub fn authority() -> Authority {
    Authority::create(cluster(), now(), [3; 16])
}

pub fn proven(identity: &Identity) -> ProvenKey {
    ProvenKey::from_request(&identity.csr_pem()).expect("an identity's own request is valid")
}

pub fn for_a_day() -> Validity {
    Validity {
        now: now(),
        life: DAY,
    }
}

pub fn node_certificate(authority: &Authority) -> Issued {
    authority.sign_node(&proven(&Identity::generate()), node(), for_a_day(), [4; 16])
}
