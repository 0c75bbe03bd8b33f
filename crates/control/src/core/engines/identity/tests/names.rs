//! Names and aliases: which are one, which are two, and what becomes of two that are made one.

use std::collections::BTreeMap;

use super::*;

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

#[test]
fn a_merge_lets_nobody_in_who_is_disabled() {
    let mut trial = trial();
    trial.write("sys/auth/second", json!({ "type": "userpass" }));
    user(&mut trial, "ada");
    trial.write("auth/second/users/mallory", json!({ "password": "right" }));
    let ada = log_in(&mut trial, "ada").unwrap();
    let login = |trial: &mut Trial| {
        let path = "auth/second/login/mallory";
        trial.ask(As::Nobody, Update, path, json!({ "password": "right" }))
    };
    let mallory = login(&mut trial).unwrap().auth.unwrap();
    let disable = |trial: &mut Trial, auth: &Value, disabled: bool| {
        let path = format!("identity/entity/id/{}", auth["entity_id"].as_str().unwrap());
        trial.write(&path, json!({ "disabled": disabled }));
    };
    disable(&mut trial, &mallory, true);
    let merge = json!({
        "to_entity_id": ada["entity_id"], "from_entity_ids": [mallory["entity_id"]],
    });
    let path = "identity/entity/merge";
    let refused = trial.root(Update, path, merge.clone()).unwrap_err();
    assert!(text(refused).contains("is disabled"));
    assert!(!trial.is_good(&token_of(&mallory)) && login(&mut trial).is_err());
    disable(&mut trial, &ada, true);
    trial.write(path, merge);
    assert!(!trial.is_good(&token_of(&mallory)) && login(&mut trial).is_err());
    disable(&mut trial, &ada, false);
    assert!(login(&mut trial).is_ok(), "the control");
}
