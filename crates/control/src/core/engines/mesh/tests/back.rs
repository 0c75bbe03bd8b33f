//! Nodes that come back after their certificate has ended.

use super::*;

/// Renews as a node whose certificate has ended.
fn come_back(
    trial: &mut Trial,
    node: NodeId,
    csr: &str,
) -> Result<serde_json::Map<String, Value>, Refusal> {
    let who = As::Machine(Identity::Ended(node));
    let asked = RenewRequest {
        csr: Some(csr.to_owned()),
        ..RenewRequest::default()
    };
    let answer = trial.ask(who, Operation::Update, "mesh/renew", json!(asked))?;
    Ok(answer.data.unwrap())
}

/// A node whose key is known, a day and a bit after it joined.
fn away(trial: &mut Trial, name: &str, key: u8) -> (NodeId, bastide_pki::Identity) {
    let identity = bastide_pki::Identity::generate();
    let ticket = ticket(trial, json!({}));
    let joined = join(trial, &request(&ticket, name, key, &identity.csr_pem())).unwrap();
    trial.pass(90_000);
    trial.tend();
    (joined.node.id, identity)
}

#[test]
fn a_node_that_was_away_for_more_than_a_day_comes_back_by_its_key() {
    let mut trial = begin("100.72.0.0/24");
    let (node, identity) = away(&mut trial, "a", 1);
    let refused = renew(&mut trial, node, &certificate_request());
    assert!(
        matches!(refused, Err(Refusal::Unauthenticated)),
        "as a member it is not heard"
    );
    let renewed = come_back(&mut trial, node, &identity.csr_pem()).unwrap();
    let renewed: RenewAnswer = serde_json::from_value(Value::Object(renewed)).unwrap();
    assert!(renewed.certificate.is_some() && trial.now < renewed.expires);
    assert!(
        renew(&mut trial, node, &RenewRequest::default()).is_ok(),
        "as a member it is heard"
    );
}

#[test]
fn a_node_whose_certificate_has_ended_may_renew_with_its_own_key_and_do_nothing_else() {
    let mut trial = begin("100.72.0.0/24");
    let (node, identity) = away(&mut trial, "a", 1);
    let another_key = come_back(&mut trial, node, &csr());
    assert!(matches!(another_key, Err(Refusal::Forbidden(_))));
    let who = || As::Machine(Identity::Ended(node));
    let report = trial.ask(who(), Operation::Update, "mesh/renew", json!({}));
    assert!(
        matches!(report, Err(Refusal::Invalid(_))),
        "a report alone is not taken"
    );
    for path in ["mesh/watch", "cluster/swarm"] {
        let refused = trial.ask(who(), Operation::Read, path, json!({}));
        assert!(matches!(refused, Err(Refusal::Denied)), "{path}");
    }
    assert!(come_back(&mut trial, node, &identity.csr_pem()).is_ok());
}

#[test]
fn an_old_copy_of_a_living_nodes_disk_is_no_way_in() {
    let mut trial = begin("100.72.0.0/24");
    let (node, identity) = away(&mut trial, "a", 1);
    assert!(come_back(&mut trial, node, &identity.csr_pem()).is_ok());
    trial.pass(120);
    let copy = come_back(&mut trial, node, &identity.csr_pem());
    assert!(matches!(copy, Err(Refusal::Forbidden(_))));
}

#[test]
fn a_node_that_was_removed_does_not_come_back_by_its_key() {
    let mut trial = begin("100.72.0.0/24");
    let (node, identity) = away(&mut trial, "a", 1);
    trial
        .root(Operation::Delete, &format!("mesh/nodes/{node}"), json!({}))
        .unwrap();
    let refused = come_back(&mut trial, node, &identity.csr_pem());
    assert!(matches!(refused, Err(Refusal::NoMember)));
}

#[test]
fn a_membership_that_has_ended_is_not_taken_up_before_the_expiry_has_come_by() {
    let mut trial = begin("100.72.0.0/24");
    let (node, identity) = away(&mut trial, "a", 1);
    trial.pass(MONTH_SECS - 90_000);
    assert!(is_there(&mut trial, node));
    let refused = come_back(&mut trial, node, &identity.csr_pem());
    assert!(matches!(refused, Err(Refusal::Unauthenticated)));
}
