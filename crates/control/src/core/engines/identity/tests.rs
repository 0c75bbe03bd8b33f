use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::core::pipeline::Envelope;
use crate::core::request::Operation::{Delete, List, Read, Update};
use crate::core::trial::{As, Trial, text};

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

#[test]
fn policies_of_the_entity_and_of_its_groups_hold_at_once_for_tokens_that_are_out() {
    let mut trial = trial();
    user(&mut trial, "ada");
    let auth = log_in(&mut trial, "ada").unwrap();
    let token = token_of(&auth);
    trial.write("secret/data/a", json!({ "data": { "n": 1 } }));
    policy(
        &mut trial,
        "reader",
        r#"path "secret/data/a" { capabilities = ["read"] }"#,
    );
    assert!(ask_as(&mut trial, &token, "secret/data/a").is_err());
    let entity = auth["entity_id"].as_str().unwrap().to_owned();
    // By a group in a group.
    let inner = json!({ "name": "inner", "member_entity_ids": [entity] });
    let inner = id(&trial.write("identity/group", inner));
    let outer = json!({ "name": "outer", "member_group_ids": [inner], "policies": ["reader"] });
    trial.write("identity/group", outer);
    assert!(ask_as(&mut trial, &token, "secret/data/a").is_ok());
    let shown = ask_as(&mut trial, &token, "auth/token/lookup-self").unwrap();
    let shown = shown.data.unwrap();
    assert_eq!(shown["identity_policies"], json!(["reader"]));
    assert_eq!(shown["policies"], json!(["default"]));
    assert_eq!(shown["entity_id"], json!(entity));
    // The group lets the other go.
    let empty = json!({ "member_group_ids": [] });
    trial.write("identity/group/name/outer", empty);
    assert!(ask_as(&mut trial, &token, "secret/data/a").is_err());
    // By the entity itself.
    let own = json!({ "policies": "reader" });
    trial.write(&format!("identity/entity/id/{entity}"), own);
    assert!(ask_as(&mut trial, &token, "secret/data/a").is_ok());
    let login = log_in(&mut trial, "ada").unwrap();
    assert_eq!(login["identity_policies"], json!(["reader"]));
    assert_eq!(login["policies"], json!(["default", "reader"]));
    assert_eq!(login["token_policies"], json!(["default"]));
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
fn names_that_differ_by_case_or_unicode_form_alone_are_one_entity_and_one_group() {
    let mut trial = trial();
    for kind in ["entity", "group"] {
        let path = format!("identity/{kind}");
        let first = id(&trial.write(&path, json!({ "name": "Zo\u{eb}" })));
        for same in ["zoe\u{308}", "ZO\u{cb}", "\u{ff3a}o\u{eb}"] {
            let found = trial.root(Read, &format!("{path}/name/{same}"), json!({}));
            assert_eq!(id(&found.unwrap()), first, "{same:?}");
            let written = trial.root(Update, &path, json!({ "name": same }));
            assert_eq!(
                written.unwrap(),
                Value::Null,
                "it is the same, so it is updated"
            );
        }
        let other = id(&trial.write(&path, json!({ "name": "Zoe" })));
        assert_ne!(other, first);
        // What is shown is what was written first.
        let shown = trial
            .root(Read, &format!("{path}/id/{first}"), json!({}))
            .unwrap();
        assert_eq!(shown["name"], json!("Zo\u{eb}"));
        let taken = json!({ "name": "zo\u{cb}" });
        let refused = trial.root(Update, &format!("{path}/id/{other}"), taken);
        let refused = text(refused.unwrap_err());
        assert_eq!(refused, format!("{kind} name is already in use"));
        for wrong in [" zoe", "zoe ", "zo\u{7}e"] {
            let refused = trial.root(Update, &path, json!({ "name": wrong }));
            assert!(refused.is_err(), "{wrong:?}");
        }
    }
}

#[test]
fn groups_cannot_hold_each_other_in_a_circle() {
    let mut trial = trial();
    let mut make = |name: &str| id(&trial.write("identity/group", json!({ "name": name })));
    let (a, b, c) = (make("a"), make("b"), make("c"));
    let mut put = |group: &str, members: &[&String]| {
        let data = json!({ "member_group_ids": members });
        trial.root(Update, &format!("identity/group/name/{group}"), data)
    };
    put("a", &[&b]).unwrap();
    put("b", &[&c]).unwrap();
    for (group, member) in [("c", &a), ("b", &a), ("c", &b), ("a", &a)] {
        let refused = text(put(group, &[member]).unwrap_err());
        let wanted = format!("cyclic relationship detected for member group ID {member:?}");
        assert_eq!(refused, wanted, "{group}");
    }
    // Without the one in between it is no circle.
    put("a", &[]).unwrap();
    put("c", &[&a]).unwrap();
    let shown = trial
        .root(Read, "identity/group/name/c", json!({}))
        .unwrap();
    assert_eq!(shown["member_group_ids"], json!([a]));
    assert_eq!(shown["parent_group_ids"], json!([b]));
}

#[test]
fn an_entity_has_one_name_at_a_method_and_a_name_one_entity() {
    let mut trial = trial();
    let accessor = accessor(&mut trial);
    let one = id(&trial.write("identity/entity", json!({ "name": "one" })));
    let two = id(&trial.write("identity/entity", json!({ "name": "two" })));
    let mut put = |name: &str, entity: &str| {
        let data = json!({ "name": name, "canonical_id": entity, "mount_accessor": accessor });
        trial.root(Update, "identity/entity-alias", data)
    };
    let alias = put("ada", &one).unwrap();
    assert_eq!(alias["canonical_id"], json!(one));
    // CVE-2021-43998: the second name would let a deleted user's tokens live on as another's.
    let refused = text(put("bob", &one).unwrap_err());
    assert_eq!(
        refused,
        "Alias already exists for requested entity and mount accessor"
    );
    // Nothing changed, so nothing is said.
    assert_eq!(put("ADA", &one).unwrap(), Value::Null);
    // The name moves to the other entity.
    assert_eq!(put("ada", &two).unwrap()["canonical_id"], json!(two));
    let first = trial
        .root(Read, &format!("identity/entity/id/{one}"), json!({}))
        .unwrap();
    assert_eq!(first["aliases"], json!([]));
    let wrong = json!({ "name": "x", "mount_accessor": "auth_userpass_none" });
    let refused = trial
        .root(Update, "identity/entity-alias", wrong)
        .unwrap_err();
    assert_eq!(
        text(refused),
        "invalid mount accessor \"auth_userpass_none\""
    );
}

#[test]
fn merged_entities_are_one_and_their_tokens_go_on_as_its_own() {
    let mut trial = trial();
    trial.write("sys/auth/second", json!({ "type": "userpass" }));
    user(&mut trial, "ada");
    trial.write("auth/second/users/countess", json!({ "password": "right" }));
    policy(
        &mut trial,
        "reader",
        r#"path "secret/data/a" { capabilities = ["read"] }"#,
    );
    trial.write("secret/data/a", json!({ "data": {} }));
    let ada = log_in(&mut trial, "ada").unwrap();
    let login = trial.ask(
        As::Nobody,
        Update,
        "auth/second/login/countess",
        json!({ "password": "right" }),
    );
    let countess = login.unwrap().auth.unwrap();
    let (to, from) = (&ada["entity_id"], &countess["entity_id"]);
    let group = json!({ "name": "g", "policies": "reader", "member_entity_ids": [from] });
    trial.write("identity/group", group);
    let merge = json!({ "to_entity_id": to, "from_entity_ids": [from] });
    trial.write("identity/entity/merge", merge);
    for auth in [&ada, &countess] {
        let token = token_of(auth);
        assert!(ask_as(&mut trial, &token, "secret/data/a").is_ok());
    }
    let path = format!("identity/entity/id/{}", to.as_str().unwrap());
    let merged = trial.root(Read, &path, json!({})).unwrap();
    assert_eq!(merged["aliases"].as_array().unwrap().len(), 2);
    assert_eq!(merged["merged_entity_ids"], json!([from]));
    let old = format!("identity/entity/id/{}", from.as_str().unwrap());
    assert!(matches!(
        trial.root(Read, &old, json!({})),
        Err(Refusal::Absent)
    ));
    // Deleting by the old id deletes nobody.
    trial.root(Delete, &old, json!({})).unwrap();
    assert!(trial.is_good(&token_of(&ada)));
    trial.root(Delete, &path, json!({})).unwrap();
    assert!(!trial.is_good(&token_of(&ada)) && !trial.is_good(&token_of(&countess)));
}

#[test]
fn a_merge_of_two_names_at_one_method_says_which_clash_and_takes_the_one_to_keep() {
    let mut trial = trial();
    user(&mut trial, "ada");
    user(&mut trial, "bob");
    let ada = log_in(&mut trial, "ada").unwrap()["entity_id"].clone();
    let bob = log_in(&mut trial, "bob").unwrap()["entity_id"].clone();
    let data = json!({ "to_entity_id": ada, "from_entity_ids": [bob] });
    let refused = text(
        trial
            .root(Update, "identity/entity/merge", data.clone())
            .unwrap_err(),
    );
    assert!(
        refused.contains("aliases with the same mount accessor"),
        "{refused}"
    );
    let found = json!({ "id": bob });
    let entity = trial.write("identity/lookup/entity", found);
    let mut data = data;
    data["conflicting_alias_ids_to_keep"] = json!([entity["aliases"][0]["id"]]);
    trial.write("identity/entity/merge", data);
    let merged = trial.write("identity/lookup/entity", json!({ "id": ada }));
    assert_eq!(merged["aliases"].as_array().unwrap().len(), 1);
    assert_eq!(merged["aliases"][0]["name"], json!("bob"));
    assert_eq!(log_in(&mut trial, "bob").unwrap()["entity_id"], ada);
    // Whose name was given up is somebody new.
    assert_ne!(log_in(&mut trial, "ada").unwrap()["entity_id"], ada);
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
fn who_is_in_an_external_group_is_what_the_method_said_at_the_last_login() {
    let mut trial = trial();
    let accessor = accessor(&mut trial);
    let mount = trial.root(Read, "sys/auth/userpass", json!({})).unwrap();
    assert_eq!(mount["accessor"], json!(accessor));
    for name in ["admins", "staff"] {
        let group = json!({ "name": name, "type": "external", "policies": name });
        let group = id(&trial.write("identity/group", group));
        let alias = json!({ "name": name, "canonical_id": group, "mount_accessor": accessor });
        trial.write("identity/group-alias", alias);
    }
    let mut told = |groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|&it| it.to_owned()).collect();
        trial.within("identity/", |ctx| {
            let mounts = ctx.draft.mounts()?;
            let alias = crate::core::identity::Alias {
                name: "ada".to_owned(),
                metadata: BTreeMap::new(),
            };
            let login = Persona {
                mount: mounts.at("auth/userpass/").unwrap(),
                alias: &alias,
                groups: &groups,
            };
            let facts = Identity.entity_of(ctx, &login)?.unwrap();
            Ok(facts.policies.clone())
        })
    };
    assert_eq!(told(&["Admins", "strangers"]).unwrap(), ["admins"]);
    assert_eq!(told(&["staff", "admins"]).unwrap(), ["admins", "staff"]);
    assert_eq!(told(&["staff"]).unwrap(), ["staff"]);
    assert_eq!(told(&[]).unwrap(), [""; 0]);
    let by_hand = json!({ "member_entity_ids": [] });
    let refused = trial.root(Update, "identity/group/name/staff", by_hand);
    let refused = text(refused.unwrap_err());
    assert_eq!(
        refused,
        "member entities can't be set manually for external groups"
    );
    let retyped = json!({ "type": "internal" });
    let refused = trial.root(Update, "identity/group/name/staff", retyped);
    assert_eq!(text(refused.unwrap_err()), "group type cannot be changed");
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

/// What the register should say, in the simplest way.
#[derive(Default)]
struct Model {
    /// Group -> entities in it.
    entities: BTreeMap<usize, Vec<usize>>,
    /// Group -> groups in it.
    members: BTreeMap<usize, Vec<usize>>,
}

impl Model {
    fn holds(&self, group: usize, sought: usize) -> bool {
        let members = self.members.get(&group);
        members.is_some_and(|members| {
            members
                .iter()
                .any(|member| *member == sought || self.holds(*member, sought))
        })
    }

    fn policies(&self, entity: usize, groups: usize) -> Vec<String> {
        let is_in = |group: usize| {
            let direct = |group: &usize| {
                self.entities
                    .get(group)
                    .is_some_and(|entities| entities.contains(&entity))
            };
            direct(&group) || (0..groups).any(|inner| direct(&inner) && self.holds(group, inner))
        };
        let mut names: Vec<_> = (0..groups)
            .filter(|group| is_in(*group))
            .map(|group| format!("p{group}"))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn whatever_is_put_into_whatever_the_policies_are_those_of_a_simple_model() {
    const GROUPS: usize = 7;
    const ENTITIES: usize = 4;
    for seed in 0..3_u8 {
        let mut trial = trial();
        let seed = bastide_api::Secret::new([seed; 32]);
        let mut entropy = crate::core::entropy::Entropy::new(&seed);
        let mut model = Model::default();
        let make = |trial: &mut Trial, kind: &str, n: usize| {
            let data = json!({ "name": format!("{kind}{n}") });
            id(&trial.write(&format!("identity/{kind}"), data))
        };
        let entities: Vec<_> = (0..ENTITIES)
            .map(|n| make(&mut trial, "entity", n))
            .collect();
        let groups: Vec<_> = (0..GROUPS).map(|n| make(&mut trial, "group", n)).collect();
        for (n, group) in groups.iter().enumerate() {
            let policies = json!({ "policies": format!("p{n}") });
            trial.write(&format!("identity/group/id/{group}"), policies);
        }
        for _ in 0..25 {
            let [group, what, one, two] = entropy.bytes::<4>().map(usize::from);
            let group = group % GROUPS;
            let path = format!("identity/group/id/{}", groups[group]);
            if what % 3 == 0 {
                let wanted = vec![one % ENTITIES, two % ENTITIES];
                let ids: Vec<_> = wanted.iter().map(|n| &entities[*n]).collect();
                trial.write(&path, json!({ "member_entity_ids": ids }));
                model.entities.insert(group, wanted);
            } else {
                let wanted = vec![one % GROUPS, two % GROUPS];
                let ids: Vec<_> = wanted.iter().map(|n| &groups[*n]).collect();
                let done = trial.root(Update, &path, json!({ "member_group_ids": ids }));
                // What is in it already may stay; a circle comes of what is added.
                let circle = wanted
                    .iter()
                    .any(|member| *member == group || model.holds(*member, group));
                assert_eq!(done.is_err(), circle);
                if !circle {
                    model.members.insert(group, wanted);
                }
            }
            for (n, entity) in entities.iter().enumerate() {
                let found = trial.within("identity/", |ctx| Identity.entity(ctx, entity));
                let found = found.unwrap().unwrap();
                assert_eq!(found.policies, model.policies(n, GROUPS));
            }
        }
    }
}

#[test]
fn no_policy_that_denies_is_lost_among_too_many() {
    let mut trial = trial();
    user(&mut trial, "ada");
    let auth = log_in(&mut trial, "ada").unwrap();
    let token = token_of(&auth);
    policy(
        &mut trial,
        "zz-deny",
        r#"path "secret/data/a" { capabilities = ["deny"] }"#,
    );
    policy(
        &mut trial,
        "aa-read",
        r#"path "secret/data/a" { capabilities = ["read"] }"#,
    );
    trial.write("secret/data/a", json!({ "data": {} }));
    let member = json!([auth["entity_id"]]);
    let group = |trial: &mut Trial, name: &str, policies: &[String]| {
        let data = json!({ "name": name, "policies": policies, "member_entity_ids": member });
        trial.write("identity/group", data);
    };
    group(&mut trial, "readers", &["aa-read".to_owned()]);
    assert!(ask_as(&mut trial, &token, "secret/data/a").is_ok());
    for half in 0..2 {
        let many: Vec<String> = (0..128).map(|n| format!("m{half}-{n}")).collect();
        group(&mut trial, &format!("many {half}"), &many);
    }
    group(&mut trial, "denied", &["zz-deny".to_owned()]);
    let refused = text(ask_as(&mut trial, &token, "secret/data/a").unwrap_err());
    assert!(refused.starts_with("more than 256 policies"), "{refused}");
}

// CVE-2021-41802 and its like: who is told apart by the method is told apart here.
#[test]
fn names_that_a_method_tells_apart_by_case_are_two_entities() {
    let mut trial = trial();
    let mut who = |name: &str| {
        trial.within("identity/", |ctx| {
            let mounts = ctx.draft.mounts()?;
            let alias = crate::core::identity::Alias {
                name: name.to_owned(),
                metadata: BTreeMap::new(),
            };
            let mut mount = mounts.at("auth/userpass/").unwrap().as_ref().clone();
            mount.kind = "ldap".to_owned();
            let login = Persona {
                mount: &mount,
                alias: &alias,
                groups: &[],
            };
            Ok(Identity.entity_of(ctx, &login)?.unwrap().id.clone())
        })
    };
    let (one, other) = (who("Ada").unwrap(), who("ada").unwrap());
    assert_ne!(one, other);
    assert_eq!(who("Ada").unwrap(), one);
}
