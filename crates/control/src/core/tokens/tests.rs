use serde_json::json;

use super::ends::SWEEP_MAX;
use super::*;
use crate::core::request::Operation::{List, Read, Update};
use crate::core::trial::{As, Trial, text};

#[test]
fn a_token_is_random_and_only_its_hash_is_kept() {
    let mut trial = Trial::new();
    let (one, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let (other, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    assert!(one.starts_with("hvs.") && one.len() == 4 + TOKEN_LETTERS && one != other);
    assert!(trial.is_good(&one));
    let mut wrong = one.clone();
    wrong.pop();
    assert!(!trial.is_good(&wrong));
}

#[test]
fn a_revoked_token_takes_its_whole_tree_along() {
    let mut trial = Trial::new();
    let root = json!({ "policies": ["root"], "ttl": "1h" });
    let (parent, _) = trial.token(As::Root, root.clone());
    let mut below = vec![trial.token(As::Token(&parent), root.clone()).0];
    for depth in 0..5 {
        below.push(trial.token(As::Token(&below[depth]), root.clone()).0);
    }
    let orphan = json!({ "policies": ["root"], "ttl": "1h", "no_parent": true });
    let (orphan, _) = trial.token(As::Token(&below[2]), orphan);
    trial.write("auth/token/revoke", json!({ "token": parent }));
    for token in below.iter().chain([&parent]) {
        assert!(!trial.is_good(token));
    }
    assert!(trial.is_good(&orphan) && trial.is_good("root"));
    trial.tend();
    assert_eq!(trial.count(tables::SWEEP), 0);
    assert_eq!(trial.count(tables::TOKEN_CHILDREN), 0);
    assert_eq!(trial.count(tables::TOKENS), 2);
    assert_eq!(trial.count(tables::ACCESSORS), 2);
}

#[test]
fn a_tree_larger_than_one_batch_dies_at_once_and_is_swept_later() {
    let mut trial = Trial::new();
    let root = json!({ "policies": ["root"], "ttl": "1h" });
    let (parent, _) = trial.token(As::Root, root.clone());
    let children: Vec<String> = (0..SWEEP_MAX + 50)
        .map(|_| trial.token(As::Token(&parent), root.clone()).0)
        .collect();
    trial.write("auth/token/revoke", json!({ "token": parent }));
    assert!(
        1 < trial.count(tables::TOKENS),
        "the test must leave something to sweep"
    );
    assert!(children.iter().all(|child| !trial.is_good(child)));
    trial.tend();
    assert_eq!(trial.count(tables::TOKENS), 1);
    assert_eq!(trial.count(tables::LEASES), 0);
    assert_eq!(trial.count(tables::SWEEP), 0);
}

#[test]
fn revoke_orphan_leaves_the_children() {
    let mut trial = Trial::new();
    let root = json!({ "policies": ["root"], "ttl": "1h" });
    let (parent, _) = trial.token(As::Root, root.clone());
    let (child, _) = trial.token(As::Token(&parent), root.clone());
    let (grandchild, _) = trial.token(As::Token(&child), root);
    trial.write("auth/token/revoke-orphan", json!({ "token": parent }));
    assert!(!trial.is_good(&parent) && trial.is_good(&child) && trial.is_good(&grandchild));
    trial.write("auth/token/revoke", json!({ "token": child }));
    assert!(
        !trial.is_good(&grandchild),
        "the rest of the tree is still one"
    );
}

#[test]
fn a_token_ends_with_its_time_and_so_do_its_children() {
    let mut trial = Trial::new();
    let (parent, _) = trial.token(As::Root, json!({ "policies": ["root"], "ttl": 10 }));
    let (child, _) = trial.token(
        As::Token(&parent),
        json!({ "policies": ["root"], "ttl": 100 }),
    );
    trial.pass(9);
    assert!(trial.is_good(&parent) && trial.is_good(&child));
    trial.pass(1);
    assert!(!trial.is_good(&parent) && !trial.is_good(&child));
    trial.tend();
    assert_eq!(trial.count(tables::TOKENS), 1);
}

#[test]
fn no_time_to_live_becomes_no_end() {
    let mut trial = Trial::new();
    for ttl in [json!("0.4s"), json!("1ms"), json!(0.2)] {
        let (token, _) = trial.token(As::Root, json!({ "policies": ["default"], "ttl": ttl }));
        assert!(trial.is_good(&token));
        trial.pass(2);
        assert!(!trial.is_good(&token), "{ttl}");
    }
}

// CVE-2021-32923: what rounds to nothing is not without end.
#[test]
fn no_longest_life_becomes_none() {
    let mut trial = Trial::new();
    let role = json!({ "token_explicit_max_ttl": "500ms" });
    trial.write("auth/token/roles/short", role);
    for (path, new) in [
        (
            "auth/token/create",
            json!({ "policies": ["default"], "explicit_max_ttl": "500ms" }),
        ),
        (
            "auth/token/create/short",
            json!({ "policies": ["default"] }),
        ),
    ] {
        let made = trial.ask(As::Root, Update, path, new).unwrap();
        let auth = made.auth.unwrap();
        let token = auth["client_token"].as_str().unwrap();
        let data = json!({ "increment": 1000 });
        let renewed = trial.ask(As::Token(token), Update, "auth/token/renew-self", data);
        let left = renewed.unwrap().auth.unwrap()["lease_duration"].clone();
        assert_eq!(left, json!(1), "{path}");
        trial.pass(2);
        assert!(!trial.is_good(token), "{path}");
    }
}

#[test]
fn a_longest_life_of_a_mount_next_to_nothing_is_not_the_clusters() {
    let mut trial = Trial::new();
    let config = json!({ "default_lease_ttl": "100ms", "max_lease_ttl": "900ms" });
    trial.write("sys/mounts/own", json!({ "type": "kv", "config": config }));
    let tuned = trial.root(Read, "sys/mounts/own/tune", json!({})).unwrap();
    assert_eq!(tuned["max_lease_ttl"], json!(1));
    assert_eq!(tuned["default_lease_ttl"], json!(1));
}

#[test]
fn a_renewal_that_says_nothing_is_for_as_long_as_the_last_one() {
    let mut trial = Trial::new();
    let asked = json!({ "policies": ["default"], "ttl": 6, "explicit_max_ttl": 3600 });
    let (token, _) = trial.token(As::Root, asked);
    let mut renew = |data: serde_json::Value| {
        trial.pass(5);
        let path = "auth/token/renew-self";
        let renewed = trial.ask(As::Token(&token), Update, path, data).unwrap();
        renewed.auth.unwrap()["lease_duration"].clone()
    };
    assert_eq!(renew(json!({})), json!(6));
    assert_eq!(renew(json!({ "increment": 0 })), json!(6));
    assert_eq!(renew(json!({ "increment": 20 })), json!(20));
    assert_eq!(renew(json!({})), json!(20));
}

#[test]
fn a_renewal_stays_within_the_longest_life() {
    let mut trial = Trial::new();
    let new = json!({ "policies": ["default"], "ttl": 100, "explicit_max_ttl": 150 });
    let (token, _) = trial.token(As::Root, new);
    trial.pass(60);
    let renew = |trial: &mut Trial, token: &str, increment: u64| {
        let path = "auth/token/renew-self";
        let data = json!({ "increment": increment });
        let renewed = trial.ask(As::Token(token), Update, path, data)?;
        Ok::<_, Refusal>(renewed.auth.unwrap()["lease_duration"].clone())
    };
    assert_eq!(renew(&mut trial, &token, 20).unwrap(), json!(20));
    assert_eq!(renew(&mut trial, &token, 1000).unwrap(), json!(90));
    trial.pass(90);
    assert!(renew(&mut trial, &token, 10).is_err());

    let (periodic, _) = trial.token(As::Root, json!({ "policies": ["default"], "period": 50 }));
    for _ in 0..10 {
        trial.pass(40);
        trial.tend();
        assert_eq!(renew(&mut trial, &periodic, 1000).unwrap(), json!(50));
    }
    let fixed = json!({ "policies": ["default"], "ttl": 100, "renewable": false });
    let (fixed, _) = trial.token(As::Root, fixed);
    assert_eq!(
        text(renew(&mut trial, &fixed, 10).unwrap_err()),
        "lease is not renewable"
    );
}

#[test]
fn a_renewal_past_what_the_role_allows_by_now_is_refused() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "p", "token_ttl": 100, "token_max_ttl": 1000 });
    trial.write("auth/userpass/users/ada", user);
    let login = trial
        .ask(
            As::Nobody,
            Update,
            "auth/userpass/login/ada",
            json!({ "password": "p" }),
        )
        .unwrap();
    let auth = login.auth.unwrap();
    let token = auth["client_token"].as_str().unwrap();
    trial.pass(90);
    let less = json!({ "token_ttl": 50, "token_max_ttl": 50 });
    trial.write("auth/userpass/users/ada", less);
    let renew = trial.ask(As::Token(token), Update, "auth/token/renew-self", json!({}));
    assert_eq!(
        text(renew.unwrap_err()),
        "past the max TTL, cannot renew",
        "never an answer without an end"
    );
    assert!(trial.is_good(token), "it keeps what it had");
    trial.pass(10);
    assert!(!trial.is_good(token));
}

#[test]
fn a_periodic_root_token_has_an_end() {
    let mut trial = Trial::new();
    let (token, _) = trial.token(As::Root, json!({ "policies": ["root"], "period": 30 }));
    trial.pass(29);
    assert!(trial.is_good(&token));
    trial.pass(1);
    assert!(!trial.is_good(&token));
}

#[test]
fn a_token_cannot_give_what_it_has_not() {
    let mut trial = Trial::new();
    let policy = "path \"auth/token/create*\" { capabilities = [\"update\"] }";
    trial.write("sys/policies/acl/maker", json!({ "policy": policy }));
    trial.write(
        "sys/policies/acl/other",
        json!({ "policy": "path \"x\" { policy = \"read\" }" }),
    );
    let (maker, _) = trial.token(As::Root, json!({ "policies": ["maker"] }));
    let mut refused = |data: serde_json::Value| {
        let path = "auth/token/create";
        text(
            trial
                .ask(As::Token(&maker), Update, path, data)
                .unwrap_err(),
        )
    };
    assert_eq!(
        refused(json!({ "policies": ["other"] })),
        "child policies must be subset of parent"
    );
    assert_eq!(
        refused(json!({ "policies": ["root"] })),
        "child policies must be subset of parent"
    );
    assert!(refused(json!({ "no_parent": true })).contains("sudo"));
    assert!(refused(json!({ "period": "1h" })).contains("sudo"));
    assert!(refused(json!({ "id": "mine" })).contains("sudo"));
    let (child, _) = trial.token(As::Token(&maker), json!({}));
    let path = "auth/token/lookup-self";
    let shown = trial
        .ask(As::Token(&child), Read, path, json!({}))
        .unwrap()
        .data
        .unwrap();
    assert_eq!(shown["policies"], json!(["default", "maker"]));
    assert_eq!(shown["id"], json!(child));
}

#[test]
fn a_token_of_few_uses_makes_no_children_and_ends_with_the_last() {
    let mut trial = Trial::new();
    let (token, accessor) = trial.token(
        As::Root,
        json!({ "policies": ["root"], "num_uses": 2, "ttl": 60 }),
    );
    let refused = trial
        .ask(As::Token(&token), Update, "auth/token/create", json!({}))
        .unwrap_err();
    assert_eq!(
        text(refused),
        "restricted use token cannot generate child tokens"
    );
    assert!(trial.is_good(&token));
    assert!(!trial.is_good(&token));
    let keys = trial.root(List, "auth/token/accessors", json!({})).unwrap();
    assert!(!keys["keys"].as_array().unwrap().contains(&json!(accessor)));
}

#[test]
fn a_cubbyhole_is_of_one_token_and_ends_with_it() {
    let mut trial = Trial::new();
    let (one, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let (other, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let rows = trial.count(tables::ENGINE);
    trial
        .ask(As::Token(&one), Update, "cubbyhole/a/b", json!({ "x": 1 }))
        .unwrap();
    let read = trial
        .ask(As::Token(&one), Read, "cubbyhole/a/b", json!({}))
        .unwrap();
    assert_eq!(read.data.unwrap()["x"], json!(1));
    assert!(
        trial
            .ask(As::Token(&other), Read, "cubbyhole/a/b", json!({}))
            .is_err()
    );
    let list = trial
        .ask(As::Token(&one), List, "cubbyhole", json!({}))
        .unwrap();
    assert_eq!(list.data.unwrap()["keys"], json!(["a/"]));
    trial.write("auth/token/revoke", json!({ "token": one }));
    assert_eq!(trial.count(tables::ENGINE), rows);
}

#[test]
fn a_role_gives_what_it_allows_and_no_more() {
    let mut trial = Trial::new();
    let policy = "path \"auth/token/create/*\" { capabilities = [\"update\"] }";
    trial.write("sys/policies/acl/maker", json!({ "policy": policy }));
    let (maker, _) = trial.token(As::Root, json!({ "policies": ["maker"] }));
    let role = json!({
        "allowed_policies": "app,web", "disallowed_policies": "web", "orphan": true,
        "period": "50s", "path_suffix": "ci",
    });
    trial.write("auth/token/roles/app", role);
    trial.write("auth/token/roles/free", json!({}));
    let mut make = |role: &str, data: serde_json::Value| {
        let path = format!("auth/token/create/{role}");
        trial
            .ask(As::Token(&maker), Update, &path, data)
            .map(|made| made.auth.unwrap())
    };
    let made = make("app", json!({ "policies": ["app"] })).unwrap();
    assert_eq!(made["policies"], json!(["app", "default"]));
    assert_eq!(
        (&made["orphan"], &made["lease_duration"]),
        (&json!(true), &json!(50))
    );
    for (role, policies) in [
        ("app", json!(["other"])),
        ("app", json!(["root"])),
        ("app", json!(["web"])),
        ("app", json!([])),
        ("free", json!(["other"])),
        ("free", json!(["root"])),
        ("none", json!(["maker"])),
    ] {
        assert!(
            make(role, json!({ "policies": policies })).is_err(),
            "{role} {policies}"
        );
    }
    let made = make("free", json!({})).unwrap();
    assert_eq!(made["policies"], json!(["default", "maker"]));
    let keys = trial.root(List, "auth/token/roles", json!({})).unwrap();
    assert_eq!(keys["keys"], json!(["app", "free"]));
}

#[test]
fn a_token_that_was_stored_before_there_were_kinds_and_networks_is_a_service_token_for_all() {
    let old = r#"{"id":"0707070707070707070707070707070707070707070707070707070707070707",
        "accessor":"a","policies":["default"],"path":"auth/token/create","display_name":"token",
        "created":1700000000000,"creation_ttl":60,"expires":1700000060000,
        "ttl_max":60,"renewable":true}"#;
    let token: Token = serde_json::from_str(old).unwrap();
    assert_eq!(token.kind, TokenKind::Service);
    assert!(token.bound_cidrs.is_empty() && token.entity_id.is_empty());
}

#[test]
fn a_bound_token_is_good_from_its_networks_alone() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "pw", "token_bound_cidrs": "10.1.0.0/16" });
    trial.write("auth/userpass/users/ada", user);
    let from = |who: As<'_>, operation, path: &str, data, address: &str| {
        let mut request = Trial::request(who, operation, path, data);
        request.peer.address = Some(format!("{address}:4711").parse().unwrap());
        request
    };
    let login = |address: &str| {
        let path = "auth/userpass/login/ada";
        from(
            As::Nobody,
            Update,
            path,
            json!({ "password": "pw" }),
            address,
        )
    };
    let refused = trial.send(&login("10.2.0.1"));
    assert!(
        matches!(refused, Err(Refusal::Unauthenticated)),
        "{refused:?}"
    );
    let auth = trial.send(&login("10.1.0.1")).unwrap().auth.unwrap();
    let token = auth["client_token"].as_str().unwrap();
    let look = |address: &str| {
        let path = "auth/token/lookup-self";
        from(As::Token(token), Read, path, json!({}), address)
    };
    let shown = trial.send(&look("10.1.9.9")).unwrap().data.unwrap();
    assert_eq!(shown["bound_cidrs"], json!(["10.1.0.0/16"]));
    let refused = trial.send(&look("10.2.0.1"));
    assert!(
        matches!(refused, Err(Refusal::Unauthenticated)),
        "{refused:?}"
    );
}
