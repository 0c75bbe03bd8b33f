//! The control plane as this host reaches it, the clock beside the controller's, the certificate.

use std::time::Duration;

use bastide_api::UnixTime;
use bastide_api::doctor::{Check, Layer};

use crate::core::schedule::Life;

/// How far a node's clock may be from the controller's: far less than what certificates and
/// tickets allow for.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// What was seen of the control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneSeen {
    /// This host's own clock.
    pub wall: UnixTime,
    /// The time as this node knows it from the cluster.
    pub now: UnixTime,
    /// This node's certificate.
    pub certificate: CertificateSeen,
    /// Each controller's address and how it answered.
    pub controllers: Vec<(String, ControllerSeen)>,
}

/// What was seen of this node's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSeen {
    /// It cannot be read.
    Unreadable,
    /// From when to when it is good.
    Good(Life),
}

/// How a controller answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerSeen {
    /// It knows this node; its clock at the moment of the answer.
    Answered(UnixTime),
    /// It is sealed.
    Sealed,
    /// It refused this node, with these words.
    Refused(String),
    /// Whoever answered is not a controller of this cluster.
    Stranger(String),
    /// Nobody answered.
    Silent(String),
}

/// Judges the way to the control plane, and the clock by it.
pub fn judge(seen: &ControlPlaneSeen) -> Vec<Check> {
    let mut checks = vec![clock(seen)];
    checks.extend(
        seen.controllers
            .iter()
            .map(|(address, how)| one(address, how)),
    );
    checks.push(certificate(seen.certificate, seen.now));
    checks
}

fn clock(seen: &ControlPlaneSeen) -> Check {
    let answered = seen.controllers.iter().find_map(|(_, how)| match how {
        ControllerSeen::Answered(theirs) => Some(*theirs),
        _ => None,
    });
    let mend = "timedatectl set-ntp true, or set it by hand with `date -s`";
    if let Some(theirs) = answered {
        let (away, how) = if theirs < seen.wall {
            (seen.wall.since(theirs), "ahead of")
        } else {
            (theirs.since(seen.wall), "behind")
        };
        let found = format!("{:.1} s {how} the controller's", away.as_secs_f64());
        return if away <= SKEW_MAX {
            Check::pass(Layer::Time, "clock", found)
        } else {
            Check::fail(Layer::Time, "clock", found, mend)
        };
    }
    match seen.certificate {
        // Whatever the controller's clock says, it cannot stand before what it has signed.
        CertificateSeen::Good(life) if seen.wall < life.begins => Check::fail(
            Layer::Time,
            "clock",
            format!(
                "at least {} s behind: it stands before this node's certificate began",
                life.begins.since(seen.wall).as_secs()
            ),
            mend,
        ),
        _ => Check::skip(
            Layer::Time,
            "clock",
            "no controller answers, so there is none to compare with",
        ),
    }
}

fn one(address: &str, how: &ControllerSeen) -> Check {
    let name = format!("controller {address}");
    let layer = Layer::ControlPlane;
    match how {
        ControllerSeen::Answered(_) => Check::pass(layer, name, "answers, and knows this node"),
        ControllerSeen::Sealed => Check::fail(
            layer,
            name,
            "it is sealed: nodes go on until their certificates end, and nothing new is granted",
            "bastide unseal (on the controller)",
        ),
        ControllerSeen::Refused(why) => Check::fail(
            layer,
            name,
            format!("it refuses this node: {why}"),
            "if the node was removed: bastide down --forget, then `bastide join -` with a new ticket",
        ),
        ControllerSeen::Stranger(why) => Check::fail(
            layer,
            name,
            format!("who answers there is not a controller of this cluster: {why}"),
            "look at who has that address; nothing was sent to it",
        ),
        ControllerSeen::Silent(why) => Check::fail(
            layer,
            name,
            format!("it does not answer: {why}"),
            "on the controller: systemctl status bastide-server; on the way: let TCP 7443 through",
        ),
    }
}

fn certificate(seen: CertificateSeen, now: UnixTime) -> Check {
    let name = "certificate";
    let layer = Layer::ControlPlane;
    let again = "bastide down --forget, then `bastide join -` with a new ticket";
    let CertificateSeen::Good(life) = seen else {
        return Check::fail(layer, name, "it cannot be read", again);
    };
    if life.ends <= now {
        return Check::fail(layer, name, "it has ended (or this clock is ahead)", again);
    }
    let left = life.ends.since(now);
    let hours = left.as_secs() / 3600;
    let minutes = left.as_secs() / 60 % 60;
    let found = format!("good for another {hours} h {minutes} min");
    // Renewal is tried from half of its life on: at a quarter, it has failed for hours.
    if left < life.ends.since(life.begins) / 4 {
        return Check::fail(
            layer,
            name,
            format!("{found}, and was not renewed"),
            "mend the way to the control plane; the agent renews by itself",
        );
    }
    Check::pass(layer, name, found)
}
