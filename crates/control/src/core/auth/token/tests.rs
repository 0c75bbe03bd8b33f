use serde_json::{Value, json};

use crate::core::refusal::Refusal;
use crate::core::request::Operation::{Read, Update};
use crate::core::trial::{As, Trial, text};

fn made(trial: &mut Trial, who: As<'_>, path: &str, data: Value) -> Result<Value, Refusal> {
    let envelope = trial.ask(who, Update, path, data)?;
    Ok(envelope.auth.unwrap())
}

fn refused(trial: &mut Trial, who: As<'_>, path: &str, data: Value) -> String {
    text(made(trial, who, path, data).unwrap_err())
}

fn all_powers(trial: &mut Trial) {
    let policy = "path \"auth/token/*\" { capabilities = [\"create\", \"read\", \"update\"] }";
    for name in ["maker", "web-a", "web-b", "db"] {
        trial.write(
            &format!("sys/policies/acl/{name}"),
            json!({ "policy": policy }),
        );
    }
}

#[test]
fn a_role_says_which_policies_its_tokens_may_have() {
    let mut trial = Trial::new();
    all_powers(&mut trial);
    trial.write(
        "auth/token/roles/web",
        json!({ "allowed_policies_glob": "web-*", "disallowed_policies": "web-b" }),
    );
    let (maker, _) = trial.token(As::Root, json!({ "policies": ["maker"], "ttl": "1h" }));
    let path = "auth/token/create/web";
    let good = made(
        &mut trial,
        As::Token(&maker),
        path,
        json!({ "policies": "web-a" }),
    )
    .unwrap();
    assert_eq!(good["policies"], json!(["default", "web-a"]));
    let wrong = refused(
        &mut trial,
        As::Token(&maker),
        path,
        json!({ "policies": "db" }),
    );
    assert!(
        wrong.contains("must be subset of the role's allowed policies"),
        "{wrong}"
    );
    let wrong = refused(
        &mut trial,
        As::Token(&maker),
        path,
        json!({ "policies": "web-b" }),
    );
    assert_eq!(wrong, "token policy \"web-b\" is disallowed by this role");
    // Without a role nobody gets what he does not have.
    let wrong = refused(
        &mut trial,
        As::Token(&maker),
        "auth/token/create",
        json!({ "policies": "web-a" }),
    );
    assert_eq!(wrong, "child policies must be subset of parent");
    // A role that only excludes hands on the maker's own, `default` too unless it is excluded.
    trial.write(
        "auth/token/roles/but",
        json!({ "disallowed_policies": "default,db" }),
    );
    let good = made(
        &mut trial,
        As::Token(&maker),
        "auth/token/create/but",
        json!({}),
    )
    .unwrap_err();
    assert_eq!(
        text(good),
        "token policy \"default\" is disallowed by this role"
    );
    let bare = json!({ "policies": ["maker"], "ttl": "1h", "no_default_policy": true });
    let (bare, _) = trial.token(As::Root, bare);
    let good = made(
        &mut trial,
        As::Token(&bare),
        "auth/token/create/but",
        json!({}),
    )
    .unwrap();
    assert_eq!(good["policies"], json!(["maker"]));
}

#[test]
fn no_role_makes_root_or_the_programs_own_policies() {
    let mut trial = Trial::new();
    all_powers(&mut trial);
    let (maker, _) = trial.token(As::Root, json!({ "policies": ["maker"], "ttl": "1h" }));
    for (policy, expect) in [
        (
            "root",
            "root tokens may not be created without parent token being root",
        ),
        ("node", "cannot assign policy \"node\""),
        ("controller", "cannot assign policy \"controller\""),
        (
            "response-wrapping",
            "cannot assign policy \"response-wrapping\"",
        ),
    ] {
        trial.write(
            "auth/token/roles/any",
            json!({ "allowed_policies": policy }),
        );
        let path = "auth/token/create/any";
        let found = refused(
            &mut trial,
            As::Token(&maker),
            path,
            json!({ "policies": policy }),
        );
        assert_eq!(found, expect);
    }
}

#[test]
fn a_role_is_read_back_with_all_its_fields() {
    let mut trial = Trial::new();
    let role = json!({
        "allowed_policies": "a,b", "allowed_policies_glob": "c*", "disallowed_policies": "d",
        "disallowed_policies_glob": "e*", "orphan": true, "renewable": false, "path_suffix": "x/y",
        "allowed_entity_aliases": "web-*", "token_bound_cidrs": "10.0.0.0/8,192.0.2.1",
        "token_explicit_max_ttl": "1h", "token_no_default_policy": true, "token_num_uses": 3,
        "token_period": "30m", "token_type": "service",
    });
    trial.write("auth/token/roles/full", role);
    let shown = trial
        .root(Read, "auth/token/roles/full", json!({}))
        .unwrap();
    assert_eq!(
        shown,
        json!({
            "name": "full", "allowed_policies": ["a", "b"], "allowed_policies_glob": ["c*"],
            "disallowed_policies": ["d"], "disallowed_policies_glob": ["e*"], "orphan": true,
            "renewable": false, "path_suffix": "x/y", "allowed_entity_aliases": ["web-*"],
            "token_bound_cidrs": ["10.0.0.0/8", "192.0.2.1"], "explicit_max_ttl": 3600,
            "token_explicit_max_ttl": 3600, "token_no_default_policy": true, "token_num_uses": 3,
            "period": 1800, "token_period": 1800, "token_type": "service",
        })
    );
    for (field, value, expect) in [
        ("orphan", json!(false), "non-orphan tokens"),
        ("token_period", json!("1h"), "periodic tokens"),
        ("renewable", json!(true), "renewable tokens"),
        (
            "token_explicit_max_ttl",
            json!(9),
            "tokens with an explicit max TTL",
        ),
    ] {
        let mut role = json!({ "token_type": "batch", "orphan": true, "renewable": false });
        role[field] = value;
        let found = trial
            .root(Update, "auth/token/roles/batch", role)
            .unwrap_err();
        let start = "'token_type' cannot be 'batch' when role is set to generate";
        assert_eq!(text(found), format!("{start} {expect}"));
    }
}

#[test]
fn what_a_role_says_binds_its_tokens() {
    let mut trial = Trial::new();
    trial.write(
        "auth/token/roles/short",
        json!({
            "token_explicit_max_ttl": "10m", "token_num_uses": 5, "path_suffix": "ci",
            "renewable": false, "orphan": true, "token_bound_cidrs": "127.0.0.0/8",
        }),
    );
    let wanted = json!({ "policies": "default", "ttl": "1h", "num_uses": 9 });
    let auth = made(&mut trial, As::Root, "auth/token/create/short", wanted).unwrap();
    assert_eq!(auth["lease_duration"], 600);
    assert_eq!(
        (&auth["num_uses"], &auth["renewable"]),
        (&json!(5), &json!(false))
    );
    assert_eq!(auth["orphan"], true);
    let token = json!({ "token": auth["client_token"] });
    let shown = trial.write("auth/token/lookup", token);
    assert_eq!(shown["path"], "auth/token/create/short/ci");
    assert_eq!(
        (&shown["role"], &shown["bound_cidrs"]),
        (&json!("short"), &json!(["127.0.0.0/8"]))
    );
    assert_eq!(shown["explicit_max_ttl"], 600);
    trial.write(
        "auth/token/roles/blobs",
        json!({ "token_type": "default-batch" }),
    );
    let path = "auth/token/create/blobs";
    let wanted = json!({ "policies": "default" });
    assert_eq!(
        made(&mut trial, As::Root, path, wanted).unwrap()["token_type"],
        "batch"
    );
    let wanted = json!({ "policies": "default", "type": "service" });
    assert_eq!(
        made(&mut trial, As::Root, path, wanted).unwrap()["token_type"],
        "service"
    );
}

#[test]
fn what_a_role_limits_is_not_passed_by_with_the_other_kind_of_token() {
    let mut trial = Trial::new();
    let path = "auth/token/create/short";
    let wanted = |kind: &str| json!({ "policies": "default", "ttl": "10h", "type": kind });
    trial.write(
        "auth/token/roles/short",
        json!({ "token_explicit_max_ttl": "10m" }),
    );
    for kind in ["service", "batch"] {
        let auth = made(&mut trial, As::Root, path, wanted(kind)).unwrap();
        assert_eq!(auth["token_type"], kind);
        assert_eq!(auth["lease_duration"], 600, "{kind}");
    }
    trial.write("auth/token/roles/short", json!({ "token_num_uses": 1 }));
    let auth = made(&mut trial, As::Root, path, wanted("service")).unwrap();
    assert_eq!(auth["num_uses"], 1);
    let why = refused(&mut trial, As::Root, path, wanted("batch"));
    assert!(why.contains("how often"), "{why}");
}

#[test]
fn a_child_is_bound_to_its_parents_networks() {
    let mut trial = Trial::new();
    all_powers(&mut trial);
    trial.write(
        "auth/token/roles/local",
        json!({ "token_bound_cidrs": "127.0.0.1" }),
    );
    let wanted = json!({ "policies": "maker" });
    let parent = made(&mut trial, As::Root, "auth/token/create/local", wanted).unwrap();
    let parent = parent["client_token"].as_str().unwrap();
    let mut request = Trial::request(As::Token(parent), Update, "auth/token/create", json!({}));
    assert!(trial.send(&request).is_err(), "from nowhere it is not good");
    request.peer.address = Some("127.0.0.1:1".parse().unwrap());
    let child = trial.send(&request).unwrap().auth.unwrap();
    let shown = trial.write(
        "auth/token/lookup",
        json!({ "token": child["client_token"] }),
    );
    assert_eq!(shown["bound_cidrs"], json!(["127.0.0.1"]));
}

#[test]
fn a_token_in_a_query_is_refused() {
    let mut trial = Trial::new();
    let (token, _) = trial.token(As::Root, json!({ "policies": ["default"] }));
    let found = trial.root(Read, "auth/token/lookup", json!({ "token": token }));
    assert_eq!(
        text(found.unwrap_err()),
        "a token does not belong in a URL: send it in the body"
    );
}

#[test]
fn unknown_accessors_and_tokens_are_told_as_vault_does() {
    let mut trial = Trial::new();
    let gone = json!({ "accessor": "gone", "token": "hvs.gone" });
    for (path, expect) in [
        ("auth/token/lookup", "bad token"),
        ("auth/token/lookup-accessor", "invalid accessor"),
        ("auth/token/renew", "token not found"),
        ("auth/token/renew-accessor", "invalid accessor"),
        ("auth/token/revoke-orphan", "token to revoke not found"),
    ] {
        let found = trial.ask(As::Root, Update, path, gone.clone());
        assert_eq!(text(found.unwrap_err()), expect, "{path}");
    }
    let revoked = trial
        .ask(As::Root, Update, "auth/token/revoke", gone.clone())
        .unwrap();
    assert!(revoked.warnings.is_empty());
    let revoked = trial
        .ask(As::Root, Update, "auth/token/revoke-accessor", gone)
        .unwrap();
    assert_eq!(revoked.warnings, ["No token found with this accessor"]);
}

#[test]
fn a_token_may_be_named_by_root_but_not_as_if_we_had_made_it() {
    let mut trial = Trial::new();
    let named = json!({ "id": "my-own-token", "policies": ["default"] });
    let (token, _) = trial.token(As::Root, named.clone());
    assert_eq!(token, "my-own-token");
    let twice = refused(&mut trial, As::Root, "auth/token/create", named);
    assert_eq!(twice, "cannot create a token with a duplicate ID");
    for (id, expect) in [
        (
            "hvs.abc",
            "custom token ID cannot have the 'hvs.' or 's.' prefix",
        ),
        (
            "hvb.abc",
            "custom token ID cannot have the 'hvs.' or 's.' prefix",
        ),
        ("a.b", "custom token ID cannot have a '.' in the value"),
        ("a b", "custom token ID is not valid"),
    ] {
        let found = refused(
            &mut trial,
            As::Root,
            "auth/token/create",
            json!({ "id": id }),
        );
        assert_eq!(found, expect, "{id}");
    }
}

#[test]
fn fields_that_are_sent_empty_are_not_sent() {
    let mut trial = Trial::new();
    let wanted = json!({
        "entity_alias": "", "type": "", "ttl": "", "period": "", "explicit_max_ttl": "", "id": "",
        "display_name": "", "num_uses": 0, "policies": ["default"], "lease": "", "meta": null,
    });
    let auth = made(&mut trial, As::Root, "auth/token/create", wanted).unwrap();
    assert_eq!(auth["token_type"], "service");
    let alias = json!({ "entity_alias": "web" });
    let found = refused(&mut trial, As::Root, "auth/token/create", alias);
    assert_eq!(
        found,
        "'entity_alias' is only allowed in combination with token role"
    );
}
