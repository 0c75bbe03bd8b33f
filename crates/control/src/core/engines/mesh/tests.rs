mod back;

use bastide_api::v1::{Instance, JoinAnswer, JoinRequest, NodeFacts, RenewAnswer, RenewRequest};
use bastide_api::{
    AddressPlan, Arch, ClusterRecord, Controller, DiscoveryKey, InstanceId, Ticket, WireGuardKey,
};
use data_encoding::BASE64;
use serde_json::Value;

use super::*;
use crate::core::request::Identity;
use crate::core::trial::{As, Trial, text};

/// The controller's node of these tests.
pub(crate) fn own() -> NodeId {
    NodeId::from_bytes([0xee; 16])
}

/// Begins a cluster with room for `mesh` addresses.
pub(crate) fn begin(mesh: &str) -> Trial {
    let mut trial = Trial::new();
    let mesh: ipnet::Ipv4Net = mesh.parse().unwrap();
    let plan = AddressPlan {
        mesh,
        dns: mesh.hosts().last().unwrap(),
        ..AddressPlan::default()
    };
    let controller = Controller {
        node: own(),
        channel: vec!["192.0.2.1:7443".parse().unwrap()],
    };
    let data = json!({ "name": "demo", "plan": plan, "controllers": [controller] });
    trial
        .ask(As::Program, Operation::Update, "mesh/create", data)
        .unwrap();
    trial
}

/// Makes a ticket as root.
pub(crate) fn ticket(trial: &mut Trial, data: Value) -> Ticket {
    let made = trial.write("auth/join/tickets", data);
    made["ticket"].as_str().unwrap().parse().unwrap()
}

/// What a machine with key `key` sends.
pub(crate) fn request(ticket: &Ticket, name: &str, key: u8, csr: &str) -> JoinRequest {
    JoinRequest {
        ticket: ticket.id,
        secret: BASE64.encode(ticket.secret.expose()),
        name: name.parse().unwrap(),
        site: "home".parse().unwrap(),
        arch: Arch::Arm64,
        wireguard: WireGuardKey::from_bytes([key; 32]),
        discovery: DiscoveryKey::from_bytes([key; 32]),
        csr: csr.to_owned(),
        public: Vec::new(),
        routes: Vec::new(),
    }
}

pub(crate) fn join(trial: &mut Trial, request: &JoinRequest) -> Result<JoinAnswer, Refusal> {
    let path = "auth/join/login";
    let answer = trial.ask(As::Nobody, Operation::Update, path, json!(request))?;
    Ok(serde_json::from_value(Value::Object(answer.data.unwrap())).unwrap())
}

fn csr() -> String {
    bastide_pki::Identity::generate().csr_pem()
}

/// Joins a node with a ticket of its own.
pub(crate) fn node(trial: &mut Trial, name: &str, key: u8) -> JoinAnswer {
    let ticket = ticket(trial, json!({}));
    join(trial, &request(&ticket, name, key, &csr())).unwrap()
}

fn renew(trial: &mut Trial, node: NodeId, request: &RenewRequest) -> Result<RenewAnswer, Refusal> {
    let who = As::Machine(Identity::Node(node));
    let answer = trial.ask(who, Operation::Update, "mesh/renew", json!(request))?;
    Ok(serde_json::from_value(Value::Object(answer.data.unwrap())).unwrap())
}

fn certificate_request() -> RenewRequest {
    RenewRequest {
        csr: Some(csr()),
        ..RenewRequest::default()
    }
}

const MONTH_SECS: u64 = 30 * 86_400;

fn is_there(trial: &mut Trial, node: NodeId) -> bool {
    trial
        .root(Operation::Read, &format!("mesh/nodes/{node}"), json!({}))
        .is_ok()
}

#[test]
fn a_node_that_renews_stays_and_one_that_does_not_is_gone_after_thirty_days() {
    let mut trial = begin("100.72.0.0/24");
    let (stays, goes) = (node(&mut trial, "a", 1).node, node(&mut trial, "b", 2).node);
    let is_a_day = |life: std::time::Duration| (86_399..=86_400).contains(&life.as_secs());
    assert!(is_a_day(stays.expires.since(trial.now)));
    trial.pass(43_200);
    let renewed = renew(&mut trial, stays.id, &certificate_request()).unwrap();
    assert!(is_a_day(renewed.expires.since(trial.now)));
    trial.pass(MONTH_SECS - 43_200);
    let asked = certificate_request();
    let refused = renew(&mut trial, goes.id, &asked);
    assert!(
        matches!(refused, Err(Refusal::Unauthenticated)),
        "the expiry has not come by"
    );
    trial.tend();
    assert!(is_there(&mut trial, stays.id) && !is_there(&mut trial, goes.id));
    let refused = renew(&mut trial, goes.id, &certificate_request());
    assert!(matches!(refused, Err(Refusal::NoMember)));
    let lookup = trial
        .root(Operation::List, "sys/leases/lookup/mesh/nodes", json!({}))
        .unwrap();
    assert_eq!(lookup["keys"].as_array().unwrap().len(), 1, "{lookup}");
}

#[test]
fn a_membership_past_its_end_counts_for_nothing_before_the_expiry_has_come_by() {
    let mut trial = begin("100.72.0.0/24");
    let late = node(&mut trial, "a", 1).node;
    trial.pass(86_400);
    let refused = renew(&mut trial, late.id, &certificate_request());
    assert!(matches!(refused, Err(Refusal::Unauthenticated)));
}

#[test]
fn a_certificate_is_renewed_once_a_minute_and_not_more_often() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1).node.id;
    assert!(renew(&mut trial, one, &certificate_request()).is_ok());
    trial.pass(59);
    let refused = renew(&mut trial, one, &certificate_request());
    assert!(matches!(refused, Err(Refusal::Unavailable(_))));
    assert!(
        renew(&mut trial, one, &RenewRequest::default()).is_ok(),
        "reports go on"
    );
    trial.pass(1);
    assert!(renew(&mut trial, one, &certificate_request()).is_ok());
}

#[test]
fn a_report_without_a_request_changes_nothing_that_is_stored() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1).node;
    let report = RenewRequest {
        facts: Some(NodeFacts::default()),
        ..RenewRequest::default()
    };
    let who = As::Machine(Identity::Node(one.id));
    let request = Trial::request(who, Operation::Update, "mesh/renew", json!(report));
    let decision = trial.decide(&request);
    assert!(decision.batch.ops.is_empty() && decision.audit.is_none());
    assert_eq!(decision.observations.len(), 1);
    let request = Trial::request(
        who,
        Operation::Update,
        "mesh/renew",
        json!(certificate_request()),
    );
    assert!(
        trial.decide(&request).audit.is_some(),
        "a certificate is on the record"
    );
}

#[test]
fn only_a_machine_renews_and_watches() {
    let mut trial = begin("100.72.0.0/24");
    for who in [As::Root, As::Program] {
        let renewing = trial.ask(who, Operation::Update, "mesh/renew", json!({}));
        assert!(matches!(renewing, Err(Refusal::Forbidden(_))));
        let watching = trial.ask(who, Operation::Read, "mesh/watch", json!({}));
        assert!(matches!(watching, Err(Refusal::Forbidden(_))));
    }
    let stranger = As::Machine(Identity::Node(NodeId::from_bytes([9; 16])));
    let watching = trial.ask(stranger, Operation::Read, "mesh/watch", json!({}));
    assert!(matches!(watching, Err(Refusal::Unauthenticated)));
}

#[test]
fn addresses_rest_before_they_are_given_again_and_the_plan_has_an_end() {
    // Eight addresses: network, broadcast and the resolver's are not for nodes.
    let mut trial = begin("100.72.0.0/29");
    let mut addresses = Vec::new();
    let mut ids = Vec::new();
    for (key, name) in (1..=4).zip(["a", "b", "c", "d"]) {
        let made = node(&mut trial, name, key).node;
        addresses.push(made.address.to_string());
        ids.push(made.id);
    }
    assert_eq!(
        addresses,
        ["100.72.0.2", "100.72.0.3", "100.72.0.4", "100.72.0.5"]
    );
    let full = ticket(&mut trial, json!({}));
    let refused = join(&mut trial, &request(&full, "e", 5, &csr())).unwrap_err();
    assert!(text(refused).contains("no room"));
    for id in &ids[1..3] {
        trial
            .root(Operation::Delete, &format!("mesh/nodes/{id}"), json!({}))
            .unwrap();
    }
    let next = node(&mut trial, "f", 6).node;
    assert_eq!(
        next.address.to_string(),
        "100.72.0.3",
        "from the beginning again"
    );
    trial
        .root(
            Operation::Delete,
            &format!("mesh/nodes/{}", next.id),
            json!({}),
        )
        .unwrap();
    let next = node(&mut trial, "g", 7).node;
    assert_eq!(
        next.address.to_string(),
        "100.72.0.4",
        "not the one that was just free"
    );
    let own_ticket = trial
        .ask(
            As::Program,
            Operation::Update,
            "auth/join/tickets",
            json!({ "node": own() }),
        )
        .unwrap();
    let own_ticket: Ticket = own_ticket.data.unwrap()["ticket"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let made = join(&mut trial, &request(&own_ticket, "own", 8, &csr())).unwrap();
    assert_eq!(
        made.node.address.to_string(),
        "100.72.0.1",
        "the first is the controller's"
    );
    assert_eq!(made.node.id, own());
}

#[test]
fn a_node_removed_twice_is_removed_and_a_controller_is_not() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1).node;
    let path = format!("mesh/nodes/{}", one.id);
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    let again = trial.root(Operation::Delete, &path, json!({}));
    assert!(matches!(again, Err(Refusal::Absent)));
    let kept = trial.root(
        Operation::Delete,
        &format!("mesh/nodes/{}", own()),
        json!({}),
    );
    assert!(text(kept.unwrap_err()).contains("control plane"));
    // It is told, and nobody else is who was never known here.
    let told = renew(&mut trial, one.id, &RenewRequest::default());
    assert!(matches!(told, Err(Refusal::NoMember)));
    let never = NodeId::from_bytes([9; 16]);
    let told = renew(&mut trial, never, &RenewRequest::default());
    assert!(matches!(told, Err(Refusal::Unauthenticated)));
    // The name is free again.
    node(&mut trial, "a", 2);
}

#[test]
fn keys_of_a_removed_node_make_no_node_with_any_ticket() {
    let mut trial = begin("100.72.0.0/24");
    let identity = csr();
    let first = ticket(&mut trial, json!({}));
    let gone = join(&mut trial, &request(&first, "a", 1, &identity)).unwrap();
    let path = format!("mesh/nodes/{}", gone.node.id);
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    let next = ticket(&mut trial, json!({ "uses": 4 }));
    for (key, csr) in [(1, identity.clone()), (1, csr()), (2, identity)] {
        let refused = join(&mut trial, &request(&next, "b", key, &csr)).unwrap_err();
        let told = text(refused);
        assert!(
            told.contains("node `a`") && told.contains("bastide down --forget"),
            "{told}"
        );
    }
    join(&mut trial, &request(&next, "b", 2, &csr())).unwrap();
}

#[test]
fn a_node_whose_lease_somebody_revokes_was_removed_like_any_other() {
    let mut trial = begin("100.72.0.0/24");
    let identity = csr();
    let first = ticket(&mut trial, json!({}));
    let gone = join(&mut trial, &request(&first, "a", 1, &identity))
        .unwrap()
        .node
        .id;
    let read = trial
        .root(Operation::Read, &format!("mesh/nodes/{gone}"), json!({}))
        .unwrap();
    trial.write("sys/leases/revoke", json!({ "lease_id": read["lease_id"] }));
    let next = ticket(&mut trial, json!({}));
    let refused = join(&mut trial, &request(&next, "a", 1, &identity)).unwrap_err();
    assert!(text(refused).contains("removed"));
}

#[test]
fn a_node_that_was_silent_for_too_long_may_join_anew_with_its_keys() {
    let mut trial = begin("100.72.0.0/24");
    let identity = csr();
    let first = ticket(&mut trial, json!({}));
    let late = join(&mut trial, &request(&first, "a", 1, &identity))
        .unwrap()
        .node
        .id;
    trial.pass(MONTH_SECS + 1);
    trial.tend();
    let next = ticket(&mut trial, json!({}));
    let again = join(&mut trial, &request(&next, "a", 1, &identity))
        .unwrap()
        .node
        .id;
    assert_ne!(again, late);
}

#[test]
fn a_node_leaves_by_its_own_certificate_and_its_name_and_keys_are_free() {
    let mut trial = begin("100.72.0.0/24");
    let identity = csr();
    let first = ticket(&mut trial, json!({}));
    let (stays, leaves) = (
        node(&mut trial, "b", 2).node.id,
        request(&first, "a", 1, &identity),
    );
    let leaves = join(&mut trial, &leaves).unwrap().node.id;
    let who = As::Machine(Identity::Node(leaves));
    // Whatever it says, it speaks for itself alone.
    let body = json!({ "node": stays });
    trial
        .ask(who, Operation::Update, "mesh/leave", body)
        .unwrap();
    assert!(is_there(&mut trial, stays) && !is_there(&mut trial, leaves));
    let next = ticket(&mut trial, json!({}));
    join(&mut trial, &request(&next, "a", 1, &identity)).unwrap();
    for who in [As::Root, As::Program, As::Nobody] {
        let refused = trial.ask(who, Operation::Update, "mesh/leave", json!({}));
        assert!(matches!(
            refused,
            Err(Refusal::Forbidden(_) | Refusal::Unauthenticated)
        ));
    }
}

#[test]
fn the_node_that_runs_the_control_plane_cannot_leave() {
    let mut trial = begin("100.72.0.0/24");
    let data = json!({ "node": own(), "name": "one" });
    let made = trial
        .ask(As::Program, Operation::Update, "auth/join/tickets", data)
        .unwrap();
    let text_of = made.data.unwrap()["ticket"].as_str().unwrap().to_owned();
    let ticket: Ticket = text_of.parse().unwrap();
    join(&mut trial, &request(&ticket, "one", 1, &csr())).unwrap();
    let who = As::Machine(Identity::Controller(own()));
    let refused = trial.ask(who, Operation::Update, "mesh/leave", json!({}));
    assert!(text(refused.unwrap_err()).contains("control plane"));
}

#[test]
fn a_node_gets_another_name_and_keeps_all_else() {
    let mut trial = begin("100.72.0.0/24");
    let (one, other) = (node(&mut trial, "a", 1).node, node(&mut trial, "b", 2).node);
    let path = format!("mesh/nodes/{}/name", one.id);
    trial.write(&path, json!({ "name": "c" }));
    let read = trial
        .root(
            Operation::Read,
            &format!("mesh/nodes/{}", one.id),
            json!({}),
        )
        .unwrap();
    let expected = NodeRecord {
        name: "c".parse().unwrap(),
        ..one.clone()
    };
    assert_eq!(
        serde_json::from_value::<NodeRecord>(read).unwrap(),
        expected
    );
    let taken = trial
        .root(Operation::Update, &path, json!({ "name": "b" }))
        .unwrap_err();
    assert!(text(taken).contains(&other.id.to_string()));
    trial.write(&path, json!({ "name": "c" }));
    // The old name is free, the new one is not.
    node(&mut trial, "a", 3);
    let ticket = ticket(&mut trial, json!({}));
    assert!(join(&mut trial, &request(&ticket, "c", 4, &csr())).is_err());
    for wrong in [json!({}), json!({ "name": "Not a name" })] {
        assert!(trial.root(Operation::Update, &path, wrong).is_err());
    }
}

#[test]
fn a_copied_disk_is_turned_away_and_told_of_in_the_nodes_report() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1).node.id;
    let run = |id: u8, after: u8| {
        let id_of = |byte| InstanceId::from_bytes([byte; 16]);
        RenewRequest {
            facts: Some(NodeFacts::default()),
            instance: Some(Instance {
                id: id_of(id),
                after: vec![id_of(after)],
                moved: false,
            }),
            ..RenewRequest::default()
        }
    };
    renew(&mut trial, one, &run(1, 0)).unwrap();
    renew(&mut trial, one, &run(2, 1)).unwrap();
    renew(&mut trial, one, &run(1, 0)).unwrap();
    let copy = RenewRequest {
        csr: Some(csr()),
        ..run(2, 1)
    };
    let refused = renew(&mut trial, one, &copy);
    assert!(
        matches!(refused, Err(Refusal::Rival(_))),
        "and it gets no certificate"
    );
    // What a node says of itself here is not believed.
    let mut lying = run(1, 0);
    lying.facts.as_mut().unwrap().noted = vec!["all is well".to_owned()];
    renew(&mut trial, one, &lying).unwrap();
    let noted = &trial.facts().nodes[&one].facts.noted;
    assert!(
        noted.len() == 1 && noted[0].contains("copying a disk"),
        "{noted:?}"
    );
    trial.pass(61);
    renew(&mut trial, one, &run(1, 0)).unwrap();
    assert!(trial.facts().nodes[&one].facts.noted.is_empty());
}

#[test]
fn ids_have_one_spelling() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1).node;
    let path = format!(
        "mesh/nodes/{}",
        one.id.to_string().to_uppercase().replace("N-", "n-")
    );
    let refused = trial.root(Operation::Read, &path, json!({}));
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
}

#[test]
fn what_a_cluster_begins_with_is_checked() {
    let plan = AddressPlan::default();
    let wrong = AddressPlan {
        mtu: 9000,
        ..AddressPlan::default()
    };
    let controller = |channel: &[&str]| json!({ "node": own(), "channel": channel });
    let good = controller(&["192.0.2.1:7443"]);
    for (data, is_good) in [
        (
            json!({ "name": "demo", "plan": plan, "controllers": [] }),
            false,
        ),
        (
            json!({ "name": "demo", "plan": plan, "controllers": [controller(&[])] }),
            false,
        ),
        (
            json!({ "name": "demo", "plan": wrong, "controllers": [good] }),
            false,
        ),
        (
            json!({ "name": "De mo", "plan": plan, "controllers": [good] }),
            false,
        ),
        (
            json!({ "name": "demo", "plan": plan, "controllers": [good] }),
            true,
        ),
    ] {
        let mut trial = Trial::new();
        let made = trial.ask(As::Program, Operation::Update, "mesh/create", data.clone());
        assert_eq!(made.is_ok(), is_good, "{data}");
        let root = Trial::new().ask(As::Root, Operation::Update, "mesh/create", data);
        assert!(matches!(root, Err(Refusal::Denied)));
    }
}

#[test]
fn before_a_cluster_has_begun_nothing_of_it_is_served() {
    let mut trial = Trial::new();
    let made = trial.root(Operation::Update, "auth/join/tickets", json!({}));
    assert!(matches!(made, Err(Refusal::Unavailable(_))));
    let read = trial.root(Operation::Read, "mesh/ca", json!({}));
    assert!(matches!(read, Err(Refusal::Unavailable(_))));
    let nodes = trial.root(Operation::List, "mesh/nodes", json!({}));
    assert!(matches!(nodes, Err(Refusal::Absent)));
}

#[test]
fn a_controllers_certificate_is_for_controllers_and_made_for_the_program_alone() {
    let mut trial = begin("100.72.0.0/24");
    let other = node(&mut trial, "a", 1).node.id;
    let data = json!({ "csr": csr() });
    let path = |node: NodeId| format!("mesh/controllers/{node}/certificate");
    let ask =
        |trial: &mut Trial, who, node| trial.ask(who, Operation::Update, &path(node), data.clone());
    assert!(ask(&mut trial, As::Program, own()).is_ok());
    assert!(matches!(
        ask(&mut trial, As::Program, other),
        Err(Refusal::Invalid(_))
    ));
    assert!(matches!(
        ask(&mut trial, As::Root, own()),
        Err(Refusal::Denied)
    ));
    let machine = As::Machine(Identity::Controller(other));
    assert!(matches!(
        ask(&mut trial, machine, own()),
        Err(Refusal::Denied)
    ));
}

#[test]
fn the_view_holds_what_members_may_know_and_no_more() {
    let mut trial = begin("100.72.0.0/24");
    let one = node(&mut trial, "a", 1);
    let snapshot = trial.snapshot();
    let mount = trial.mount("mesh/");
    let entries = entries(&snapshot, mount).unwrap();
    let keys: Vec<_> = entries.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["cluster".to_owned(), format!("nodes/{}", one.node.id)]
    );
    let record: ClusterRecord = serde_json::from_str(&entries["cluster"]).unwrap();
    assert_eq!(record, one.cluster);
    let signer = view_signer(&snapshot, mount).unwrap().unwrap();
    assert_eq!(signer.public_key(), one.view_key);
}
