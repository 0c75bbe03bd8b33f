use bastide_api::NodeId;
use serde_json::json;

use super::*;
use crate::core::audit::{Hasher, Recorder};
use crate::core::request::Operation::{Create, Delete, List, Read, Update};
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

#[test]
fn who_has_no_token_learns_nothing() {
    let mut trial = Trial::new();
    for path in [
        "secret/data/x",
        "no/such/mount",
        "sys/mounts",
        "auth/token/lookup-self",
    ] {
        for who in [As::Nobody, As::Token("hvs.wrong"), As::Token("")] {
            let refused = trial.ask(who, Read, path, json!({})).unwrap_err();
            assert!(
                matches!(refused, Refusal::Unauthenticated),
                "{path}: {refused:?}"
            );
        }
    }
    assert!(trial.ask(As::Nobody, Read, "sys/health", json!({})).is_ok());
    assert!(
        trial
            .ask(As::Token("hvs.wrong"), Read, "sys/health", json!({}))
            .is_ok()
    );
}

#[test]
fn a_missing_mount_is_told_only_to_whoever_may_go_there() {
    let mut trial = Trial::new();
    let refused = trial.ask(As::Root, Read, "no/such", json!({})).unwrap_err();
    assert!(matches!(refused, Refusal::NoMount(_)), "{refused:?}");
    let (token, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let refused = trial
        .ask(As::Token(&token), Read, "no/such", json!({}))
        .unwrap_err();
    assert!(matches!(refused, Refusal::Denied), "{refused:?}");
}

#[test]
fn create_and_update_are_told_apart_by_what_exists() {
    let mut trial = Trial::new();
    let policy = "path \"secret/data/*\" { capabilities = [\"create\"] }";
    trial.write("sys/policies/acl/maker", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["maker"] }));
    let data = json!({ "data": { "a": 1 } });
    let first = trial.ask(As::Token(&token), Update, "secret/data/x", data.clone());
    assert!(first.is_ok(), "{first:?}");
    let second = trial
        .ask(As::Token(&token), Update, "secret/data/x", data)
        .unwrap_err();
    assert!(matches!(second, Refusal::Denied), "{second:?}");
}

#[test]
fn a_write_to_a_folder_is_refused() {
    let mut trial = Trial::new();
    let mut request = Trial::request(As::Root, Update, "secret/data/x", json!({ "data": {} }));
    request.path = request.path.into_folder();
    let refused = trial.decide(&request).response.outcome.unwrap_err();
    assert_eq!(text(refused), "cannot write to a path ending in '/'");
}

#[test]
fn a_decision_does_not_hold_when_what_it_read_has_changed() {
    let mut trial = Trial::new();
    let ask = |cas: u64| {
        let data = json!({ "data": { "n": cas }, "options": { "cas": cas } });
        Trial::request(As::Root, Update, "secret/data/x", data)
    };
    let (one, other) = (trial.decide(&ask(0)), trial.decide(&ask(0)));
    assert!(one.response.outcome.is_ok() && other.response.outcome.is_ok());
    assert!(trial.commit(one));
    assert!(
        !trial.commit(other),
        "both believed that the key had no version"
    );
    let again = trial.decide(&ask(0)).response.outcome.unwrap_err();
    assert!(text(again).contains("check-and-set parameter did not match"));
}

#[test]
fn a_token_revoked_between_decision_and_commit_does_not_write() {
    let mut trial = Trial::new();
    let (token, accessor) = trial.token(As::Root, json!({ "policies": ["root"] }));
    let data = json!({ "data": { "a": 1 } });
    let request = Trial::request(As::Token(&token), Update, "secret/data/x", data);
    let decided = trial.decide(&request);
    trial.write(
        "auth/token/revoke-accessor",
        json!({ "accessor": accessor }),
    );
    assert!(!trial.commit(decided));
}

#[test]
fn a_refused_request_changes_nothing_but_the_count_of_its_token() {
    let mut trial = Trial::new();
    let (token, _) = trial.token(As::Root, json!({ "policies": ["default"], "num_uses": 3 }));
    let request = Trial::request(As::Token(&token), Read, "secret/data/x", json!({}));
    let decided = trial.decide(&request);
    assert!(decided.response.outcome.is_err() && decided.audit.is_some());
    assert_eq!(decided.batch.ops.len(), 1);
    assert_eq!(decided.batch.ops[0].key().table(), tables::TOKENS);
    assert!(trial.commit(decided));
    assert!(trial.is_good(&token));
    let last = trial
        .ask(As::Token(&token), Read, "secret/data/x", json!({}))
        .unwrap_err();
    assert!(matches!(last, Refusal::Denied), "{last:?}");
    assert!(!trial.is_good(&token), "the third use was the last");
}

#[test]
fn a_refusal_of_root_writes_no_row() {
    let mut trial = Trial::new();
    let before = trial.count(tables::ENGINE);
    let refused = trial
        .ask(As::Root, Update, "secret/data/x", json!({ "data": 1 }))
        .unwrap_err();
    assert_eq!(text(refused), "data must be a map");
    assert_eq!(trial.count(tables::ENGINE), before);
}

#[test]
fn a_machine_without_membership_is_nobody() {
    let mut trial = Trial::new();
    let stranger = As::Machine(Identity::Node(NodeId::from_bytes([9; 16])));
    let refused = trial
        .ask(stranger, Update, "mesh/renew", json!({}))
        .unwrap_err();
    assert!(matches!(refused, Refusal::Unauthenticated), "{refused:?}");
}

#[test]
fn userpass_logs_in_who_knows_the_password_and_nobody_else() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "right", "token_policies": "reader,Default" });
    trial.write("auth/userpass/users/Ada", user);
    let login = |name: &str, password: &str, trial: &mut Trial| {
        let path = format!("auth/userpass/login/{name}");
        trial.ask(As::Nobody, Update, &path, json!({ "password": password }))
    };
    let auth = login("aDA", "right", &mut trial).unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "reader"]));
    assert_eq!(auth["metadata"], json!({ "username": "ada" }));
    assert_eq!(auth["lease_duration"], json!(2_764_800));
    for (name, password) in [("ada", "wrong"), ("eve", "right"), ("a b", "right")] {
        let refused = login(name, password, &mut trial).unwrap_err();
        assert_eq!(text(refused), "invalid username or password", "{name}");
    }
    let shown = trial
        .root(Read, "auth/userpass/users/ada", json!({}))
        .unwrap();
    assert!(!shown.to_string().contains("hash") && !shown.to_string().contains("salt"));
    trial.write(
        "auth/userpass/users/ada/password",
        json!({ "password": "new" }),
    );
    assert!(login("ada", "right", &mut trial).is_err());
    assert!(login("ada", "new", &mut trial).is_ok());
    trial
        .root(Delete, "auth/userpass/users/ada", json!({}))
        .unwrap();
    assert!(login("ada", "new", &mut trial).is_err());
}

#[test]
fn a_login_never_makes_a_root_token() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "p", "token_policies": ["ROOT"] });
    trial.write("auth/userpass/users/mallory", user);
    let refused = trial
        .ask(
            As::Nobody,
            Update,
            "auth/userpass/login/mallory",
            json!({ "password": "p" }),
        )
        .unwrap_err();
    assert_eq!(text(refused), "auth methods cannot create root tokens");
}

#[test]
fn a_login_that_is_refused_at_its_end_leaves_no_token() {
    // CVE-2026-46405: an error and a token came back together, and the token was good.
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let password = json!({ "password": "p" });
    let elsewhere = json!({ "password": "p", "token_bound_cidrs": "192.0.2.0/24" });
    trial.write("auth/userpass/users/far", elsewhere);
    trial.write(
        "auth/userpass/users/root",
        json!({ "password": "p", "token_policies": " ROOT" }),
    );
    trial.write("auth/userpass/users/gone", password.clone());
    let path = "auth/userpass/login/gone";
    let auth = trial.ask(As::Nobody, Update, path, password.clone());
    let entity = auth.unwrap().auth.unwrap()["entity_id"].clone();
    let shut = format!("identity/entity/id/{}", entity.as_str().unwrap());
    trial.write(&shut, json!({ "disabled": true }));
    let rows = |trial: &mut Trial| {
        [tables::TOKENS, tables::ACCESSORS, tables::LEASES].map(|table| trial.count(table))
    };
    let before = rows(&mut trial);
    for name in ["far", "root", "gone"] {
        let path = format!("auth/userpass/login/{name}");
        let mut request = Trial::request(As::Nobody, Update, &path, password.clone());
        for wrap in [None, Some(std::time::Duration::from_secs(60))] {
            request.wrap = wrap;
            let refused = trial.send(&request);
            assert!(refused.is_err(), "{name}");
            assert_eq!(rows(&mut trial), before, "{name}");
        }
    }
}

#[test]
fn no_auth_method_is_made_or_ended_without_sudo() {
    let mut trial = Trial::new();
    trial.write("sys/auth/people", json!({ "type": "userpass" }));
    let all = r#"["create", "read", "update", "delete", "list"]"#;
    let policy = format!(
        "path \"sys/mounts/*\" {{ capabilities = {all} }} path \"sys/auth/*\" {{ capabilities = {all} }}"
    );
    trial.write("sys/policies/acl/mounter", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["mounter"] }));
    let kind = json!({ "type": "userpass" });
    for (operation, path) in [
        (Update, "sys/auth/more"),
        (Delete, "sys/auth/people"),
        (Update, "sys/mounts/auth/more"),
        (Delete, "sys/mounts/auth/people"),
    ] {
        let asked = trial.ask(As::Token(&token), operation, path, kind.clone());
        assert!(asked.is_err(), "{path}");
        if path.starts_with("sys/mounts") {
            assert!(trial.root(operation, path, kind.clone()).is_err());
        }
    }
    assert!(trial.root(Read, "sys/auth/people", json!({})).is_ok());
    assert!(trial.root(Read, "sys/auth/more", json!({})).is_err());
    // What may be done so: engines, and what a method's tuning says.
    let engine = trial.ask(
        As::Token(&token),
        Update,
        "sys/mounts/own",
        json!({ "type": "kv" }),
    );
    assert!(engine.is_ok());
    let tuned = trial.ask(
        As::Token(&token),
        Read,
        "sys/mounts/auth/people/tune",
        json!({}),
    );
    assert!(tuned.is_ok());
}

#[test]
fn mounts_are_made_tuned_listed_and_removed() {
    let mut trial = Trial::new();
    trial.write(
        "sys/mounts/team/kv",
        json!({ "type": "kv-v2", "config": { "max_lease_ttl": "1h" } }),
    );
    for (path, kind, expected) in [
        ("team/kv", "kv", "path is already in use at team/kv/"),
        ("team", "kv", "existing mount at team/kv/"),
        ("team/kv/x", "kv", "existing mount at team/kv/"),
        ("sys", "kv", "cannot mount \"sys/\""),
        (
            "new",
            "nonsense",
            "plugin not found in the catalog: nonsense",
        ),
        ("new", "system", "plugin not found in the catalog: system"),
    ] {
        let path = format!("sys/mounts/{path}");
        let refused = trial
            .root(Update, &path, json!({ "type": kind }))
            .unwrap_err();
        assert_eq!(text(refused), expected);
    }
    let tune = trial
        .root(Read, "sys/mounts/team/kv/tune", json!({}))
        .unwrap();
    assert_eq!(
        (&tune["max_lease_ttl"], &tune["default_lease_ttl"]),
        (&json!(3600), &json!(3600))
    );
    trial.write("team/kv/data/x", json!({ "data": { "a": 1 } }));
    let rows = trial.count(tables::ENGINE);
    trial.root(Delete, "sys/mounts/team/kv", json!({})).unwrap();
    trial.tend();
    assert!(
        trial.count(tables::ENGINE) < rows,
        "a removed mount leaves nothing behind"
    );
    assert_eq!(trial.count(tables::GRAVES), 0);
    assert!(
        trial
            .root(Delete, "sys/mounts/cubbyhole", json!({}))
            .is_err()
    );
}

#[test]
fn policies_have_one_spelling_and_root_is_out_of_reach() {
    let mut trial = Trial::new();
    let policy = json!({ "policy": "path \"a\" { policy = \"read\" }" });
    for name in ["root", "ROOT", "Root", "node", "controller"] {
        let path = format!("sys/policies/acl/{name}");
        assert!(trial.root(Update, &path, policy.clone()).is_err(), "{name}");
        assert!(trial.root(Delete, &path, json!({})).is_err(), "{name}");
    }
    trial.write("sys/policies/acl/Mixed", policy);
    let names = trial.root(List, "sys/policies/acl", json!({})).unwrap();
    assert_eq!(names["keys"], json!(["default", "mixed", "root"]));
    assert!(
        trial
            .root(Read, "sys/policies/acl/MIXED", json!({}))
            .is_ok()
    );
    let refused = trial.root(Update, "sys/policies/acl/x", json!({ "policy": "path" }));
    assert!(text(refused.unwrap_err()).starts_with("failed to parse policy"));
}

#[test]
fn a_rule_for_a_name_is_passed_by_under_no_spelling_of_it() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    trial.write("sys/auth/approle", json!({ "type": "approle" }));
    for name in ["admin", "ada", "zo\u{eb}"] {
        let path = format!("auth/userpass/users/{name}");
        trial.write(&path, json!({ "password": "p" }));
    }
    trial.write(
        "sys/policies/acl/strong",
        json!({ "policy": "path \"x\" { policy = \"read\" }" }),
    );
    let rules = r#"
        path "auth/userpass/users/*" { capabilities = ["create", "read", "update"] }
        path "auth/userpass/users/admin*" { capabilities = ["deny"] }
        path "auth/userpass/users/zo\u{eb}" { capabilities = ["read"] }
        path "auth/approle/role/+" { capabilities = ["create", "update"] }
        path "auth/approle/role/ci" {
            capabilities = ["create", "update"]
            denied_parameters = { "token_policies" = [] }
        }
        path "sys/policies/acl/*" { capabilities = ["read", "update"] }
        path "sys/policies/acl/strong" { capabilities = ["deny"] }
        path "identity/entity/name/*" { capabilities = ["read"] }
        path "identity/entity/name/Bob" { capabilities = ["update"] }
    "#;
    let rules = rules.replace("\\u{eb}", "\u{eb}");
    trial.write("sys/policies/acl/helpdesk", json!({ "policy": rules }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["helpdesk"] }));
    let password = json!({ "password": "mine" });
    let policies = json!({ "token_policies": "strong" });
    let policy = json!({ "policy": "path \"*\" { policy = \"sudo\" }" });
    for (path, data) in [
        ("auth/userpass/users/admin", &password),
        ("auth/userpass/users/Admin", &password),
        ("auth/userpass/users/ADMIN/password", &password),
        // Wide letters, and a letter with its dots apart.
        ("auth/userpass/users/\u{ff41}dmin", &password),
        ("auth/userpass/users/ZOE\u{308}", &password),
        ("auth/approle/role/ci", &policies),
        ("auth/approle/role/CI", &policies),
        ("sys/policies/acl/strong", &policy),
        ("sys/policies/acl/Strong", &policy),
    ] {
        let refused = trial.ask(As::Token(&token), Update, path, data.clone());
        assert!(matches!(refused, Err(Refusal::Denied)), "{path}");
        let asked = json!({ "path": path, "token": token });
        let told = trial.write("sys/capabilities", asked)["capabilities"].clone();
        let may = told.as_array().unwrap().contains(&json!("update"));
        // What parameters say is no capability.
        assert_eq!(may, path.contains("approle"), "{path}: {told}");
    }
    // The controls: other names in whatever spelling, and a rule that names one spelling alone.
    for (path, data) in [
        ("auth/userpass/users/ada", &password),
        ("auth/userpass/users/ADA", &password),
        ("auth/approle/role/CD", &policies),
        ("auth/approle/role/Ci", &json!({})),
        ("sys/policies/acl/Weak", &policy),
        ("identity/entity/name/Bob", &json!({})),
    ] {
        let done = trial.ask(As::Token(&token), Update, path, data.clone());
        assert!(done.is_ok(), "{path}: {done:?}");
    }
}

#[test]
fn the_preflight_of_kv_needs_a_rule_below_the_mount() {
    let mut trial = Trial::new();
    let policy = "path \"secret/data/team/*\" { capabilities = [\"read\"] }";
    trial.write("sys/policies/acl/team", json!({ "policy": policy }));
    let (team, _) = trial.token(As::Root, json!({ "policies": ["team"] }));
    let (none, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let path = "sys/internal/ui/mounts/secret/team/x";
    let data = trial
        .ask(As::Token(&team), Read, path, json!({}))
        .unwrap()
        .data
        .unwrap();
    assert_eq!(
        (&data["path"], &data["options"]),
        (&json!("secret/"), &json!({ "version": "2" }))
    );
    assert!(trial.ask(As::Token(&none), Read, path, json!({})).is_err());
    assert!(trial.ask(As::Nobody, Read, path, json!({})).is_err());
    let absent = trial.ask(As::Root, Read, "sys/internal/ui/mounts/none", json!({}));
    assert!(matches!(absent.unwrap_err(), Refusal::Forbidden(_)));
}

#[test]
fn capabilities_are_told_as_they_are_enforced() {
    let mut trial = Trial::new();
    let policy = "path \"a/*\" { capabilities = [\"update\", \"read\"] }";
    trial.write("sys/policies/acl/p", json!({ "policy": policy }));
    let (token, accessor) = trial.token(As::Root, json!({ "policies": ["p"] }));
    let both = json!({ "paths": ["a/b", "c"], "token": token });
    let told = trial.write("sys/capabilities", both);
    assert_eq!(
        (&told["a/b"], &told["c"]),
        (&json!(["read", "update"]), &json!(["deny"]))
    );
    let one = json!({ "path": "a/b", "accessor": accessor });
    let told = trial.write("sys/capabilities-accessor", one);
    assert_eq!(told["capabilities"], json!(["read", "update"]));
    let told = trial.write("sys/capabilities-self", json!({ "paths": ["x"] }));
    assert_eq!(told["capabilities"], json!(["root"]));
}

#[test]
fn what_is_only_created_says_so_in_its_record() {
    let mut trial = Trial::new();
    let request = Trial::request(As::Root, Update, "secret/data/x", json!({ "data": {} }));
    let decided = trial.decide(&request);
    let hasher = Hasher::new(trial.barrier(), "file/");
    let [asked, _] = decided.records(&request, &Recorder::usual(hasher));
    assert_eq!(asked["request"]["operation"], json!(Create.as_str()));
}

#[test]
fn an_unknown_user_costs_as_much_work_as_a_known_one() {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    trial.write("auth/userpass/users/ada", json!({ "password": "p" }));
    for name in ["ada", "eve", "zoe"] {
        let before = trial.hashed;
        let path = format!("auth/userpass/login/{name}");
        assert!(
            trial
                .ask(As::Nobody, Update, &path, json!({ "password": "q" }))
                .is_err()
        );
        assert_eq!(trial.hashed, before + 1, "{name}");
    }
}
