use serde_json::json;

use super::*;
use crate::core::engines::mesh::tests::{begin, node};
use crate::core::trial::{As, text};

fn report() -> Value {
    json!({
        "swarm": "abc", "managers": ["100.72.0.1"],
        "worker_token": "worker", "manager_token": "manager",
    })
}

#[test]
fn the_swarm_is_told_of_by_controllers_and_each_role_gets_its_own_token() {
    let mut trial = begin("100.72.0.0/24");
    let id = node(&mut trial, "a", 1).node.id;
    let (member, controller) = (Identity::Node(id), Identity::Controller(id));
    let path = "cluster/swarm";
    let read = |trial: &mut crate::core::trial::Trial, who| {
        let answer = trial.ask(As::Machine(who), Operation::Read, path, json!({}));
        answer.unwrap().data.unwrap()["token"].clone()
    };
    assert_eq!(
        read(&mut trial, member),
        Value::Null,
        "before there is a Swarm"
    );
    for who in [As::Machine(member), As::Root, As::Nobody] {
        assert!(trial.ask(who, Operation::Update, path, report()).is_err());
    }
    trial
        .ask(As::Machine(controller), Operation::Update, path, report())
        .unwrap();
    assert_eq!(read(&mut trial, member), "worker");
    assert_eq!(read(&mut trial, controller), "manager");
    let root = trial
        .ask(As::Root, Operation::Read, path, json!({}))
        .unwrap_err();
    assert!(text(root).contains("nodes alone"));
}

#[test]
fn a_report_of_another_swarm_than_this_clusters_is_refused() {
    let mut trial = begin("100.72.0.0/24");
    let id = node(&mut trial, "a", 1).node.id;
    let who = As::Machine(Identity::Controller(id));
    for (field, value) in [
        ("managers", json!(["192.0.2.1"])),
        ("swarm", json!("")),
        ("worker_token", json!("a b")),
        ("manager_ids", json!(["a b"])),
        (
            "manager_ids",
            json!(["a", "b", "c", "d", "e", "f", "g", "h"]),
        ),
        ("manager_token", json!("x".repeat(300))),
    ] {
        let mut wrong = report();
        wrong[field] = value;
        let refused = trial.ask(who, Operation::Update, "cluster/swarm", wrong);
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{field}");
    }
}

#[test]
fn a_stack_is_kept_as_it_was_understood() {
    let mut trial = begin("100.72.0.0/24");
    let compose = "services:\n  web:\n    image: hello:1\n";
    let stack = bastide_stack::parse(&"demo".parse().unwrap(), compose).unwrap();
    let mut sent = serde_json::to_value(&stack).unwrap();
    let understood = sent.clone();
    sent["services"]["web"]["privileged_by_mistake"] = json!(true);
    let path = "cluster/stacks/demo";
    trial.write(path, sent);
    let kept = trial.root(Operation::Read, path, json!({})).unwrap();
    assert_eq!(kept, understood, "what nobody judged is not passed on");
    let names = trial
        .root(Operation::List, "cluster/stacks", json!({}))
        .unwrap();
    assert_eq!(names["keys"], json!(["demo"]));
    for wrong in ["cluster/stacks/De_mo", "cluster/stacks/-a"] {
        let refused = trial.root(Operation::Update, wrong, understood.clone());
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }
    trial.root(Operation::Delete, path, json!({})).unwrap();
    let gone = trial.root(Operation::Read, path, json!({}));
    assert!(matches!(gone, Err(Refusal::Absent)));
}

/// Deploys an empty stack `shop` and returns a node.
fn deployed(trial: &mut crate::core::trial::Trial) -> bastide_api::NodeId {
    let id = node(trial, "a", 1).node.id;
    let stack = json!({"name": "shop", "services": {}, "volumes": {}});
    trial
        .ask(As::Root, Operation::Update, "cluster/stacks/shop", stack)
        .unwrap();
    id
}

#[test]
fn a_grant_is_signed_by_the_cluster_and_says_what_was_allowed() {
    let mut trial = begin("100.72.0.0/24");
    let id = deployed(&mut trial);
    let ca = trial
        .ask(As::Root, Operation::Read, "mesh/ca", json!({}))
        .unwrap()
        .data
        .unwrap();
    let key: bastide_api::SigningKey = serde_json::from_value(ca["view_key"].clone()).unwrap();
    let cluster = serde_json::from_value(ca["cluster"].clone()).unwrap();
    let asked = json!({"node": id, "command": ["sh", "-c", "id"], "tty": true});
    let path = "cluster/exec/shop/web";
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let answer = trial.ask(As::Root, Operation::Update, path, asked.clone());
        let answer = Value::Object(answer.unwrap().data.unwrap());
        let signed: bastide_api::session::SignedGrant = serde_json::from_value(answer).unwrap();
        let grant = bastide_pki::verify_grant(&signed, cluster, &key).unwrap();
        assert_eq!((grant.node, grant.service.as_str()), (id, "web"));
        let bastide_api::session::Action::Exec {
            command,
            tty,
            stdin,
        } = &grant.action
        else {
            panic!("{grant:?}")
        };
        assert_eq!((command.len(), *tty, *stdin), (3, true, false));
        ids.insert(grant.id.clone());
    }
    assert_eq!(ids.len(), 2, "each is good once");
}

#[test]
fn grants_are_refused_for_what_is_not_deployed_not_a_node_or_no_command() {
    let mut trial = begin("100.72.0.0/24");
    let id = deployed(&mut trial);
    let stranger = bastide_api::NodeId::from_bytes([9; 16]);
    let long = "x".repeat(20_000);
    for (path, body) in [
        ("cluster/logs/other/web", json!({"node": id})),
        ("cluster/logs/shop/web", json!({"node": stranger})),
        ("cluster/logs/shop/web", json!({})),
        ("cluster/logs/shop/Web", json!({"node": id})),
        ("cluster/exec/shop/web", json!({"node": id, "command": []})),
        (
            "cluster/exec/shop/web",
            json!({"node": id, "command": [long]}),
        ),
        (
            "cluster/exec/shop/web",
            json!({"node": id, "command": ["a\u{0}b"]}),
        ),
    ] {
        let refused = trial.ask(As::Root, Operation::Update, path, body.clone());
        assert!(refused.is_err(), "{path} {body}");
    }
    let asked = json!({"node": id, "command": ["id"]});
    for who in [As::Nobody, As::Machine(Identity::Node(id))] {
        let refused = trial.ask(
            who,
            Operation::Update,
            "cluster/exec/shop/web",
            asked.clone(),
        );
        assert!(refused.is_err());
    }
}

#[test]
fn logs_and_commands_are_each_under_a_policy_path_of_their_own() {
    let mut trial = begin("100.72.0.0/24");
    let id = deployed(&mut trial);
    let policy = r#"path "cluster/logs/shop/*" { capabilities = ["update"] }"#;
    let body = json!({"policy": policy});
    trial
        .ask(As::Root, Operation::Update, "sys/policies/acl/reader", body)
        .unwrap();
    let token = json!({"policies": ["reader"]});
    let made = trial.ask(As::Root, Operation::Update, "auth/token/create", token);
    let token = made.unwrap().auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let logs = json!({"node": id});
    let exec = json!({"node": id, "command": ["id"]});
    let mut ask = |path, body| trial.ask(As::Token(&token), Operation::Update, path, body);
    assert!(ask("cluster/logs/shop/web", logs.clone()).is_ok());
    assert!(ask("cluster/exec/shop/web", exec).is_err());
    assert!(ask("cluster/logs/other/web", logs).is_err());
}
