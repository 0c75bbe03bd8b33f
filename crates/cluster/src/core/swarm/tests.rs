use super::super::fixture::{
    address, desired, fresh, known, manager, network, own_networks, service, tasks, view, wish,
};
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
    assert_eq!(plan, Plan::default());
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
fn a_worker_leaves_a_broken_swarm_and_a_manager_asks_for_help() {
    let mut actual = fresh();
    actual.membership.phase = Phase::Error("node removed".to_owned());
    assert_eq!(decide(&desired(2), &actual).steps, [Step::Leave]);
    let plan = decide(&desired(1), &actual);
    assert_eq!((plan.steps.len(), plan.troubles.len()), (0, 1));
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
    assert_eq!(decide(&wanted, &actual), Plan::default());

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
    let elsewhere = vec![Ipv4Addr::new(192, 168, 1, 1)];
    assert!(!departs(
        &view,
        &Membership {
            managers: elsewhere,
            ..found
        }
    ));
}
