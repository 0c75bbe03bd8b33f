//! A cluster of three nodes, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bastide_api::{
    AddressPlan, ClusterId, ClusterRecord, DiscoveryKey, NodeId, NodeRecord, Revision,
    SwarmSettings, UnixTime, View, WireGuardKey,
};

use super::service::{Wish, wishes};
use super::state::{
    Actual, Availability, ManagerState, Member, MemberId, Membership, Network, Phase, ServiceId,
    SwarmId, SwarmService, SwarmTask, TaskId, UpdateState,
};
use super::swarm::{self, Desired, Known, Plan};

/// What a manager has to do where all is well.
pub(crate) const QUIET: Plan = Plan {
    steps: Vec::new(),
    troubles: Vec::new(),
    waiting: false,
    ask: false,
    speaks: true,
};

pub(crate) fn address(slot: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 72, 0, slot)
}

pub(crate) fn node(slot: u8) -> NodeRecord {
    NodeRecord {
        id: NodeId::from_bytes([slot; 16]),
        name: format!("node-{slot}").parse().unwrap(),
        site: format!("site-{slot}").parse().unwrap(),
        arch: serde_json::from_str("\"amd64\"").unwrap(),
        address: address(slot),
        containers: format!("10.128.{slot}.0/24").parse().unwrap(),
        wireguard: WireGuardKey::from_bytes([slot; 32]),
        discovery: DiscoveryKey::from_bytes([slot; 32]),
        public: Vec::new(),
        routes: Vec::new(),
        tags: std::collections::BTreeSet::new(),
        expires: UnixTime::from_millis(u64::MAX),
    }
}

pub(crate) fn desired(me: u8) -> Desired {
    Desired {
        me: node(me),
        controller: me == 1,
        first: me == 1,
        plan: AddressPlan::default(),
        settings: SwarmSettings {
            heartbeat_ms: 2_000,
            rebalance_after_ms: 3_000,
        },
        nodes: (1..=3).map(|slot| (address(slot), node(slot))).collect(),
        wishes: Vec::new(),
        known: Known::default(),
        collisions: Vec::new(),
    }
}

pub(crate) fn known(has_token: bool) -> Known {
    Known {
        swarm: Some(SwarmId("s".to_owned())),
        managers: vec![address(1)],
        manager_ids: BTreeSet::from([MemberId("m1".to_owned())]),
        has_token,
    }
}

/// A view of the three nodes, without stacks.
pub(crate) fn view() -> View {
    View {
        revision: Revision(1),
        cluster: ClusterRecord {
            id: ClusterId::from_bytes([7; 16]),
            name: "home".parse().unwrap(),
            plan: AddressPlan::default(),
            controllers: Vec::new(),
            swarm: SwarmSettings::default(),
        },
        nodes: (1..=3).map(|slot| (node(slot).id, node(slot))).collect(),
        stacks: BTreeMap::new(),
        joins: BTreeMap::new(),
    }
}

pub(crate) fn wish(user: &str) -> Wish {
    let digest = "0".repeat(64);
    let text = format!(
        r#"{{"name":"hello","services":{{"web":{{"image":"app@sha256:{digest}","replicas":3,
        "user":"{user}","resources":{{"limit_cpus":1,"limit_memory":1,"limit_pids":1}}}}}}}}"#
    );
    let mut view = view();
    view.stacks.insert("hello".parse().unwrap(), text);
    wishes(&view).0.remove(0)
}

/// An engine that is no member and has nothing.
pub(crate) fn fresh() -> Actual {
    Actual {
        membership: Membership {
            phase: Phase::Inactive,
            member: None,
            swarm: None,
            address: None,
            manager: false,
            managers: Vec::new(),
            manager_ids: BTreeSet::new(),
        },
        networks: BTreeMap::new(),
        manager: None,
    }
}

pub(crate) fn network(config_only: bool) -> Network {
    Network {
        driver: "bridge".to_owned(),
        swarm_scope: false,
        config_only,
        config_from: None,
        ingress: false,
        subnets: Vec::new(),
        options: BTreeMap::new(),
    }
}

/// The networks that node `slot` should have by itself.
pub(crate) fn own_networks(slot: u8) -> BTreeMap<String, Network> {
    let template = Network {
        subnets: vec![node(slot).containers],
        options: BTreeMap::from([
            (swarm::OPTION_MTU.to_owned(), "1420".to_owned()),
            (swarm::OPTION_BRIDGE.to_owned(), swarm::BRIDGE.to_owned()),
        ]),
        ..network(true)
    };
    BTreeMap::from([
        (swarm::GATEWAY_NETWORK.to_owned(), network(false)),
        (swarm::NETWORK_TEMPLATE.to_owned(), template),
    ])
}

pub(crate) fn member(slot: u8) -> Member {
    let node = node(slot);
    Member {
        id: MemberId(format!("m{slot}")),
        address: Some(address(slot)),
        ready: true,
        availability: Availability::Active,
        manager: slot == 1,
        labels: BTreeMap::from([
            ("bastide.site".to_owned(), node.site.to_string()),
            ("bastide.arch".to_owned(), node.arch.to_string()),
            ("bastide.node".to_owned(), node.name.to_string()),
        ]),
    }
}

/// Node 1 as the manager of three members that are what they should be.
pub(crate) fn manager() -> Actual {
    let mut networks = own_networks(1);
    let service = Network {
        swarm_scope: true,
        ..network(false)
    };
    networks.insert(swarm::NETWORK.to_owned(), service);
    Actual {
        membership: Membership {
            phase: Phase::Active,
            member: Some(MemberId("m1".to_owned())),
            swarm: Some(SwarmId("s".to_owned())),
            address: Some(address(1)),
            manager: true,
            managers: vec![address(1)],
            manager_ids: BTreeSet::from([MemberId("m1".to_owned())]),
        },
        networks,
        manager: Some(ManagerState {
            heartbeat_ms: 2_000,
            members: (1..=3).map(member).collect(),
            services: Vec::new(),
            tasks: Vec::new(),
        }),
    }
}

pub(crate) fn service(wish: &Wish) -> SwarmService {
    SwarmService {
        id: ServiceId("v".to_owned()),
        name: wish.name(),
        revision: Some(wish.revision()),
        replicas: Some(wish.spec.replicas),
        update: UpdateState::Settled,
    }
}

/// A running task of the service on each member of `slots`.
pub(crate) fn tasks(slots: &[u8]) -> Vec<SwarmTask> {
    let task = |(at, slot): (usize, &u8)| SwarmTask {
        id: TaskId(format!("t{at}")),
        service: ServiceId("v".to_owned()),
        member: Some(MemberId(format!("m{slot}"))),
        wanted: true,
        running: true,
        trouble: None,
    };
    slots.iter().enumerate().map(task).collect()
}
