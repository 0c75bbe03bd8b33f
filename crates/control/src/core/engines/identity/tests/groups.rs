//! Groups: who is in which, and what that grants.

use std::collections::BTreeMap;

use super::*;

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

#[test]
fn who_was_in_a_group_by_one_name_is_not_in_it_by_another() {
    let mut trial = trial();
    trial.write("sys/auth/other", json!({ "type": "userpass" }));
    let here = accessor(&mut trial);
    let there = trial.root(Read, "sys/auth/other", json!({})).unwrap();
    let there = there["accessor"].as_str().unwrap().to_owned();
    let group = json!({ "name": "admins", "type": "external", "policies": "all" });
    let group = id(&trial.write("identity/group", group));
    let named = |trial: &mut Trial, name: &str, accessor: &str| {
        let alias = json!({ "name": name, "canonical_id": group, "mount_accessor": accessor });
        trial.write("identity/group-alias", alias);
    };
    let members = |trial: &mut Trial| {
        let path = format!("identity/group/id/{group}");
        let shown = trial.root(Read, &path, json!({})).unwrap();
        shown["member_entity_ids"].as_array().map_or(0, Vec::len)
    };
    for (name, at) in [("admins", there.as_str()), ("others", here.as_str())] {
        named(&mut trial, "admins", &here);
        trial
            .within("identity/", |ctx| {
                let mounts = ctx.draft.mounts()?;
                let alias = crate::core::identity::Alias {
                    name: "ada".to_owned(),
                    metadata: BTreeMap::new(),
                };
                let login = Persona {
                    mount: mounts.at("auth/userpass/").unwrap(),
                    alias: &alias,
                    groups: &["admins".to_owned()],
                };
                Identity.entity_of(ctx, &login)
            })
            .unwrap();
        assert_eq!(members(&mut trial), 1, "the control");
        // The group's name moves to another method, or is another one: nobody there has said who is.
        named(&mut trial, name, at);
        assert_eq!(members(&mut trial), 0, "{name}");
    }
}
