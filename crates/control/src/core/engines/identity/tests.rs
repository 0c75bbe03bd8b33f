use serde_json::json;

use super::*;
use crate::core::pipeline::Envelope;
use crate::core::request::Operation::{Delete, List, Read, Update};
use crate::core::trial::{As, Trial, text};

mod groups;
mod names;

/// A control plane with people: userpass, and an engine to ask for.
fn trial() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    trial
}

fn user(trial: &mut Trial, name: &str) {
    let data = json!({ "password": "right" });
    trial.write(&format!("auth/userpass/users/{name}"), data);
}

fn log_in(trial: &mut Trial, name: &str) -> Result<Value, Refusal> {
    let path = format!("auth/userpass/login/{name}");
    let data = json!({ "password": "right" });
    let envelope = trial.ask(As::Nobody, Update, &path, data)?;
    Ok(envelope.auth.unwrap())
}

fn token_of(auth: &Value) -> String {
    auth["client_token"].as_str().unwrap().to_owned()
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

fn accessor(trial: &mut Trial) -> String {
    let mount = trial.root(Read, "sys/auth/userpass", json!({})).unwrap();
    mount["accessor"].as_str().unwrap().to_owned()
}

fn ask_as(trial: &mut Trial, token: &str, path: &str) -> Result<Envelope, Refusal> {
    trial.ask(As::Token(token), Read, path, json!({}))
}

fn policy(trial: &mut Trial, name: &str, rules: &str) {
    let path = format!("sys/policies/acl/{name}");
    trial.write(&path, json!({ "policy": rules }));
}

#[test]
fn two_logins_under_one_name_are_one_entity_and_another_name_is_another() {
    let mut trial = trial();
    user(&mut trial, "ada");
    user(&mut trial, "bob");
    let first = log_in(&mut trial, "ada").unwrap();
    let again = log_in(&mut trial, "ADA").unwrap();
    let other = log_in(&mut trial, "bob").unwrap();
    assert_eq!(first["entity_id"], again["entity_id"]);
    assert_ne!(first["entity_id"], other["entity_id"]);
    let path = format!(
        "identity/entity/id/{}",
        first["entity_id"].as_str().unwrap()
    );
    let entity = trial.root(Read, &path, json!({})).unwrap();
    assert_eq!(entity["aliases"][0]["name"], json!("ada"));
    assert_eq!(entity["aliases"][0]["mount_type"], json!("userpass"));
    assert_eq!(entity["aliases"].as_array().unwrap().len(), 1);
}

// CVE-2025-5999, CVE-2025-54996, CVE-2024-9180: `ROOT` by way of an entity.
#[test]
fn no_spelling_of_root_comes_in_by_an_entity_or_a_group() {
    let mut trial = trial();
    let spellings = [
        "root",
        "ROOT",
        " Root ",
        "\u{ff52}oot",
        "ro\u{ff4f}t",
        "a,rOOt",
    ];
    for spelling in spellings {
        for path in ["identity/entity", "identity/group"] {
            let data = json!({ "name": "x", "policies": spelling });
            let refused = trial.root(Update, path, data).unwrap_err();
            assert_eq!(
                text(refused),
                "policies cannot contain root",
                "{spelling:?}"
            );
        }
    }
    trial.write(
        "identity/entity",
        json!({ "name": "x", "policies": "rooted" }),
    );
}

#[test]
fn tokens_of_a_disabled_or_deleted_entity_are_refused_and_so_are_its_logins() {
    let mut trial = trial();
    user(&mut trial, "ada");
    user(&mut trial, "bob");
    let auth = log_in(&mut trial, "ada").unwrap();
    let token = token_of(&auth);
    let makes = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    policy(
        &mut trial,
        "default",
        &format!("{}{makes}", crate::core::policy::builtin::DEFAULT),
    );
    let by_token = trial.token(As::Token(&token), json!({})).0;
    let bob = token_of(&log_in(&mut trial, "bob").unwrap());
    let path = format!("identity/entity/id/{}", auth["entity_id"].as_str().unwrap());
    trial.write(&path, json!({ "disabled": true }));
    for token in [&token, &by_token] {
        let refused = ask_as(&mut trial, token, "auth/token/lookup-self");
        assert!(
            matches!(refused, Err(Refusal::Unauthenticated)),
            "{refused:?}"
        );
    }
    assert!(log_in(&mut trial, "ada").is_err());
    assert!(trial.is_good(&bob), "who is not disabled is served");
    trial.write(&path, json!({ "disabled": false }));
    assert!(trial.is_good(&token) && trial.is_good(&by_token));
    trial.root(Delete, &path, json!({})).unwrap();
    assert!(!trial.is_good(&token) && !trial.is_good(&by_token));
    // A new login is a new entity.
    let again = log_in(&mut trial, "ada").unwrap();
    assert_ne!(again["entity_id"], auth["entity_id"]);
    assert!(trial.is_good(&token_of(&again)));
}

#[test]
fn a_child_belongs_to_its_parents_entity_and_an_orphan_to_none() {
    let mut trial = trial();
    user(&mut trial, "ada");
    policy(
        &mut trial,
        "maker",
        r#"path "auth/token/*" { capabilities = ["update", "read", "sudo"] }"#,
    );
    let entity = id(&trial.write(
        "identity/entity",
        json!({ "name": "ada", "policies": "maker" }),
    ));
    let accessor = accessor(&mut trial);
    let alias = json!({ "name": "Ada", "canonical_id": entity, "mount_accessor": accessor });
    trial.write("identity/entity-alias", alias);
    let auth = log_in(&mut trial, "ada").unwrap();
    assert_eq!(
        auth["entity_id"],
        json!(entity),
        "an alias that was made before is found"
    );
    let token = token_of(&auth);
    let mut made = |path: &str| {
        let made = trial.ask(As::Token(&token), Update, path, json!({}));
        made.unwrap().auth.unwrap()["entity_id"].clone()
    };
    assert_eq!(made("auth/token/create"), json!(entity));
    assert_eq!(made("auth/token/create-orphan"), json!(""));
}

#[test]
fn a_lookup_finds_by_each_criterion_and_says_nothing_where_nobody_is() {
    let mut trial = trial();
    let accessor = accessor(&mut trial);
    let entity = id(&trial.write("identity/entity", json!({ "name": "ada" })));
    let alias = json!({ "name": "ada", "canonical_id": entity, "mount_accessor": accessor });
    let alias = id(&trial.write("identity/entity-alias", alias));
    let group = json!({ "name": "admins", "type": "external" });
    let group = id(&trial.write("identity/group", group));
    let name = json!({ "name": "cn=admins", "canonical_id": group, "mount_accessor": accessor });
    let group_alias = id(&trial.write("identity/group-alias", name));
    let factors = |name: &str| json!({ "alias_name": name, "alias_mount_accessor": accessor });
    for (kind, wanted, criteria) in [
        ("entity", &entity, json!({ "id": entity })),
        ("entity", &entity, json!({ "name": "ADA" })),
        ("entity", &entity, json!({ "alias_id": alias })),
        ("entity", &entity, factors("Ada")),
        ("group", &group, json!({ "id": group })),
        ("group", &group, json!({ "name": "Admins" })),
        ("group", &group, json!({ "alias_id": group_alias })),
        ("group", &group, factors("CN=admins")),
    ] {
        let path = format!("identity/lookup/{kind}");
        let found = trial.write(&path, criteria.clone());
        assert_eq!(found["id"], json!(wanted), "{kind} {criteria}");
        let other = if kind == "entity" { "group" } else { "entity" };
        let path = format!("identity/lookup/{other}");
        assert_eq!(
            trial.write(&path, criteria.clone()),
            Value::Null,
            "{criteria}"
        );
    }
    let refused = trial.root(Update, "identity/lookup/entity", json!({}));
    assert_eq!(text(refused.unwrap_err()), "query parameters not supplied");
}

#[test]
fn templates_of_policies_stand_for_whoever_asks() {
    let mut trial = trial();
    user(&mut trial, "ada");
    user(&mut trial, "bob");
    let accessor = accessor(&mut trial);
    let rules = format!(
        r#"path "secret/data/{{{{identity.entity.aliases.{accessor}.name}}}}" {{
             capabilities = ["read"]
           }}
           path "secret/data/team/{{{{identity.entity.metadata.team}}}}" {{
             capabilities = ["read"]
           }}"#
    );
    policy(&mut trial, "own", &rules);
    for name in ["ada", "bob"] {
        trial.write(
            &format!("auth/userpass/users/{name}/policies"),
            json!({ "policies": "own" }),
        );
        trial.write(&format!("secret/data/{name}"), json!({ "data": {} }));
    }
    trial.write("secret/data/team/blue", json!({ "data": {} }));
    let ada = log_in(&mut trial, "ada").unwrap();
    let token = token_of(&ada);
    assert!(ask_as(&mut trial, &token, "secret/data/ada").is_ok());
    assert!(ask_as(&mut trial, &token, "secret/data/bob").is_err());
    assert!(ask_as(&mut trial, &token, "secret/data/team/blue").is_err());
    let path = format!("identity/entity/id/{}", ada["entity_id"].as_str().unwrap());
    trial.write(&path, json!({ "metadata": { "team": "blue" } }));
    assert!(ask_as(&mut trial, &token, "secret/data/team/blue").is_ok());
    // GHSA-59w7: what could widen the pattern grants nothing.
    for wide in ["*", "+", "blue/x", "b*"] {
        trial.write(&path, json!({ "metadata": { "team": wide } }));
        assert!(
            ask_as(&mut trial, &token, "secret/data/team/blue").is_err(),
            "{wide}"
        );
    }
}

#[test]
fn what_is_deleted_leaves_nothing_that_leads_to_it() {
    let mut trial = trial();
    let accessor = accessor(&mut trial);
    let before = trial.count(crate::core::tables::ENGINE);
    let entity = id(&trial.write("identity/entity", json!({ "name": "ada" })));
    let alias = json!({ "name": "ada", "canonical_id": entity, "mount_accessor": accessor });
    trial.write("identity/entity-alias", alias);
    let inner = json!({ "name": "inner", "member_entity_ids": [entity] });
    let inner = id(&trial.write("identity/group", inner));
    trial.write(
        "identity/group",
        json!({ "name": "outer", "member_group_ids": [inner] }),
    );
    let name = json!({ "name": "ext", "mount_accessor": accessor });
    let external = trial.write("identity/group-alias", name);
    for path in [
        "identity/entity/name/ada".to_owned(),
        "identity/group/name/outer".to_owned(),
        format!("identity/group/id/{inner}"),
        format!(
            "identity/group/id/{}",
            external["canonical_id"].as_str().unwrap()
        ),
    ] {
        trial.root(Delete, &path, json!({})).unwrap();
    }
    assert_eq!(trial.count(crate::core::tables::ENGINE), before);
    for kind in [
        "entity/id",
        "entity/name",
        "group/id",
        "entity-alias/id",
        "group-alias/id",
    ] {
        let listed = trial.root(List, &format!("identity/{kind}"), json!({}));
        assert!(matches!(listed, Err(Refusal::Absent)), "{kind}");
    }
}
