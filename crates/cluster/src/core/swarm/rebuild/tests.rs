use super::*;
use crate::core::fixture::{desired, fresh, manager};
use crate::core::state::MemberId;

fn way_of(found: &Membership, leads: bool, anew: bool) -> Result<Way, RebuildRefusal> {
    way(&desired(1), found, leads, anew)
}

#[test]
fn a_manager_without_a_leader_keeps_its_swarm_and_one_that_lost_everything_begins_anew() {
    let found = manager().membership;
    assert_eq!(way_of(&found, false, false), Ok(Way::Keep));
    assert_eq!(way_of(&fresh().membership, false, false), Ok(Way::Anew));
    let broken = Membership {
        phase: Phase::Error("raft: no such file".to_owned()),
        ..fresh().membership
    };
    assert_eq!(way_of(&broken, false, false), Ok(Way::Anew));
    let steps = steps(Way::Anew, &desired(1), &broken);
    assert!(
        matches!(steps[..], [Step::Leave, Step::Init { .. }]),
        "{steps:?}"
    );
}

#[test]
fn a_swarm_that_works_is_replaced_only_when_that_is_asked_for() {
    let found = manager().membership;
    assert_eq!(way_of(&found, true, false), Err(RebuildRefusal::Works));
    assert_eq!(way_of(&found, true, true), Ok(Way::Anew));
}

#[test]
fn a_swarm_of_others_and_that_of_a_node_without_control_plane_are_never_touched() {
    let elsewhere = std::net::Ipv4Addr::new(192, 168, 1, 1);
    let found = Membership {
        address: Some(elsewhere),
        managers: vec![elsewhere],
        manager_ids: [MemberId("x".to_owned())].into(),
        ..manager().membership
    };
    for anew in [false, true] {
        assert_eq!(way_of(&found, true, anew), Err(RebuildRefusal::Foreign));
    }
    let worker = way(&desired(2), &fresh().membership, false, true);
    assert_eq!(worker, Err(RebuildRefusal::Elsewhere));
}
