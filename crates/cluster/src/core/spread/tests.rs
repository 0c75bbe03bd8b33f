use super::super::fixture::*;
use super::super::state::{Actual, SwarmTask};
use super::super::swarm::{Plan, SURGE_MAX, Step, plan};
use super::*;

/// Rounds over a Swarm of three nodes with one service, its replicas on the given nodes.
struct Rounds {
    desired: Desired,
    actual: Actual,
    memory: Memory,
}

impl Rounds {
    fn new(slots: &[u8]) -> Self {
        let mut desired = desired(1);
        desired.wishes = vec![wish("1")];
        let mut actual = manager();
        let state = actual.manager.as_mut().unwrap();
        state.services = vec![service(&wish("1"))];
        state.tasks = tasks(slots);
        Self {
            desired,
            actual,
            memory: Memory::default(),
        }
    }

    fn state(&mut self) -> &mut ManagerState {
        self.actual.manager.as_mut().unwrap()
    }

    fn at(&mut self, ms: u64) -> Plan {
        plan(
            &self.desired,
            &self.actual,
            &mut self.memory,
            UnixTime::from_millis(ms),
        )
    }

    fn replicas(&mut self, ms: u64) -> Option<u32> {
        match self.at(ms).steps.as_slice() {
            [] => None,
            [Step::UpdateService { replicas, .. }] => Some(*replicas),
            steps => panic!("{steps:?}"),
        }
    }
}

#[test]
fn a_skewed_service_gets_one_more_replica_and_then_loses_one() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    assert_eq!(rounds.replicas(0), None);
    assert_eq!(rounds.replicas(2_999), None);
    assert_eq!(rounds.replicas(3_000), Some(4));
    // The additional replica is being started.
    rounds.state().services[0].replicas = Some(4);
    assert_eq!(rounds.replicas(3_250), None);
    rounds.state().tasks = tasks(&[1, 1, 2, 3]);
    assert_eq!(rounds.replicas(3_500), Some(3));
    rounds.state().services[0].replicas = Some(3);
    rounds.state().tasks = tasks(&[1, 2, 3]);
    assert_eq!(rounds.at(3_750), Plan::default());
    assert_eq!(rounds.at(60_000), Plan::default());
}

#[test]
fn an_additional_replica_that_never_runs_is_given_up() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.at(0);
    assert_eq!(rounds.replicas(3_000), Some(4));
    rounds.state().services[0].replicas = Some(4);
    let given_up = 3_000 + u64::try_from(SURGE_MAX.as_millis()).unwrap();
    assert_eq!(rounds.replicas(given_up - 1), None);
    assert_eq!(rounds.replicas(given_up), Some(3));
}

#[test]
fn after_a_restart_in_the_middle_the_number_of_replicas_is_what_was_deployed() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.state().services[0].replicas = Some(4);
    assert_eq!(rounds.replicas(0), Some(3));
}

#[test]
fn a_returned_node_must_be_stable_without_a_break() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.at(0);
    rounds.state().members[2].ready = false;
    assert_eq!(rounds.replicas(2_000), None);
    rounds.state().members[2].ready = true;
    assert_eq!(rounds.replicas(3_000), None);
    assert_eq!(rounds.replicas(5_999), None);
    assert_eq!(rounds.replicas(6_000), Some(4));
}

#[test]
fn an_even_service_is_left_alone() {
    let check = |slots: &[u8]| {
        let mut rounds = Rounds::new(slots);
        rounds.at(0);
        assert_eq!(rounds.replicas(60_000), None, "{slots:?}");
    };
    check(&[1, 2, 3]);
    check(&[1, 1, 2, 3]);
    check(&[]);
}

#[test]
fn a_service_whose_replicas_still_move_is_left_to_swarm() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.state().tasks[0].running = false;
    rounds.at(0);
    assert_eq!(rounds.replicas(60_000), None);
    let homeless = SwarmTask {
        member: None,
        ..rounds.state().tasks[0].clone()
    };
    rounds.state().tasks[0] = homeless;
    assert_eq!(rounds.replicas(120_000), None);
}

#[test]
fn a_service_with_a_volume_is_never_moved() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.desired.wishes[0].spec.volumes =
        serde_json::from_str(r#"[{"volume":"data","target":"/data"}]"#).unwrap();
    let revision = rounds.desired.wishes[0].revision();
    rounds.state().services[0].revision = Some(revision);
    rounds.at(0);
    assert_eq!(rounds.replicas(60_000), None);
}

#[test]
fn nodes_that_a_constraint_excludes_do_not_count() {
    let mut rounds = Rounds::new(&[1, 1, 2, 2]);
    rounds.desired.wishes[0].spec.replicas = 4;
    rounds.desired.wishes[0].spec.placement.constraints =
        vec!["node.labels.bastide.site!=site-3".parse().unwrap()];
    let revision = rounds.desired.wishes[0].revision();
    rounds.state().services[0].revision = Some(revision);
    rounds.state().services[0].replicas = Some(4);
    rounds.at(0);
    assert_eq!(rounds.replicas(60_000), None);
}
