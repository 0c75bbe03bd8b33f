use bastide_api::v1::JoinRequest;
use bastide_api::{NodeId, Ticket};
use bastide_pki::Identity;
use serde_json::json;

use super::*;
use crate::core::engines::mesh::tests::{begin, join, request, ticket};
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

/// A cluster, a ticket and a machine's request with it.
fn ready(data: serde_json::Value) -> (Trial, Ticket, JoinRequest) {
    let mut trial = begin("100.72.0.0/24");
    let ticket = ticket(&mut trial, data);
    let request = request(&ticket, "a", 1, &Identity::generate().csr_pem());
    (trial, ticket, request)
}

#[test]
fn a_spent_ticket_repeats_its_answer_after_its_end_for_an_hour_and_no_longer() {
    let (mut trial, _, request) = ready(json!({ "ttl": "10m" }));
    let answer = join(&mut trial, &request).unwrap();
    trial.pass(600 + 3599);
    trial.tend();
    assert_eq!(join(&mut trial, &request).unwrap(), answer);
    trial.pass(1);
    let refused = join(&mut trial, &request).unwrap_err();
    assert!(text(refused).contains("ended"));
    trial.tend();
    let refused = join(&mut trial, &request).unwrap_err();
    assert!(
        text(refused).contains("not valid"),
        "then nothing is left of it"
    );
}

#[test]
fn a_ticket_past_its_end_makes_no_node() {
    let (mut trial, _, request) = ready(json!({ "ttl": 600 }));
    trial.pass(600);
    assert!(text(join(&mut trial, &request).unwrap_err()).contains("ended"));
    let (mut trial, _, request) = ready(json!({ "ttl": 600 }));
    trial.pass(599);
    assert!(join(&mut trial, &request).is_ok());
}

#[test]
fn a_ticket_makes_as_many_nodes_as_it_has_uses() {
    let (mut trial, ticket, first) = ready(json!({ "uses": 2 }));
    join(&mut trial, &first).unwrap();
    let csr = Identity::generate().csr_pem();
    let second = request(&ticket, "b", 2, &csr);
    join(&mut trial, &second).unwrap();
    let third = request(&ticket, "c", 3, &csr);
    assert!(text(join(&mut trial, &third).unwrap_err()).contains("spent"));
    // Both get their own answers again.
    assert_eq!(join(&mut trial, &first).unwrap().node.name.as_str(), "a");
    assert_eq!(join(&mut trial, &second).unwrap().node.name.as_str(), "b");
}

#[test]
fn a_refused_join_spends_nothing_and_leaves_nothing() {
    let (mut trial, ticket, request) = ready(json!({}));
    let before = trial.count(tables::ENGINE);
    let mut wrong = json!(request);
    wrong["csr"] = json!("nonsense");
    let path = "auth/join/login";
    assert!(
        trial
            .ask(As::Nobody, Operation::Update, path, wrong)
            .is_err()
    );
    let mut zero = json!(request);
    zero["wireguard"] = json!(data_encoding::BASE64.encode(&[0; 32]));
    assert!(
        trial
            .ask(As::Nobody, Operation::Update, path, zero)
            .is_err()
    );
    let mut wrong = json!(request);
    wrong["routes"] = json!(["0.0.0.0/0"]);
    assert!(
        trial
            .ask(As::Nobody, Operation::Update, path, wrong)
            .is_err()
    );
    assert_eq!(trial.count(tables::ENGINE), before);
    let read = format!("auth/join/tickets/{}", ticket.id);
    let shown = trial.root(Operation::Read, &read, json!({})).unwrap();
    assert_eq!(
        (&shown["uses"], &shown["is_good"]),
        (&json!(1), &json!(true))
    );
    join(&mut trial, &request).unwrap();
    let shown = trial.root(Operation::Read, &read, json!({})).unwrap();
    assert_eq!(
        (&shown["uses"], &shown["is_good"]),
        (&json!(0), &json!(false))
    );
}

#[test]
fn a_ticket_does_not_bring_a_removed_node_back() {
    let (mut trial, _, request) = ready(json!({}));
    let answer = join(&mut trial, &request).unwrap();
    trial
        .root(
            Operation::Delete,
            &format!("mesh/nodes/{}", answer.node.id),
            json!({}),
        )
        .unwrap();
    assert!(text(join(&mut trial, &request).unwrap_err()).contains("removed"));
}

#[test]
fn tickets_end_with_the_token_that_made_them() {
    let mut trial = begin("100.72.0.0/24");
    let policy = r#"path "auth/join/tickets" { capabilities = ["create", "update"] }"#;
    trial.write("sys/policies/acl/inviter", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["inviter"] }));
    let path = "auth/join/tickets";
    let made = trial
        .ask(As::Token(&token), Operation::Update, path, json!({}))
        .unwrap();
    let ticket: Ticket = made.data.unwrap()["ticket"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    trial.write("auth/token/revoke", json!({ "token": token }));
    let csr = Identity::generate().csr_pem();
    let refused = join(&mut trial, &request(&ticket, "a", 1, &csr)).unwrap_err();
    assert!(text(refused).contains("not valid"));
}

#[test]
fn what_a_ticket_may_be_has_limits() {
    let mut trial = begin("100.72.0.0/24");
    for wrong in [
        json!({ "ttl": 0 }),
        json!({ "ttl": "31d" }),
        json!({ "uses": 0 }),
        json!({ "uses": 257 }),
        json!({ "name": "Not a name" }),
        json!({ "name": "a", "uses": 2 }),
        json!({ "node": NodeId::from_bytes([1; 16]) }),
    ] {
        let made = trial.root(Operation::Update, "auth/join/tickets", wrong.clone());
        assert!(
            matches!(made, Err(Refusal::Invalid(_))),
            "{wrong} must be refused"
        );
    }
}

#[test]
fn a_login_with_missing_or_wrong_fields_is_refused() {
    let (mut trial, _, request) = ready(json!({}));
    let whole = json!(request);
    for field in [
        "ticket",
        "secret",
        "name",
        "site",
        "arch",
        "wireguard",
        "discovery",
        "csr",
    ] {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().remove(field);
        let path = "auth/join/login";
        let refused = trial.ask(As::Nobody, Operation::Update, path, without);
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "without {field}"
        );
        let mut wrong = whole.clone();
        wrong[field] = json!({ "x": [1] });
        let refused = trial.ask(As::Nobody, Operation::Update, path, wrong);
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "with a wrong {field}"
        );
    }
}

#[test]
fn nobody_makes_reads_or_revokes_tickets_without_a_token() {
    let (mut trial, ticket, _) = ready(json!({}));
    let one = format!("auth/join/tickets/{}", ticket.id);
    for (operation, path) in [
        (Operation::Update, "auth/join/tickets"),
        (Operation::List, "auth/join/tickets"),
        (Operation::Read, &one),
        (Operation::Delete, &one),
        (Operation::Read, "auth/join/login"),
    ] {
        let refused = trial.ask(As::Nobody, operation, path, json!({}));
        assert!(
            matches!(refused, Err(Refusal::Unauthenticated)),
            "{operation:?} {path}"
        );
    }
}
