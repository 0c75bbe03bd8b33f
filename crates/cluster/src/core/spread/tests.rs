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
fn a_skewed_service_gets_more_replicas_and_then_loses_as_many() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    assert_eq!(rounds.replicas(0), None);
    assert_eq!(rounds.replicas(2_999), None);
    assert_eq!(rounds.replicas(3_000), Some(5));
    // The additional replicas are being started.
    rounds.state().services[0].replicas = Some(5);
    assert_eq!(rounds.replicas(3_250), None);
    rounds.state().tasks = tasks(&[1, 1, 2, 3]);
    assert_eq!(rounds.replicas(3_500), None);
    rounds.state().tasks = tasks(&[1, 1, 2, 2, 3]);
    assert_eq!(rounds.replicas(3_750), Some(3));
    rounds.state().services[0].replicas = Some(3);
    rounds.state().tasks = tasks(&[1, 2, 3]);
    assert_eq!(rounds.at(4_000), QUIET);
    assert_eq!(rounds.at(60_000), QUIET);
}

/// Places `more` replicas as swarmkit's scheduler does, in each order of the sites in turn.
fn placements(sites: &[u32], more: u32) -> Vec<Vec<u32>> {
    let count = u32::try_from(sites.len()).unwrap();
    let all: u32 = sites.iter().sum();
    let place = |order: usize| {
        let mut placed = sites.to_vec();
        let (share, mut rest) = ((all + more) / count, (all + more) % count);
        let mut left = more;
        for at in 0..sites.len() {
            let site = (at + order) % sites.len();
            if sites[site] < share || (sites[site] == share && rest > 0) {
                let wanted = share - sites[site] + u32::from(rest > 0);
                rest = rest.saturating_sub(1);
                placed[site] += wanted.min(left);
                left -= wanted.min(left);
            }
        }
        placed
    };
    (0..sites.len()).map(place).collect()
}

#[test]
fn however_swarm_places_the_additional_replicas_an_emptier_site_gets_one() {
    assert!(
        placements(&[2, 1, 0], 1).contains(&vec![2, 2, 0]),
        "the trap"
    );
    let mut checked = 0;
    for sites in (0..6_u32.pow(4)).map(|n| [n % 6, n / 6 % 6, n / 36 % 6, n / 216]) {
        let (least, most) = (sites.iter().min().unwrap(), sites.iter().max().unwrap());
        let Some(more) = surge(&sites).filter(|_| least + 2 <= *most) else {
            continue;
        };
        for placed in placements(&sites, more) {
            let helps = |at: usize| sites[at] < placed[at] && sites[at] + 2 <= *most;
            assert!((0..4).any(helps), "{sites:?} + {more} -> {placed:?}");
        }
        checked += 1;
    }
    assert!(900 < checked, "{checked}");
}

#[test]
fn a_move_never_takes_more_than_a_few_replicas() {
    assert_eq!(surge(&[2, 1, 0]), Some(2));
    assert_eq!(surge(&[5, 5, 0]), Some(1));
    assert_eq!(surge(&[1; 8]), Some(8));
    assert_eq!(surge(&[1; 9]), None);
    assert_eq!(surge(&[]), None);
}

#[test]
fn an_additional_replica_that_never_runs_is_given_up() {
    let mut rounds = Rounds::new(&[1, 1, 2]);
    rounds.at(0);
    assert_eq!(rounds.replicas(3_000), Some(5));
    rounds.state().services[0].replicas = Some(5);
    let given_up = 3_000 + u64::try_from(SURGE_MAX.as_millis()).unwrap();
    // Why it does not run is said before that, though not at once: it may be about to.
    rounds.state().tasks = tasks(&[1, 1, 2, 2]);
    rounds.state().tasks[3].running = false;
    rounds.state().tasks[3].trouble = Some("no room".to_owned());
    assert_eq!(rounds.at(4_000).troubles, []);
    assert!(rounds.at(13_000).troubles[0].what.contains("no room"));
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
    assert_eq!(rounds.replicas(6_000), Some(5));
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
