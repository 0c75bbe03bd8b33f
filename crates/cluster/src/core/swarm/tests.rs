use super::super::fixture::{
    QUIET, address, desired, fresh, known, manager, network, own_networks, service, tasks, view,
    wish,
};
use super::super::state::{Availability, Member, Network, SwarmService, UpdateState};
use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_millis(seconds * 1_000)
}

fn decide(desired: &Desired, actual: &Actual) -> Plan {
    plan(desired, actual, &mut Memory::default(), at(0))
}

fn state(actual: &mut Actual) -> &mut ManagerState {
    actual.manager.as_mut().unwrap()
}

#[test]
fn the_first_controller_begins_the_swarm_on_its_mesh_address_after_its_networks() {
    let plan = decide(&desired(1), &fresh());
    assert!(plan.waiting);
    assert!(matches!(plan.steps[0], Step::CreateGateway { .. }));
    assert!(matches!(
        plan.steps[1],
        Step::CreateTemplate { mtu: 1420, .. }
    ));
    let Step::Init {
        address: where_,
        pool,
        heartbeat_ms,
    } = &plan.steps[2]
    else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(
        (*where_, pool.to_string(), *heartbeat_ms),
        (address(1), "10.144.0.0/16".to_owned(), 2_000)
    );
}

#[test]
fn a_node_joins_only_with_a_manager_and_a_token() {
    let mut wanted = desired(2);
    let joins = |wanted: &Desired| {
        decide(wanted, &fresh())
            .steps
            .iter()
            .any(|step| matches!(step, Step::Join { .. }))
    };
    assert!(!joins(&wanted));
    wanted.known = known(false);
    assert!(!joins(&wanted));
    wanted.known = known(true);
    assert!(joins(&wanted));
}

#[test]
fn a_template_of_another_subnet_is_made_anew_before_the_join_and_never_after() {
    let mut actual = fresh();
    actual.networks = own_networks(3);
    let mut wanted = desired(2);
    wanted.known = known(true);
    let steps = decide(&wanted, &actual).steps;
    assert!(matches!(steps[0], Step::RemoveNetwork { .. }), "{steps:?}");
    assert!(matches!(steps[1], Step::CreateTemplate { .. }));

    actual.membership.phase = Phase::Active;
    actual.membership.managers = vec![address(1)];
    let plan = decide(&wanted, &actual);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.troubles.len(), 1);
}

#[test]
fn a_settled_swarm_needs_nothing() {
    let plan = decide(&desired(1), &manager());
    assert_eq!(plan, QUIET);
}

#[test]
fn a_new_member_gets_its_labels_before_it_gets_tasks() {
    let mut actual = manager();
    let member = &mut state(&mut actual).members[1];
    member.availability = Availability::Pause;
    member.labels = BTreeMap::from([("own".to_owned(), "kept".to_owned())]);
    let plan = decide(&desired(1), &actual);
    let [Step::Admit { member, labels }] = plan.steps.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(member.0, "m2");
    assert_eq!(labels["bastide.site"], "site-2");
    assert_eq!(labels["own"], "kept");
}

#[test]
fn a_drained_member_stays_drained() {
    let mut actual = manager();
    state(&mut actual).members[1].availability = Availability::Drain;
    assert_eq!(decide(&desired(1), &actual).steps, []);
}

#[test]
fn a_removed_node_leaves_the_swarm_at_once_and_the_tokens_go_first() {
    let mut memory = Memory::default();
    let mut wanted = desired(1);
    let actual = manager();
    assert_eq!(plan(&wanted, &actual, &mut memory, at(0)).steps, []);
    wanted.nodes.remove(&address(3));
    let steps = plan(&wanted, &actual, &mut memory, at(1)).steps;
    let gone = Step::RemoveMember {
        member: MemberId("m3".to_owned()),
    };
    assert_eq!(steps, [Step::RotateTokens, gone]);
}

#[test]
fn a_member_whose_record_is_on_its_way_is_left_alone_for_a_while() {
    let mut memory = Memory::default();
    let mut wanted = desired(1);
    wanted.nodes.remove(&address(3));
    let actual = manager();
    let early = plan(&wanted, &actual, &mut memory, at(0));
    assert_eq!((early.steps.len(), early.waiting), (0, true));
    let late = plan(&wanted, &actual, &mut memory, at(STRANGER_GRACE.as_secs()));
    assert_eq!(late.steps.len(), 2);
}

#[test]
fn the_former_self_of_a_node_that_joined_anew_is_removed_without_new_tokens() {
    let mut actual = manager();
    let members = &mut state(&mut actual).members;
    members.push(Member {
        id: MemberId("old".to_owned()),
        ready: false,
        ..members[2].clone()
    });
    let gone = Step::RemoveMember {
        member: MemberId("old".to_owned()),
    };
    assert_eq!(decide(&desired(1), &actual).steps, [gone]);
}

#[test]
fn a_member_that_is_merely_away_is_not_removed() {
    let mut actual = manager();
    state(&mut actual).members[2].ready = false;
    assert_eq!(decide(&desired(1), &actual).steps, []);
}

#[test]
fn a_swarm_elsewhere_is_reported_and_not_touched() {
    let mut actual = manager();
    actual.membership.address = Some(Ipv4Addr::new(192, 168, 1, 1));
    state(&mut actual).members.clear();
    let plan = decide(&desired(1), &actual);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.troubles.len(), 1);

    let mut worker = fresh();
    worker.networks = own_networks(2);
    worker.membership.phase = Phase::Active;
    worker.membership.managers = vec![Ipv4Addr::new(192, 168, 1, 1)];
    let mut wanted = desired(2);
    wanted.known = known(true);
    let plan = decide(&wanted, &worker);
    assert_eq!((plan.steps.len(), plan.troubles.len()), (0, 1));
}

#[test]
fn a_worker_leaves_a_broken_swarm_and_so_does_a_manager_unless_it_is_the_last() {
    let mut actual = fresh();
    actual.membership.phase = Phase::Error("node removed".to_owned());
    assert_eq!(decide(&desired(2), &actual).steps, [Step::Leave]);
    let mut last = desired(1);
    last.known = known(true);
    let plan = decide(&last, &actual);
    assert_eq!((plan.steps.len(), plan.troubles.len()), (0, 1));
    last.known.managers.push(address(2));
    assert_eq!(decide(&last, &actual).steps, [Step::Leave]);
}

#[test]
fn a_member_of_a_swarm_that_was_replaced_leaves_after_a_second_look_at_what_is_known() {
    let mut memory = Memory::default();
    let mut wanted = desired(2);
    wanted.known = known(true);
    let mut actual = fresh();
    actual.networks = own_networks(2);
    actual.membership.phase = Phase::Active;
    actual.membership.managers = vec![address(1)];
    actual.membership.manager_ids = [MemberId("m1".to_owned())].into();
    let settled = plan(&wanted, &actual, &mut memory, at(0));
    assert_eq!((settled.steps.len(), settled.ask), (0, false));

    actual.membership.manager_ids = [MemberId("former".to_owned())].into();
    let doubted = plan(&wanted, &actual, &mut memory, at(1));
    assert_eq!((doubted.steps.len(), doubted.ask), (0, true));
    let left = plan(&wanted, &actual, &mut memory, at(2));
    assert_eq!(left.steps, [Step::Leave]);

    // What was known was old, or nobody tells: it stays.
    plan(&wanted, &actual, &mut memory, at(3));
    wanted.known = Known::default();
    let stays = plan(&wanted, &actual, &mut memory, at(4));
    assert_eq!((stays.steps.len(), stays.ask), (0, false));
}

#[test]
fn a_manager_that_returns_with_the_former_swarm_leaves_it_and_the_known_one_never_does() {
    let mut memory = Memory::default();
    let mut wanted = desired(2);
    wanted.controller = true;
    wanted.known = known(true);
    let mut actual = manager();
    actual.membership.swarm = Some(SwarmId("former".to_owned()));
    actual.membership.address = Some(address(2));
    plan(&wanted, &actual, &mut memory, at(0));
    let left = plan(&wanted, &actual, &mut memory, at(1));
    assert_eq!(left.steps, [Step::Leave]);

    wanted = desired(1);
    wanted.known = known(true);
    actual.membership.address = Some(address(1));
    for second in 2..5 {
        let stays = plan(&wanted, &actual, &mut memory, at(second));
        assert!(!stays.steps.contains(&Step::Leave), "{stays:?}");
    }
}

#[test]
fn managers_that_the_swarm_went_on_without_do_not_speak_for_it_and_leave() {
    let mut memory = Memory::default();
    let mut wanted = desired(2);
    wanted.controller = true;
    wanted.known = known(true);
    let mut actual = manager();
    actual.membership.address = Some(address(2));
    // One that joined lately hears the known manager.
    let joined = plan(&wanted, &actual, &mut memory, at(0));
    assert!(joined.speaks && !joined.ask, "{joined:?}");

    state(&mut actual).members[0].ready = false;
    let doubted = plan(&wanted, &actual, &mut memory, at(1));
    assert!(!doubted.speaks && doubted.ask, "{doubted:?}");
    let left = plan(&wanted, &actual, &mut memory, at(2));
    assert_eq!(left.steps, [Step::Leave]);
}

#[test]
fn an_engine_whose_ranges_are_taken_does_not_become_a_member_and_a_member_is_told() {
    let mut wanted = desired(1);
    let mut theirs = network(false);
    theirs.subnets = vec!["10.130.0.0/16".parse().unwrap()];
    let mut actual = fresh();
    actual.networks.insert("theirs".to_owned(), theirs.clone());
    let refused = decide(&wanted, &actual);
    assert_eq!((refused.steps.len(), refused.troubles.len()), (0, 1));

    let mut member = manager();
    member.networks.insert("theirs".to_owned(), theirs);
    wanted.wishes = vec![wish("1")];
    let told = decide(&wanted, &member);
    assert_eq!(told.troubles.len(), 1, "{told:?}");
    assert!(matches!(told.steps[..], [Step::CreateService { .. }]));
}

#[test]
fn a_manager_without_a_leader_says_how_to_rebuild() {
    let actual = Actual {
        manager: None,
        ..manager()
    };
    let plan = decide(&desired(1), &actual);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.troubles[0].mend, "bastide cluster rebuild");
}

#[test]
fn a_manager_that_is_no_node_any_more_is_demoted_before_it_is_removed() {
    let mut actual = manager();
    state(&mut actual).members[2].manager = true;
    let mut memory = Memory::default();
    let mut wanted = desired(1);
    plan(&wanted, &actual, &mut memory, at(0));
    wanted.nodes.remove(&address(3));
    let member = MemberId("m3".to_owned());
    assert_eq!(
        plan(&wanted, &actual, &mut memory, at(1)).steps,
        [
            Step::RotateTokens,
            Step::Demote {
                member: member.clone()
            },
            Step::RemoveMember { member }
        ]
    );
}

#[test]
fn a_node_that_was_drained_by_hand_stays_so_and_is_told() {
    let mut actual = manager();
    state(&mut actual).members[1].availability = Availability::Drain;
    let plan = decide(&desired(1), &actual);
    assert_eq!(plan.steps, []);
    assert!(plan.troubles[0].what.contains("node-2"), "{plan:?}");
    assert!(plan.troubles[0].mend.contains("active m2"), "{plan:?}");
}

#[test]
fn ingress_goes_and_the_service_network_comes() {
    let mut actual = manager();
    actual.networks.remove(NETWORK);
    let ingress = Network {
        ingress: true,
        ..network(false)
    };
    actual.networks.insert("ingress".to_owned(), ingress);
    let steps = decide(&desired(1), &actual).steps;
    assert_eq!(
        steps,
        [
            Step::RemoveNetwork {
                name: "ingress".to_owned()
            },
            Step::CreateNetwork
        ]
    );
}

#[test]
fn a_service_is_made_once_and_updated_only_when_its_revision_differs() {
    let mut wanted = desired(1);
    wanted.wishes = vec![wish("1")];
    let mut actual = manager();
    assert!(matches!(
        decide(&wanted, &actual).steps[..],
        [Step::CreateService { .. }]
    ));

    state(&mut actual).services = vec![service(&wish("1"))];
    state(&mut actual).tasks = tasks(&[1, 2, 3]);
    assert_eq!(decide(&wanted, &actual), QUIET);

    wanted.wishes = vec![wish("2")];
    let steps = decide(&wanted, &actual).steps;
    assert!(
        matches!(steps[..], [Step::UpdateService { replicas: 3, .. }]),
        "{steps:?}"
    );
}

#[test]
fn a_service_of_a_removed_stack_is_removed_and_a_strangers_service_is_not() {
    let mut actual = manager();
    let ours = service(&wish("1"));
    let theirs = SwarmService {
        id: ServiceId("x".to_owned()),
        name: "theirs".to_owned(),
        revision: None,
        ..ours.clone()
    };
    state(&mut actual).services = vec![ours, theirs];
    let steps = decide(&desired(1), &actual).steps;
    assert_eq!(
        steps,
        [Step::RemoveService {
            id: ServiceId("v".to_owned()),
            name: "hello_web".to_owned()
        }]
    );
}

#[test]
fn an_update_that_was_rolled_back_is_not_tried_again_until_something_new_is_deployed() {
    let mut memory = Memory::default();
    let mut wanted = desired(1);
    wanted.wishes = vec![wish("2")];
    let mut actual = manager();
    state(&mut actual).services = vec![service(&wish("1"))];
    state(&mut actual).tasks = tasks(&[1, 2, 3]);
    assert_eq!(plan(&wanted, &actual, &mut memory, at(0)).steps.len(), 1);

    state(&mut actual).services[0].update = UpdateState::RolledBack;
    let failed = plan(&wanted, &actual, &mut memory, at(9));
    assert_eq!((failed.steps.len(), failed.troubles.len()), (0, 1));

    wanted.wishes = vec![wish("3")];
    assert_eq!(plan(&wanted, &actual, &mut memory, at(10)).steps.len(), 1);
}

#[test]
fn an_update_that_waits_for_a_task_tells_why() {
    let mut wanted = desired(1);
    wanted.wishes = vec![wish("1")];
    let mut actual = manager();
    state(&mut actual).services = vec![service(&wish("1"))];
    state(&mut actual).services[0].update = UpdateState::Running;
    let mut all = tasks(&[1, 2, 3]);
    all[2].running = false;
    state(&mut actual).tasks = all.clone();
    assert_eq!(decide(&wanted, &actual).troubles, [], "it may come yet");
    all[2].trouble = Some("no suitable node".to_owned());
    state(&mut actual).tasks = all.clone();
    let troubles = decide(&wanted, &actual).troubles;
    assert_eq!(troubles.len(), 1);
    all[2].trouble = Some("network 4fcfct3x exists".to_owned());
    state(&mut actual).tasks = all;
    let stale = decide(&wanted, &actual).troubles;
    assert!(stale[0].mend.contains("local-kv.db"), "{}", stale[0]);
    assert!(
        troubles[0].what.contains("no suitable node"),
        "{}",
        troubles[0]
    );
}

#[test]
fn a_service_that_lacks_replicas_tells_why() {
    let mut wanted = desired(1);
    wanted.wishes = vec![wish("1")];
    let mut actual = manager();
    state(&mut actual).services = vec![service(&wish("1"))];
    let mut all = tasks(&[1, 2, 3, 3]);
    all[3].wanted = false;
    all[3].running = false;
    all[3].trouble = Some("No such image".to_owned());
    state(&mut actual).tasks = all.clone();
    assert_eq!(
        decide(&wanted, &actual).troubles,
        [],
        "the past of a service that runs"
    );
    all[2].running = false;
    state(&mut actual).tasks = all;
    let troubles = decide(&wanted, &actual).troubles;
    assert_eq!(troubles.len(), 1);
    assert!(
        troubles[0].what.contains("No such image"),
        "{}",
        troubles[0]
    );
}

#[test]
fn a_worker_that_is_no_node_any_more_leaves_and_a_manager_or_a_strangers_worker_stays() {
    let mut found = fresh().membership;
    found.phase = Phase::Active;
    found.managers = vec![address(1)];
    let view = view();
    assert!(departs(&view, &found));
    assert!(!departs(
        &view,
        &Membership {
            manager: true,
            ..found.clone()
        }
    ));
    let elsewhere = Membership {
        managers: vec![Ipv4Addr::new(192, 168, 1, 1)],
        ..found.clone()
    };
    assert!(!departs(&view, &elsewhere));
    // One that gave up because the managers do not know it any more.
    found.phase = Phase::Error("node is gone".to_owned());
    assert!(departs(&view, &found));
}

#[test]
fn a_host_that_joins_anew_leaves_the_swarm_it_was_in_before_and_no_other() {
    let mesh = AddressPlan::default().mesh;
    let mut found = fresh().membership;
    assert!(!is_left_behind(&found, mesh), "it is in none");
    found.managers = vec![address(1)];
    for phase in [
        Phase::Active,
        Phase::Pending,
        Phase::Error("timeout".to_owned()),
    ] {
        found.phase = phase;
        assert!(is_left_behind(&found, mesh));
    }
    let elsewhere = Membership {
        managers: vec![Ipv4Addr::new(192, 168, 1, 1)],
        ..found.clone()
    };
    assert!(!is_left_behind(&elsewhere, mesh), "an operator's own Swarm");
    found.manager = true;
    assert!(!is_left_behind(&found, mesh));
}
