//! What paths, and what happened to them, are called.

use bastide_api::NodeId;
use bastide_api::paths::{
    CandidateOrigin, NatMapping, NotDirect, PathChange, PathEvent, PathReason, RelayState,
};
use bastide_api::status::Status;
use bastide_api::v1::PathKind;

/// Names a way.
pub fn way(status: &Status, kind: PathKind) -> String {
    match kind {
        PathKind::None => "no path".to_owned(),
        PathKind::Direct { to } => format!("direct {to}"),
        PathKind::Relayed { via } => format!("relayed by {}", name(status, via)),
    }
}

/// Tells an event in a line.
pub fn event(status: &Status, event: &PathEvent) -> String {
    let what = match event.change {
        PathChange::Way { from, to } => format!("{} -> {}", way(status, from), way(status, to)),
        PathChange::Mtu { from, to } => format!("packets of {from} -> {to} bytes"),
    };
    format!("{}: {what}: {}", since(event.ago_ms), reason(event.reason))
}

/// Tells whether an event is a sign of trouble, and not of a path that has become better.
pub fn is_trouble(event: &PathEvent) -> bool {
    matches!(
        event.reason,
        PathReason::NoAnswer
            | PathReason::Lossy
            | PathReason::RelayLost
            | PathReason::RelayRefused
            | PathReason::LargeLost
    )
}

fn reason(reason: PathReason) -> &'static str {
    match reason {
        PathReason::Answered => "it answered",
        PathReason::Nearer => "it answers sooner",
        PathReason::PeerMoved => "the other side uses it",
        PathReason::NoAnswer => "the one before did not answer",
        PathReason::Lossy => "the one before lost a half or more",
        PathReason::RelayLost => "the relay is not reached",
        PathReason::RelayRefused => "the relay does not know the node, or has no room",
        PathReason::LargeLost => "longer ones vanish on the way",
        PathReason::LargeArrived => "longer ones get through",
    }
}

pub fn not_direct(why: NotDirect) -> &'static str {
    match why {
        NotDirect::NoCandidate => "no address of the node is known",
        NotDirect::NoAnswer => "no address of the node answers; is UDP blocked?",
        NotDirect::Searching => "the first search is under way",
        NotDirect::Lossy => {
            "the direct path loses a half or more; it is tried again every 2 minutes"
        }
        NotDirect::OwnNatVaries => {
            "the NAT here gives each destination another port, and the other's lets only known ones in"
        }
        NotDirect::PeerNatVaries => {
            "the other's NAT gives each destination another port, and the one here lets only known ones in"
        }
        NotDirect::BothNatsVary => "both NATs give each destination another port",
    }
}

pub fn nat(mapping: NatMapping) -> &'static str {
    match mapping {
        NatMapping::Unknown => "not known: fewer than two nodes have seen it from outside",
        NatMapping::Same => "none, or one that keeps its port",
        NatMapping::Varies => "gives each destination another port",
    }
}

pub fn origin(origin: CandidateOrigin) -> &'static str {
    match origin {
        CandidateOrigin::LastGood => "last time",
        CandidateOrigin::Published => "the view",
        CandidateOrigin::Told => "its call",
        CandidateOrigin::Heard => "its packets",
    }
}

pub fn state(state: RelayState) -> &'static str {
    match state {
        RelayState::Spare => "not asked",
        RelayState::Asked => "asked",
        RelayState::Bound => "forwards",
        RelayState::Refused => "refused",
        RelayState::Failed => "failed",
    }
}

/// Names a node.
pub fn name(status: &Status, node: NodeId) -> String {
    let found = status.nodes.iter().find(|one| one.id == node);
    found.map_or_else(|| node.to_string(), |one| one.name.to_string())
}

/// Tells a round trip.
pub fn latency(rtt_us: Option<u32>) -> String {
    rtt_us.map_or_else(
        || "-".to_owned(),
        |us| format!("{}.{:01} ms", us / 1000, us % 1000 / 100),
    )
}

/// Tells how long ago something was.
pub fn since(ago_ms: u64) -> String {
    let seconds = ago_ms / 1000;
    match seconds {
        0 => format!("{ago_ms} ms ago"),
        1..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
