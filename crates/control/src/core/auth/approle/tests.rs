use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::core::leases::LeaseId;
use crate::core::pipeline::Envelope;
use crate::core::request::Peer;
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

const LOGIN: &str = "auth/approle/login";

fn begun() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/approle", json!({ "type": "approle" }));
    trial
}

fn with_role(fields: Value) -> Trial {
    let mut trial = begun();
    trial.write("auth/approle/role/ci", fields);
    trial
}

fn role_id(trial: &mut Trial, role: &str) -> String {
    let read = trial
        .root(
            Operation::Read,
            &format!("auth/approle/role/{role}/role-id"),
            json!({}),
        )
        .unwrap();
    read["role_id"].as_str().unwrap().to_owned()
}

fn secret(trial: &mut Trial, role: &str, fields: Value) -> (String, String) {
    let made = trial.write(&format!("auth/approle/role/{role}/secret-id"), fields);
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    (part("secret_id"), part("secret_id_accessor"))
}

fn log_in(trial: &mut Trial, role_id: &str, secret_id: &str) -> Result<Envelope, Refusal> {
    let fields = json!({ "role_id": role_id, "secret_id": secret_id });
    trial.ask(As::Nobody, Operation::Update, LOGIN, fields)
}

fn from(
    address: &str,
    mut request: crate::core::request::Request,
) -> crate::core::request::Request {
    request.peer = Peer {
        address: Some(format!("{address}:1000").parse().unwrap()),
        ..Peer::default()
    };
    request
}

#[test]
fn a_role_and_its_secret_id_make_a_token() {
    let mut trial = with_role(json!({ "token_policies": ["reader"], "token_ttl": "10m" }));
    let id = role_id(&mut trial, "ci");
    let metadata = json!({ "metadata": r#"{"build":"7","role_name":"forged"}"# });
    let (secret_id, _) = secret(&mut trial, "CI", metadata);
    let auth = log_in(&mut trial, &id, &secret_id).unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "reader"]));
    assert_eq!(auth["lease_duration"], 600);
    assert_eq!(auth["metadata"], json!({ "build": "7", "role_name": "ci" }));
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let shown = trial
        .ask(
            As::Token(&token),
            Operation::Read,
            "auth/token/lookup-self",
            json!({}),
        )
        .unwrap();
    assert_eq!(shown.data.unwrap()["display_name"], "approle");
}

#[test]
fn what_is_wrong_with_a_login_is_not_told_apart() {
    let mut trial = with_role(json!({}));
    let id = role_id(&mut trial, "ci");
    trial.write("auth/approle/role/other", json!({}));
    let (of_other, _) = secret(&mut trial, "other", json!({}));
    let (good, _) = secret(&mut trial, "ci", json!({}));
    for (id, secret_id) in [
        ("nobody", good.as_str()),
        (&id, "wrong"),
        // A secret id of another role is none of this one.
        (&id, &of_other),
        (&id, &"x".repeat(ID_BYTES_MAX + 1)),
        (&"x".repeat(ID_BYTES_MAX + 1), &good),
    ] {
        assert_eq!(text(log_in(&mut trial, id, secret_id).unwrap_err()), WRONG);
    }
    let missing = trial.ask(As::Nobody, Operation::Update, LOGIN, json!({}));
    assert_eq!(text(missing.unwrap_err()), "missing role_id");
    let missing = trial.ask(
        As::Nobody,
        Operation::Update,
        LOGIN,
        json!({ "role_id": id }),
    );
    assert_eq!(text(missing.unwrap_err()), "missing secret_id");
    assert!(log_in(&mut trial, &id, &good).is_ok());
}

#[test]
fn five_wrong_secret_ids_lock_their_role_alone_whether_it_exists_or_not() {
    let mut trial = with_role(json!({}));
    trial.write("auth/approle/role/other", json!({}));
    let (id, other) = (role_id(&mut trial, "ci"), role_id(&mut trial, "other"));
    let (good, _) = secret(&mut trial, "ci", json!({}));
    let (of_other, _) = secret(&mut trial, "other", json!({}));
    let is_locked =
        |trial: &mut Trial, id: &str| matches!(log_in(trial, id, &good), Err(Refusal::Locked));
    let endless = "x".repeat(ID_BYTES_MAX + 1);
    for _ in 0..4 {
        log_in(&mut trial, &id, "wrong").unwrap_err();
    }
    // A right one in between forgets the wrong ones.
    assert!(log_in(&mut trial, &id, &good).is_ok());
    for _ in 0..5 {
        for id in [id.as_str(), "nobody", &endless] {
            assert_eq!(text(log_in(&mut trial, id, "wrong").unwrap_err()), WRONG);
        }
        // What is not a wrong secret id is not counted.
        let data = json!({ "role_id": other });
        let missing = trial.ask(As::Nobody, Operation::Update, LOGIN, data);
        assert_eq!(text(missing.unwrap_err()), "missing secret_id");
    }
    for id in [id.as_str(), "nobody", &endless] {
        assert!(is_locked(&mut trial, id));
    }
    assert!(log_in(&mut trial, &other, &of_other).is_ok());
    let shown = trial
        .root(Operation::Read, "sys/locked-users", json!({}))
        .unwrap();
    let method = &shown["by_namespace"][0]["mount_accessors"][0];
    let names = method["alias_identifiers"].as_array().unwrap().clone();
    assert!(names.len() == 3 && names.contains(&json!(id)), "{names:?}");
    let longest = names.iter().map(|it| it.as_str().unwrap().len()).max();
    assert_eq!(
        longest,
        Some(64),
        "what strangers send is not kept as it is"
    );
    // Each is unlocked as it is shown.
    let accessor = method["mount_accessor"].as_str().unwrap();
    for name in &names {
        let unlock = format!(
            "sys/locked-users/{accessor}/unlock/{}",
            name.as_str().unwrap()
        );
        trial.write(&unlock, json!({}));
    }
    assert!(!is_locked(&mut trial, &endless) && log_in(&mut trial, &id, &good).is_ok());
}

#[test]
fn a_lock_on_a_role_ends_by_itself_and_can_be_turned_off() {
    let mut trial = with_role(json!({}));
    let id = role_id(&mut trial, "ci");
    let (good, _) = secret(&mut trial, "ci", json!({}));
    let lock = |trial: &mut Trial| {
        for _ in 0..5 {
            log_in(trial, &id, "wrong").unwrap_err();
        }
        matches!(log_in(trial, &id, &good), Err(Refusal::Locked))
    };
    assert!(lock(&mut trial));
    trial.pass(15 * 60);
    assert!(log_in(&mut trial, &id, &good).is_ok());
    let off = json!({ "user_lockout_config": { "lockout_disable": true } });
    trial.write("sys/auth/approle/tune", off);
    assert!(!lock(&mut trial));
}

#[test]
fn a_secret_id_with_one_use_raced_by_many_lets_one_in() {
    let mut trial = with_role(json!({ "secret_id_num_uses": 1 }));
    let id = role_id(&mut trial, "ci");
    let (secret_id, _) = secret(&mut trial, "ci", json!({}));
    let fields = json!({ "role_id": id, "secret_id": secret_id });
    let request = Trial::request(As::Nobody, Operation::Update, LOGIN, fields);
    // All are decided on the same state, before any is committed.
    let decisions: Vec<_> = (0..100).map(|_| trial.decide(&request)).collect();
    assert!(decisions.iter().all(|it| it.response.outcome.is_ok()));
    let winners = decisions
        .into_iter()
        .map(|decision| trial.commit(decision))
        .filter(|won| *won)
        .count();
    assert_eq!(winners, 1);
    // Those that lost are decided anew, and refused.
    let again = trial.decide(&request).response.outcome;
    assert_eq!(text(again.unwrap_err()), WRONG);
}

#[test]
fn uses_are_counted_and_end_a_secret_id() {
    let mut trial = with_role(json!({}));
    let id = role_id(&mut trial, "ci");
    let (secret_id, accessor) = secret(&mut trial, "ci", json!({ "num_uses": 2 }));
    let uses = |trial: &mut Trial| {
        let fields = json!({ "secret_id_accessor": accessor });
        trial.write("auth/approle/role/ci/secret-id-accessor/lookup", fields)["secret_id_num_uses"]
            .clone()
    };
    assert_eq!(uses(&mut trial), 2);
    log_in(&mut trial, &id, &secret_id).unwrap();
    assert_eq!(uses(&mut trial), 1);
    log_in(&mut trial, &id, &secret_id).unwrap();
    assert!(log_in(&mut trial, &id, &secret_id).is_err());
    let gone = trial.root(Operation::List, "auth/approle/role/ci/secret-id", json!({}));
    assert!(matches!(gone, Err(Refusal::Absent)));
}

#[test]
fn a_login_from_a_wrong_network_spends_nothing() {
    let mut trial = with_role(json!({ "secret_id_num_uses": 1 }));
    let id = role_id(&mut trial, "ci");
    let networks = json!({ "cidr_list": "10.1.0.0/16" });
    let (secret_id, _) = secret(&mut trial, "ci", networks);
    let login = || {
        let fields = json!({ "role_id": id, "secret_id": secret_id });
        Trial::request(As::Nobody, Operation::Update, LOGIN, fields)
    };
    let refused = text(trial.send(&from("10.2.0.1", login())).unwrap_err());
    assert!(refused.contains("\"10.2.0.1\" unauthorized"), "{refused}");
    // Without an address nobody is in a network.
    assert!(trial.send(&login()).is_err());
    trial.send(&from("10.1.2.3", login())).unwrap();
    assert!(trial.send(&from("10.1.2.3", login())).is_err());
}

#[test]
fn networks_of_role_and_token_bind_logins_too() {
    let mut trial = with_role(json!({
        "bind_secret_id": false, "secret_id_bound_cidrs": "10.0.0.0/8",
        "token_bound_cidrs": ["10.1.0.0/16"],
    }));
    let id = role_id(&mut trial, "ci");
    let login = |address: &str| {
        let request = Trial::request(
            As::Nobody,
            Operation::Update,
            LOGIN,
            json!({ "role_id": id }),
        );
        from(address, request)
    };
    assert!(trial.send(&login("192.0.2.1")).is_err());
    assert!(trial.send(&login("10.2.0.1")).is_err());
    let auth = trial.send(&login("10.1.0.1")).unwrap().auth.unwrap();
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let look = |address: &str| {
        let path = "auth/token/lookup-self";
        from(
            address,
            Trial::request(As::Token(&token), Operation::Read, path, json!({})),
        )
    };
    assert!(trial.send(&look("10.1.0.9")).is_ok());
    assert!(trial.send(&look("10.2.0.1")).is_err());
}

#[test]
fn a_role_that_is_narrowed_narrows_the_tokens_of_its_secret_ids() {
    let mut trial = with_role(json!({ "token_bound_cidrs": ["10.0.0.0/8"] }));
    let id = role_id(&mut trial, "ci");
    let networks = json!({ "token_bound_cidrs": "10.2.0.0/16" });
    let (secret_id, _) = secret(&mut trial, "ci", networks);
    let login = |trial: &mut Trial| {
        let fields = json!({ "role_id": id, "secret_id": secret_id });
        let request = Trial::request(As::Nobody, Operation::Update, LOGIN, fields);
        trial.send(&from("10.2.0.1", request))
    };
    login(&mut trial).unwrap();
    let narrow = json!({ "token_bound_cidrs": ["10.1.0.0/16"] });
    trial.write("auth/approle/role/ci", narrow);
    assert!(login(&mut trial).is_err());
}

#[test]
fn an_accessor_of_a_secret_id_that_ended_names_none_that_came_after_it() {
    let mut trial = with_role(json!({}));
    let made = |trial: &mut Trial| {
        let fields = json!({ "secret_id": "chosen", "ttl": "10s" });
        let made = trial.write("auth/approle/role/ci/custom-secret-id", fields);
        made["secret_id_accessor"].as_str().unwrap().to_owned()
    };
    let old = made(&mut trial);
    trial.pass(11);
    let new = made(&mut trial);
    let path = "auth/approle/role/ci/secret-id-accessor/destroy";
    let _ = trial.root(
        Operation::Update,
        path,
        json!({ "secret_id_accessor": old }),
    );
    let id = role_id(&mut trial, "ci");
    log_in(&mut trial, &id, "chosen").unwrap();
    let listed = trial
        .root(Operation::List, "auth/approle/role/ci/secret-id", json!({}))
        .unwrap();
    assert_eq!(listed["keys"], json!([new]));
}

#[test]
fn a_role_that_nothing_binds_is_refused() {
    let mut trial = begun();
    let open = json!({ "bind_secret_id": false });
    let refused = trial.root(Operation::Update, "auth/approle/role/open", open);
    let at_least = "at least one constraint should be enabled on the role";
    assert_eq!(text(refused.unwrap_err()), at_least);
    // Nor does it come about by its fields one after the other.
    trial.write(
        "auth/approle/role/open",
        json!({ "bind_secret_id": false, "token_bound_cidrs": "10.0.0.0/8" }),
    );
    let path = "auth/approle/role/open/token-bound-cidrs";
    let refused = trial.root(Operation::Delete, path, json!({}));
    assert_eq!(text(refused.unwrap_err()), at_least);
}

#[test]
fn secret_ids_end_with_their_time() {
    let mut trial = with_role(json!({ "secret_id_ttl": "10m" }));
    let id = role_id(&mut trial, "ci");
    let (secret_id, _) = secret(&mut trial, "ci", json!({}));
    let (early, _) = secret(&mut trial, "ci", json!({ "ttl": "400ms" }));
    trial.pass(1);
    assert!(log_in(&mut trial, &id, &early).is_err());
    trial.pass(598);
    log_in(&mut trial, &id, &secret_id).unwrap();
    trial.pass(1);
    // Before the expiry has come round as well.
    assert!(log_in(&mut trial, &id, &secret_id).is_err());
    let before = trial.count(tables::ENGINE);
    trial.tend();
    // Both secret ids and both accessors.
    assert_eq!(trial.count(tables::ENGINE), before - 4);
}

#[test]
fn a_secret_id_stays_within_what_its_role_says() {
    let mut trial = with_role(json!({
        "secret_id_num_uses": 5, "secret_id_ttl": 60, "secret_id_bound_cidrs": "10.0.0.0/8",
        "token_bound_cidrs": "10.0.0.0/8",
    }));
    for (fields, why) in [
        (json!({ "num_uses": 6 }), "num_uses cannot be higher"),
        (json!({ "num_uses": 0 }), "num_uses cannot be higher"),
        (json!({ "ttl": 61 }), "ttl cannot be longer"),
        (json!({ "ttl": 0 }), "ttl cannot be longer"),
        (json!({ "cidr_list": "0.0.0.0/0" }), "subset"),
        (json!({ "token_bound_cidrs": "192.0.2.1" }), "subset"),
        (json!({ "metadata": "no pairs" }), "metadata"),
        (json!({ "num_uses": -1 }), "negative"),
    ] {
        let path = "auth/approle/role/ci/secret-id";
        let refused = text(
            trial
                .root(Operation::Update, path, fields.clone())
                .unwrap_err(),
        );
        assert!(refused.contains(why), "{fields}: {refused}");
    }
    let within = json!({ "num_uses": 1, "ttl": 60, "cidr_list": "10.1.0.0/16,10.2.3.4" });
    secret(&mut trial, "ci", within);
}

#[test]
fn a_deleted_role_takes_its_secret_ids_with_it() {
    let mut trial = with_role(json!({ "role_id": "fixed" }));
    let (secret_id, _) = secret(&mut trial, "ci", json!({ "ttl": 600 }));
    log_in(&mut trial, "fixed", &secret_id).unwrap();
    trial
        .root(Operation::Delete, "auth/approle/role/ci", json!({}))
        .unwrap();
    assert!(log_in(&mut trial, "fixed", &secret_id).is_err());
    let mount = trial.mount("auth/approle/");
    let left = crate::core::draft::key(tables::ENGINE, &[&mount.0]);
    let left = bastide_store::KeyRange::prefix(tables::ENGINE, left.rest());
    assert!(trial.snapshot().keys(&left, 10).unwrap().is_empty());
    // A role of the same name and id is another role.
    trial.write("auth/approle/role/ci", json!({ "role_id": "fixed" }));
    assert!(log_in(&mut trial, "fixed", &secret_id).is_err());
    // The lease of the first one ends, and takes nothing of the second.
    trial.write(
        "auth/approle/role/ci/custom-secret-id",
        json!({ "secret_id": secret_id }),
    );
    trial.pass(601);
    trial.tend();
    log_in(&mut trial, "fixed", &secret_id).unwrap();
}

#[test]
fn an_accessor_names_nothing_of_another_role() {
    // CVE-2023-24999: an accessor of one role destroyed a secret id of another.
    let mut trial = with_role(json!({}));
    trial.write("auth/approle/role/other", json!({}));
    let id = role_id(&mut trial, "ci");
    let (secret_id, accessor) = secret(&mut trial, "ci", json!({}));
    for action in ["lookup", "destroy"] {
        let path = format!("auth/approle/role/other/secret-id-accessor/{action}");
        for accessor in [accessor.clone(), format!("../x/{accessor}")] {
            let fields = json!({ "secret_id_accessor": accessor });
            let answer = trial
                .ask(As::Root, Operation::Update, &path, fields)
                .unwrap();
            assert_eq!(answer.shape, crate::core::pipeline::Shape::Absent);
            let error = answer.data.unwrap()["error"].to_string();
            assert!(error.contains("failed to find accessor entry"), "{error}");
        }
    }
    for path in ["lookup", "destroy"] {
        let path = format!("auth/approle/role/other/secret-id/{path}");
        let answer = trial.ask(
            As::Root,
            Operation::Update,
            &path,
            json!({ "secret_id": secret_id }),
        );
        assert!(answer.unwrap().data.is_none());
    }
    log_in(&mut trial, &id, &secret_id).unwrap();
    let path = "auth/approle/role/ci/secret-id-accessor/destroy";
    trial.write(path, json!({ "secret_id_accessor": accessor }));
    assert!(log_in(&mut trial, &id, &secret_id).is_err());
}

#[test]
fn a_secret_id_is_shown_without_itself() {
    let mut trial = with_role(json!({}));
    let given = json!({
        "secret_id": "my own", "ttl": "1h", "num_uses": 3, "metadata": "a=b",
        "cidr_list": "127.0.0.1/32",
    });
    let made = trial.write("auth/approle/role/ci/custom-secret-id", given);
    assert_eq!(
        (&made["secret_id_ttl"], &made["secret_id"]),
        (&json!(3600), &json!("my own"))
    );
    let path = "auth/approle/role/ci/secret-id/lookup";
    let shown = trial.write(path, json!({ "secret_id": "my own" }));
    assert_eq!(shown["cidr_list"], json!(["127.0.0.1/32"]));
    assert_eq!(shown["metadata"], json!({ "a": "b" }));
    assert_eq!(shown["secret_id_num_uses"], 3);
    assert!(shown["expiration_time"].as_str().unwrap() > shown["creation_time"].as_str().unwrap());
    assert!(shown.get("secret_id").is_none());
    let again = trial.root(
        Operation::Update,
        "auth/approle/role/ci/custom-secret-id",
        json!({ "secret_id": "my own" }),
    );
    assert!(text(again.unwrap_err()).contains("already registered"));
    // Nothing that is stored holds the text, which would show if it were.
    let holds = |trial: &Trial, needle: &str| {
        trial.values(tables::ENGINE).iter().any(|value| {
            value
                .windows(needle.len())
                .any(|part| part == needle.as_bytes())
        })
    };
    assert!(holds(&trial, "bind_secret_id") && !holds(&trial, "my own"));
}

#[test]
fn each_field_has_a_path_of_its_own() {
    let mut trial = with_role(json!({}));
    for (segment, field, value, reset) in [
        ("bind-secret-id", "bind_secret_id", json!(true), json!(true)),
        (
            "secret-id-num-uses",
            "secret_id_num_uses",
            json!(7),
            json!(0),
        ),
        ("secret-id-ttl", "secret_id_ttl", json!(70), json!(0)),
        ("token-ttl", "token_ttl", json!(71), json!(0)),
        ("token-max-ttl", "token_max_ttl", json!(72), json!(0)),
        ("token-num-uses", "token_num_uses", json!(8), json!(0)),
        ("period", "token_period", json!(73), json!(0)),
        ("policies", "token_policies", json!(["p"]), json!([])),
        (
            "secret-id-bound-cidrs",
            "secret_id_bound_cidrs",
            json!(["10.0.0.0/8"]),
            Value::Null,
        ),
        (
            "bound-cidr-list",
            "bound_cidr_list",
            json!(["10.0.0.0/8"]),
            Value::Null,
        ),
        (
            "token-bound-cidrs",
            "token_bound_cidrs",
            json!(["10.0.0.0/8"]),
            json!([]),
        ),
    ] {
        let path = format!("auth/approle/role/ci/{segment}");
        trial.write(&path, json!({ field: value }));
        let read = trial.root(Operation::Read, &path, json!({})).unwrap();
        assert_eq!(read, json!({ field: value }));
        trial.root(Operation::Delete, &path, json!({})).unwrap();
        let read = trial.root(Operation::Read, &path, json!({})).unwrap();
        assert_eq!(read, json!({ field: reset }));
        let empty = trial.root(Operation::Update, &path, json!({}));
        assert_eq!(text(empty.unwrap_err()), format!("missing {field}"));
    }
    let unknown = trial.root(Operation::Read, "auth/approle/role/ci/nothing", json!({}));
    assert!(matches!(unknown, Err(Refusal::UnsupportedPath)));
}

#[test]
fn a_role_id_names_one_role() {
    let mut trial = with_role(json!({ "role_id": "one" }));
    trial.write("auth/approle/role/other", json!({}));
    for path in ["auth/approle/role/other", "auth/approle/role/other/role-id"] {
        let taken = trial.root(Operation::Update, path, json!({ "role_id": "one" }));
        assert_eq!(text(taken.unwrap_err()), "role_id already in use");
    }
    let (secret_id, _) = secret(&mut trial, "ci", json!({}));
    trial.write("auth/approle/role/ci/role-id", json!({ "role_id": "two" }));
    assert!(log_in(&mut trial, "one", &secret_id).is_err());
    log_in(&mut trial, "two", &secret_id).unwrap();
    // The id that was given up is free.
    trial.write("auth/approle/role/other", json!({ "role_id": "one" }));
}

#[test]
fn a_role_is_read_as_vault_shows_it() {
    let mut trial = with_role(json!({}));
    let shown = trial
        .root(Operation::Read, "auth/approle/role/ci", json!({}))
        .unwrap();
    let names: BTreeSet<&str> = shown
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "bind_secret_id",
        "local_secret_ids",
        "secret_id_bound_cidrs",
        "secret_id_num_uses",
        "secret_id_ttl",
        "token_bound_cidrs",
        "token_explicit_max_ttl",
        "token_max_ttl",
        "token_no_default_policy",
        "token_num_uses",
        "token_period",
        "token_policies",
        "token_ttl",
        "token_type",
    ];
    assert_eq!(names, expected.into());
    assert_eq!(shown["token_type"], "default");
    let local = trial.root(
        Operation::Update,
        "auth/approle/role/ci",
        json!({ "local_secret_ids": true }),
    );
    assert!(text(local.unwrap_err()).contains("only be modified during role creation"));
}

#[test]
fn a_token_is_renewed_only_while_its_role_is_there() {
    let mut trial = with_role(json!({ "token_ttl": 60 }));
    let id = role_id(&mut trial, "ci");
    let (secret_id, _) = secret(&mut trial, "ci", json!({}));
    let auth = log_in(&mut trial, &id, &secret_id).unwrap().auth.unwrap();
    let token = auth["client_token"].as_str().unwrap().to_owned();
    trial.write("auth/approle/role/ci/token-ttl", json!({ "token_ttl": 90 }));
    let renew = |trial: &mut Trial| {
        let path = "auth/token/renew-self";
        trial.ask(As::Token(&token), Operation::Update, path, json!({}))
    };
    assert_eq!(
        renew(&mut trial).unwrap().auth.unwrap()["lease_duration"],
        90
    );
    trial
        .root(Operation::Delete, "auth/approle/role/ci", json!({}))
        .unwrap();
    trial.write("auth/approle/role/ci", json!({}));
    assert!(text(renew(&mut trial).unwrap_err()).contains("does not exist during renewal"));
}

#[test]
fn tidy_clears_what_deleted_roles_left() {
    let mut trial = with_role(json!({}));
    secret(&mut trial, "ci", json!({}));
    let mount = trial.mount("auth/approle/");
    let stray = |kind: &str| {
        crate::core::draft::key(
            tables::ENGINE,
            &[&mount.0, format!("{kind}/00/11").as_bytes()],
        )
    };
    trial.write_row(stray("secret"), b"{}".to_vec());
    trial.write_row(stray("accessor"), b"\"11\"".to_vec());
    let before = trial.count(tables::ENGINE);
    let answer = trial
        .ask(
            As::Root,
            Operation::Update,
            "auth/approle/tidy/secret-id",
            json!({}),
        )
        .unwrap();
    assert_eq!(answer.shape, crate::core::pipeline::Shape::Accepted);
    assert_eq!(trial.count(tables::ENGINE), before - 2);
}

#[test]
fn tidy_clears_nothing_where_it_cannot_see_all_roles() {
    let mut trial = with_role(json!({}));
    let (secret_id, _) = secret(&mut trial, "ci", json!({}));
    let id = role_id(&mut trial, "ci");
    let mount = trial.mount("auth/approle/");
    // Names before that of the role that matters.
    for number in 0..crate::core::draft::RANGE_KEYS_MAX {
        let name = format!("role/a{number:06}");
        let key = crate::core::draft::key(tables::ENGINE, &[&mount.0, name.as_bytes()]);
        trial.write_row(key, b"{}".to_vec());
    }
    let tidy = "auth/approle/tidy/secret-id";
    let refused = trial.ask(As::Root, Operation::Update, tidy, json!({}));
    assert!(refused.unwrap_err().to_string().contains("too many"));
    assert!(log_in(&mut trial, &id, &secret_id).is_ok());
}

#[test]
fn secret_ids_hang_on_leases_that_can_be_revoked() {
    let mut trial = with_role(json!({}));
    let id = role_id(&mut trial, "ci");
    let (secret_id, _) = secret(&mut trial, "ci", json!({ "ttl": 600 }));
    let prefix = "auth/approle/role/ci/secret-id";
    let found = trial
        .root(
            Operation::List,
            &format!("sys/leases/lookup/{prefix}"),
            json!({}),
        )
        .unwrap();
    let lease = format!("{prefix}/{}", found["keys"][0].as_str().unwrap());
    assert!(LeaseId::parse(&lease).is_some());
    trial.write("sys/leases/revoke", json!({ "lease_id": lease }));
    assert!(log_in(&mut trial, &id, &secret_id).is_err());
}
