use bastide_api::v1::{JoinReply, JoinRequest};
use bastide_api::{NodeId, Ticket, WaitingJoin};
use bastide_pki::Identity;
use serde_json::json;

use super::*;
use crate::core::engines::mesh;
use crate::core::engines::mesh::tests::{begin, join, request, ticket, ticket as ticket_of};
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
        json!({ "tags": "Not a tag" }),
        json!({ "tags": ["edge", "-"] }),
        json!({ "tags": (0..17).map(|n| format!("t{n}")).collect::<Vec<_>>() }),
        json!({ "approve": "perhaps" }),
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

const LOGIN: &str = "auth/join/login";

/// Asks to join, and returns what the machine is told.
fn apply(trial: &mut Trial, request: &JoinRequest) -> Result<JoinReply, Refusal> {
    let answer = trial.ask(As::Nobody, Operation::Update, LOGIN, json!(request))?;
    Ok(serde_json::from_value(answer.data.unwrap().into()).unwrap())
}

fn waiting(trial: &mut Trial, request: &JoinRequest) -> WaitingJoin {
    match apply(trial, request).unwrap() {
        JoinReply::Waiting(waiting) => waiting,
        JoinReply::Joined(_) => panic!("it must wait"),
    }
}

fn view_of(trial: &Trial) -> Vec<String> {
    let entries = mesh::entries(&trial.snapshot(), trial.mount("mesh/")).unwrap();
    entries.into_keys().collect()
}

#[test]
fn tags_of_a_ticket_are_tags_of_its_nodes_and_a_machine_cannot_choose_them() {
    let (mut trial, _, request) = ready(json!({ "tags": ["gpu", "edge", "gpu"] }));
    let mut asked = json!(request);
    asked["tags"] = json!(["controller"]);
    let answer = trial
        .ask(As::Nobody, Operation::Update, LOGIN, asked)
        .unwrap();
    assert_eq!(answer.data.unwrap()["node"]["tags"], json!(["edge", "gpu"]));
}

#[test]
fn a_machine_waits_until_an_operator_lets_it_in_and_is_shown_meanwhile() {
    let (mut trial, ticket, request) = ready(json!({ "approve": true, "tags": "edge" }));
    let shown = waiting(&mut trial, &request);
    assert_eq!((shown.name.as_str(), shown.ticket), ("a", ticket.id));
    let entry = format!("joins/{}", shown.id);
    assert!(view_of(&trial).contains(&entry));
    assert!(
        trial
            .root(Operation::List, "mesh/nodes", json!({}))
            .is_err(),
        "it is no node"
    );
    assert_eq!(
        waiting(&mut trial, &request),
        shown,
        "asking again changes nothing"
    );
    let listed = trial
        .root(Operation::List, "auth/join/pending", json!({}))
        .unwrap();
    assert_eq!(listed["key_info"][shown.id.to_string()]["state"], "waiting");
    let admit = format!("auth/join/pending/{}/admit", shown.id);
    trial.write(&admit, json!({}));
    assert!(!view_of(&trial).contains(&entry));
    let JoinReply::Joined(answer) = apply(&mut trial, &request).unwrap() else {
        panic!("it was let in")
    };
    assert_eq!(answer.node.id, shown.id);
    assert_eq!(json!(answer.node.tags), json!(["edge"]));
    // A lost answer is given again; nothing is left that waits.
    assert_eq!(
        apply(&mut trial, &request).unwrap(),
        JoinReply::Joined(answer)
    );
    assert!(
        trial
            .root(Operation::List, "auth/join/pending", json!({}))
            .is_err()
    );
    // The ticket was good for one.
    let other = request_of(&ticket, "b", 2);
    assert!(text(apply(&mut trial, &other).unwrap_err()).contains("spent"));
}

fn request_of(ticket: &Ticket, name: &str, key: u8) -> JoinRequest {
    request(ticket, name, key, &Identity::generate().csr_pem())
}

#[test]
fn a_refused_machine_is_told_so_and_its_ticket_is_spent() {
    let (mut trial, ticket, request) = ready(json!({ "approve": true }));
    let shown = waiting(&mut trial, &request);
    let path = format!("auth/join/pending/{}", shown.id);
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    assert!(!view_of(&trial).contains(&format!("joins/{}", shown.id)));
    assert!(text(apply(&mut trial, &request).unwrap_err()).contains("refused"));
    let admitted = trial.root(Operation::Update, &format!("{path}/admit"), json!({}));
    assert!(admitted.is_err(), "no is no");
    let other = request_of(&ticket, "b", 2);
    assert!(text(apply(&mut trial, &other).unwrap_err()).contains("spent"));
}

#[test]
fn who_waits_for_a_day_or_for_an_hour_after_its_tickets_end_waits_no_more() {
    for (ttl, waits_secs) in [("30d", 86_400), ("10m", 600 + 3600)] {
        let (mut trial, _, request) = ready(json!({ "approve": true, "ttl": ttl }));
        let shown = waiting(&mut trial, &request);
        trial.pass(waits_secs - 1);
        assert_eq!(waiting(&mut trial, &request), shown);
        trial.pass(1);
        assert!(apply(&mut trial, &request).is_err());
        trial.tend();
        assert!(
            trial
                .root(Operation::List, "auth/join/pending", json!({}))
                .is_err()
        );
        assert_eq!(view_of(&trial), ["cluster"], "nothing is left");
    }
}

#[test]
fn only_the_machine_with_both_keys_becomes_what_was_let_in() {
    let (mut trial, ticket, request) = ready(json!({ "approve": true }));
    let shown = waiting(&mut trial, &request);
    trial.write(&format!("auth/join/pending/{}/admit", shown.id), json!({}));
    let thief = request_of(&ticket, "a", 1);
    assert!(text(apply(&mut trial, &thief).unwrap_err()).contains("spent"));
    let mut thief = request.clone_with_key(9);
    thief.name = "a".parse().unwrap();
    assert!(text(apply(&mut trial, &thief).unwrap_err()).contains("spent"));
    assert!(matches!(
        apply(&mut trial, &request),
        Ok(JoinReply::Joined(_))
    ));
}

trait CloneWithKey {
    fn clone_with_key(&self, key: u8) -> JoinRequest;
}

impl CloneWithKey for JoinRequest {
    fn clone_with_key(&self, key: u8) -> JoinRequest {
        let mut copy: JoinRequest = serde_json::from_value(json!(self)).unwrap();
        copy.wireguard = bastide_api::WireGuardKey::from_bytes([key; 32]);
        copy
    }
}

#[test]
fn of_two_that_wait_under_one_name_the_second_is_let_in_under_another() {
    let (mut trial, ticket, first) = ready(json!({ "approve": true, "uses": 2 }));
    let second = request_of(&ticket, "a", 2);
    let (one, two) = (waiting(&mut trial, &first), waiting(&mut trial, &second));
    assert_ne!(one.id, two.id);
    let admit = |id| format!("auth/join/pending/{id}/admit");
    trial.write(&admit(one.id), json!({}));
    assert!(matches!(
        apply(&mut trial, &first),
        Ok(JoinReply::Joined(_))
    ));
    let refused = trial
        .root(Operation::Update, &admit(two.id), json!({}))
        .unwrap_err();
    assert!(text(refused).contains("taken"));
    trial.write(&admit(two.id), json!({ "name": "b" }));
    let JoinReply::Joined(answer) = apply(&mut trial, &second).unwrap() else {
        panic!("it was let in")
    };
    assert_eq!(answer.node.name.as_str(), "b");
    // Whoever asks for a taken name is told so before anybody has to look at it.
    let ticket = ticket_of(&mut trial, json!({ "approve": true }));
    let refused = apply(&mut trial, &request_of(&ticket, "a", 3)).unwrap_err();
    assert!(text(refused).contains("--name"));
}

#[test]
fn a_revoked_ticket_makes_nothing_more_and_what_it_made_stays() {
    let (mut trial, ticket, first) = ready(json!({ "uses": 3 }));
    let answer = join(&mut trial, &first).unwrap();
    let path = format!("auth/join/tickets/{}", ticket.id);
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    let told = text(apply(&mut trial, &request_of(&ticket, "b", 2)).unwrap_err());
    assert!(told.contains("revoked at"), "{told}");
    assert_eq!(
        join(&mut trial, &first).unwrap(),
        answer,
        "its answer may be lost"
    );
    let listed = trial
        .root(Operation::List, "auth/join/tickets", json!({}))
        .unwrap();
    assert_eq!(
        listed["key_info"][ticket.id.to_string()]["state"],
        "revoked"
    );
    // Who does not know the secret learns nothing of it.
    let mut stranger = request_of(&ticket, "b", 2);
    stranger.secret = data_encoding::BASE64.encode(&[0; 32]);
    assert!(text(apply(&mut trial, &stranger).unwrap_err()).contains("not valid"));
    trial.pass(2 * 3600);
    trial.tend();
    assert!(
        trial
            .root(Operation::List, "auth/join/tickets", json!({}))
            .is_err()
    );
}

#[test]
fn revoking_a_ticket_refuses_those_that_wait_with_it() {
    let (mut trial, ticket, request) = ready(json!({ "approve": true }));
    let shown = waiting(&mut trial, &request);
    trial.write(&format!("auth/join/pending/{}/admit", shown.id), json!({}));
    let path = format!("auth/join/tickets/{}", ticket.id);
    trial.root(Operation::Delete, &path, json!({})).unwrap();
    assert!(text(apply(&mut trial, &request).unwrap_err()).contains("revoked"));
    assert!(
        trial
            .root(Operation::List, "mesh/nodes", json!({}))
            .is_err()
    );
}

#[test]
fn a_secret_is_guessed_at_eight_times_and_the_right_one_waits_like_any_other() {
    let (mut trial, ticket, request) = ready(json!({}));
    let mut wrong = request_of(&ticket, "b", 2);
    wrong.secret = data_encoding::BASE64.encode(&[0; 32]);
    for _ in 0..8 {
        assert!(text(apply(&mut trial, &wrong).unwrap_err()).contains("not valid"));
    }
    for tried in [&wrong, &request] {
        let refused = apply(&mut trial, tried).unwrap_err();
        assert!(matches!(refused, Refusal::TooMany(_)), "{refused:?}");
    }
    // Another ticket is not hindered, wherever it is tried from.
    let other = ticket_of(&mut trial, json!({}));
    assert!(apply(&mut trial, &request_of(&other, "c", 3)).is_ok());
    trial.pass(4);
    assert!(apply(&mut trial, &request).is_ok());
}

#[test]
fn a_ticket_that_does_not_exist_is_guessed_at_like_one_that_does() {
    let (mut trial, _, mut request) = ready(json!({}));
    request.ticket = TicketId::from_bytes([9; 16]);
    for _ in 0..8 {
        assert!(text(apply(&mut trial, &request).unwrap_err()).contains("not valid"));
    }
    assert!(matches!(
        apply(&mut trial, &request),
        Err(Refusal::TooMany(_))
    ));
}

#[test]
fn each_refusal_has_its_word_in_the_audit_record_and_what_is_not_looked_at_has_none() {
    let (mut trial, ticket, first) = ready(json!({ "name": "a" }));
    let mut record = |request: &JoinRequest| {
        let request = Trial::request(As::Nobody, Operation::Update, LOGIN, json!(request));
        let decision = trial.decide(&request);
        let word = decision
            .audit
            .as_ref()
            .map(|audited| audited.error().unwrap().to_owned());
        trial.commit(decision);
        word
    };
    let word = |word: &str| Some(word.to_owned());
    assert_eq!(
        record(&request_of(&ticket, "b", 1)),
        word("the ticket is for another name")
    );
    let mut wrong = request_of(&ticket, "a", 1);
    wrong.secret = data_encoding::BASE64.encode(&[0; 32]);
    for _ in 0..8 {
        assert_eq!(record(&wrong), word("no such ticket, or not its secret"));
    }
    assert_eq!(record(&wrong), None);
    trial.pass(60);
    join(&mut trial, &first).unwrap();
    let mut record = |request: &JoinRequest| {
        let request = Trial::request(As::Nobody, Operation::Update, LOGIN, json!(request));
        let decision = trial.decide(&request);
        decision
            .audit
            .as_ref()
            .map(|audited| audited.error().unwrap().to_owned())
    };
    assert_eq!(
        record(&request_of(&ticket, "a", 2)),
        word("the ticket is spent")
    );
    trial.pass(3600);
    let mut record = |request: &JoinRequest| {
        let request = Trial::request(As::Nobody, Operation::Update, LOGIN, json!(request));
        let decision = trial.decide(&request);
        decision
            .audit
            .as_ref()
            .map(|audited| audited.error().unwrap().to_owned())
    };
    assert_eq!(
        record(&request_of(&ticket, "a", 2)),
        word("the ticket ended")
    );
}

#[test]
fn machines_with_a_ticket_that_were_not_let_in_are_listed_for_operators() {
    let (mut trial, ticket, first) = ready(json!({}));
    join(&mut trial, &first).unwrap();
    let mut stranger = request_of(&ticket, "x", 5);
    stranger.secret = String::new();
    let _ = apply(&mut trial, &stranger);
    let _ = apply(&mut trial, &request_of(&ticket, "b", 2));
    let told = trial
        .root(Operation::Read, "auth/join/refused", json!({}))
        .unwrap();
    let told = told["refused"].as_array().unwrap().clone();
    assert_eq!(
        told.len(),
        1,
        "who held no secret could write here what he likes"
    );
    assert_eq!(
        (&told[0]["name"], &told[0]["why"]),
        (&json!("b"), &json!("the ticket is spent"))
    );
}

#[test]
fn waiting_machines_have_a_limit() {
    let (mut trial, ticket, first) = ready(json!({ "approve": true, "uses": 256 }));
    waiting(&mut trial, &first);
    for key in 0..255_u32 {
        let mut request = request_of(&ticket, "b", 1);
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&key.to_be_bytes());
        request.wireguard = bastide_api::WireGuardKey::from_bytes(bytes);
        waiting(&mut trial, &request);
    }
    let other = ticket_of(&mut trial, json!({ "approve": true }));
    let refused = apply(&mut trial, &request_of(&other, "c", 3));
    assert!(matches!(refused, Err(Refusal::Unavailable(_))));
    // It was not spent.
    let path = format!("auth/join/tickets/{}", other.id);
    assert_eq!(
        trial.root(Operation::Read, &path, json!({})).unwrap()["uses"],
        1
    );
}
