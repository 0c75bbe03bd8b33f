use serde_json::json;

use super::*;
use crate::core::pipeline::Shape;
use crate::core::request::Operation::{Delete, List, Patch, Read, Update};
use crate::core::trial::{As, Trial, text};

fn read(trial: &mut Trial, path: &str, version: u64) -> Result<(Shape, Value), Refusal> {
    let data = json!({ "version": version });
    let envelope = trial.ask(As::Root, Read, path, data)?;
    Ok((envelope.shape, Value::Object(envelope.data.unwrap())))
}

fn put(trial: &mut Trial, n: u64) -> Value {
    trial.write("secret/data/a/b", json!({ "data": { "n": n } }))
}

#[test]
fn each_write_is_a_version_that_can_be_read_again() {
    let mut trial = Trial::new();
    assert_eq!(put(&mut trial, 1)["version"], json!(1));
    assert_eq!(put(&mut trial, 2)["version"], json!(2));
    let (_, newest) = read(&mut trial, "secret/data/a/b", 0).unwrap();
    assert_eq!(newest["data"], json!({ "n": 2 }));
    assert_eq!(newest["metadata"]["deletion_time"], json!(""));
    assert_eq!(newest["metadata"]["custom_metadata"], json!(null));
    let (_, first) = read(&mut trial, "secret/data/a/b", 1).unwrap();
    assert_eq!(first["data"], json!({ "n": 1 }));
    assert!(matches!(
        read(&mut trial, "secret/data/a/b", 3),
        Err(Refusal::Absent)
    ));
    assert!(matches!(
        read(&mut trial, "secret/data/a", 0),
        Err(Refusal::Absent)
    ));
}

#[test]
fn check_and_set_writes_only_on_what_it_saw() {
    let mut trial = Trial::new();
    let mut write = |cas: Option<u64>| {
        let data = json!({ "data": {}, "options": { "cas": cas } });
        trial.root(Update, "secret/data/x", data).map_err(text)
    };
    let mismatch = Err("check-and-set parameter did not match the current version".to_owned());
    assert_eq!(write(Some(1)), mismatch);
    assert!(write(Some(0)).is_ok());
    assert_eq!(write(Some(0)), mismatch);
    assert!(write(Some(1)).is_ok());
    assert!(write(None).is_ok());
    trial.write("secret/config", json!({ "cas_required": true }));
    let refused = trial
        .root(Update, "secret/data/x", json!({ "data": {} }))
        .unwrap_err();
    assert_eq!(
        text(refused),
        "check-and-set parameter required for this call"
    );
}

#[test]
fn a_deleted_version_is_absent_with_metadata_and_comes_back() {
    let mut trial = Trial::new();
    put(&mut trial, 1);
    trial.root(Delete, "secret/data/a/b", json!({})).unwrap();
    let (shape, shown) = read(&mut trial, "secret/data/a/b", 0).unwrap();
    assert_eq!((shape, &shown["data"]), (Shape::Absent, &json!(null)));
    assert_ne!(shown["metadata"]["deletion_time"], json!(""));
    trial.write("secret/undelete/a/b", json!({ "versions": [1] }));
    assert_eq!(
        read(&mut trial, "secret/data/a/b", 0).unwrap().1["data"],
        json!({ "n": 1 })
    );
    trial.write("secret/delete/a/b", json!({ "versions": "1" }));
    assert_eq!(
        read(&mut trial, "secret/data/a/b", 1).unwrap().0,
        Shape::Absent
    );
}

#[test]
fn a_destroyed_version_never_comes_back_and_its_data_is_gone() {
    let mut trial = Trial::new();
    put(&mut trial, 1);
    let rows = trial.count(crate::core::tables::ENGINE);
    trial.write("secret/destroy/a/b", json!({ "versions": [1] }));
    assert_eq!(trial.count(crate::core::tables::ENGINE), rows - 1);
    trial.write("secret/undelete/a/b", json!({ "versions": [1] }));
    let (shape, shown) = read(&mut trial, "secret/data/a/b", 1).unwrap();
    assert_eq!(
        (shape, &shown["metadata"]["destroyed"]),
        (Shape::Absent, &json!(true))
    );
    let refused = trial
        .root(Update, "secret/destroy/a/b", json!({}))
        .unwrap_err();
    assert_eq!(text(refused), "No version number provided");
}

#[test]
fn a_patch_merges_and_null_deletes() {
    let mut trial = Trial::new();
    trial.write(
        "secret/data/x",
        json!({ "data": { "a": 1, "b": { "c": 2, "d": 3 } } }),
    );
    let change = json!({ "data": { "a": null, "b": { "c": 9 }, "e": [1] } });
    trial.root(Patch, "secret/data/x", change).unwrap();
    let (_, shown) = read(&mut trial, "secret/data/x", 0).unwrap();
    assert_eq!(shown["data"], json!({ "b": { "c": 9, "d": 3 }, "e": [1] }));
    let absent = trial.root(Patch, "secret/data/none", json!({ "data": {} }));
    assert!(matches!(absent, Err(Refusal::Absent)));
}

#[test]
fn old_versions_go_beyond_the_number_to_keep() {
    let mut trial = Trial::new();
    for n in 1..=12 {
        put(&mut trial, n);
        let meta = trial.root(Read, "secret/metadata/a/b", json!({})).unwrap();
        let oldest = n.saturating_sub(9);
        assert_eq!(meta["oldest_version"], json!(oldest), "after {n}");
    }
    let meta = trial.root(Read, "secret/metadata/a/b", json!({})).unwrap();
    assert_eq!(meta["versions"].as_object().unwrap().len(), 10);
    assert_eq!(
        (&meta["oldest_version"], &meta["current_version"]),
        (&json!(3), &json!(12))
    );
    trial.write("secret/metadata/a/b", json!({ "max_versions": 2 }));
    put(&mut trial, 13);
    let meta = trial.root(Read, "secret/metadata/a/b", json!({})).unwrap();
    assert_eq!(meta["versions"].as_object().unwrap().len(), 2);
    assert!(matches!(
        read(&mut trial, "secret/data/a/b", 11),
        Err(Refusal::Absent)
    ));
}

#[test]
fn versions_end_by_themselves_where_a_delay_is_set() {
    let mut trial = Trial::new();
    trial.write(
        "secret/metadata/a/b",
        json!({ "delete_version_after": "10s" }),
    );
    put(&mut trial, 1);
    trial.pass(9);
    assert_eq!(
        read(&mut trial, "secret/data/a/b", 0).unwrap().0,
        Shape::Plain
    );
    trial.pass(1);
    assert_eq!(
        read(&mut trial, "secret/data/a/b", 0).unwrap().0,
        Shape::Absent
    );
}

#[test]
fn a_delay_next_to_nothing_is_not_never() {
    let mut trial = Trial::new();
    let delay = json!({ "delete_version_after": "10us" });
    trial.write("secret/metadata/a/b", delay);
    put(&mut trial, 1);
    trial.pass(1);
    let found = read(&mut trial, "secret/data/a/b", 0).unwrap();
    assert_eq!(found.0, Shape::Absent);
}

#[test]
fn metadata_is_listed_patched_and_removed_with_all_versions() {
    let mut trial = Trial::new();
    put(&mut trial, 1);
    trial.write("secret/data/a", json!({ "data": {} }));
    trial.write(
        "secret/metadata/only",
        json!({ "custom_metadata": { "k": "v" } }),
    );
    let list = |path: &str, trial: &mut Trial| trial.root(List, path, json!({}));
    assert_eq!(
        list("secret/metadata", &mut trial).unwrap()["keys"],
        json!(["a", "a/", "only"])
    );
    assert_eq!(
        list("secret/metadata/a", &mut trial).unwrap()["keys"],
        json!(["b"])
    );
    let change = json!({ "custom_metadata": { "k": null, "l": "w" } });
    trial.root(Patch, "secret/metadata/only", change).unwrap();
    let meta = trial.root(Read, "secret/metadata/only", json!({})).unwrap();
    assert_eq!(meta["custom_metadata"], json!({ "l": "w" }));
    let wide = json!({ "custom_metadata": { "k": "v".repeat(513) } });
    assert!(trial.root(Update, "secret/metadata/only", wide).is_err());
    trial
        .root(Delete, "secret/metadata/a/b", json!({}))
        .unwrap();
    assert!(matches!(
        list("secret/metadata/a", &mut trial),
        Err(Refusal::Absent)
    ));
    assert!(matches!(
        read(&mut trial, "secret/data/a/b", 1),
        Err(Refusal::Absent)
    ));
}

#[test]
fn subkeys_show_names_without_values() {
    let mut trial = Trial::new();
    trial.write(
        "secret/data/x",
        json!({ "data": { "a": "CANARY", "b": { "c": { "d": 1 } } } }),
    );
    let all = trial.root(Read, "secret/subkeys/x", json!({})).unwrap();
    assert_eq!(
        all["subkeys"],
        json!({ "a": null, "b": { "c": { "d": null } } })
    );
    let top = trial
        .root(Read, "secret/subkeys/x", json!({ "depth": 1 }))
        .unwrap();
    assert_eq!(top["subkeys"], json!({ "a": null, "b": null }));
}

#[test]
fn names_are_the_bytes_that_they_are() {
    // Names that differ by case, by spaces, or by the form of an accent, are names of two keys: none
    // is folded, so that a policy for one never opens the other. (Vault folded policy names and user
    // names in some places only: CVE-2025-5999, CVE-2025-6004.)
    let mut trial = Trial::new();
    let names = [
        "caf\u{e9}",
        "cafe\u{301}",
        "Caf\u{e9}",
        "a b",
        "a  b",
        "a b\u{a0}",
    ];
    for (n, name) in names.iter().enumerate() {
        let data = json!({ "data": { "n": n } });
        trial.write(&format!("secret/data/{name}"), data);
    }
    for (n, name) in names.iter().enumerate() {
        let (_, read) = read(&mut trial, &format!("secret/data/{name}"), 0).unwrap();
        assert_eq!(read["data"], json!({ "n": n }), "{name:?}");
    }
    let listed = trial.root(List, "secret/metadata", json!({})).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), names.len());
    let policy = "path \"secret/data/caf\u{e9}\" { capabilities = [\"read\"] }";
    trial.write("sys/policy/cafe", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["cafe"] }));
    let mut may = |name: &str| {
        let path = format!("secret/data/{name}");
        trial.ask(As::Token(&token), Read, &path, json!({})).is_ok()
    };
    assert!(may("caf\u{e9}"));
    assert!(!may("cafe\u{301}") && !may("Caf\u{e9}") && !may("caf\u{e9} "));
}

#[test]
fn names_that_are_no_text_or_too_long_are_refused_before_anything_is_stored() {
    // CVE-2021-45042: a key that was no UTF-8 took the storage down.
    use crate::core::path::{ApiPath, PATH_BYTES_MAX};
    let long = "a".repeat(PATH_BYTES_MAX);
    for name in ["%ff", "%c3%28", "%00", "a%0ab", "..", "a//b", &long] {
        let path = format!("secret/data/{name}");
        assert!(ApiPath::decode(&path).is_err(), "{name}");
    }
    assert!(ApiPath::decode("secret/data/caf%C3%A9%20b").is_ok());
}

#[test]
fn a_path_with_a_slash_at_its_end_is_no_key() {
    let mut trial = Trial::new();
    put(&mut trial, 1);
    for operation in [Read, Delete, Patch] {
        let asked = trial.ask(As::Root, operation, "secret/data/a/b/", json!({}));
        match asked {
            Ok(envelope) => {
                assert_eq!(envelope.shape, Shape::Absent);
                let warning = &envelope.warnings[0];
                assert!(
                    warning.starts_with("Invalid path for a versioned K/V"),
                    "{warning}"
                );
            }
            Err(refusal) => {
                assert_eq!(text(refusal), "cannot write to a path ending in '/'");
            }
        }
    }
    let (shape, _) = read(&mut trial, "secret/data/a/b", 0).unwrap();
    assert_eq!(shape, Shape::Plain);
    let listed = trial.root(List, "secret/metadata/a/", json!({})).unwrap();
    assert_eq!(listed, json!({ "keys": ["b"] }));
    let leaf = trial.root(List, "secret/metadata/a/b", json!({}));
    assert!(matches!(leaf, Err(Refusal::Absent)));
}

#[test]
fn what_is_not_there_is_undeleted_and_destroyed_without_a_word() {
    let mut trial = Trial::new();
    for path in ["secret/delete/x", "secret/undelete/x", "secret/destroy/x"] {
        let done = trial.ask(As::Root, Update, path, json!({ "versions": [1] }));
        assert!(done.unwrap().data.is_none());
    }
    let absent = trial.root(Read, "secret/metadata/x", json!({}));
    assert!(matches!(absent, Err(Refusal::Absent)));
}

#[test]
fn a_patch_of_a_deleted_version_answers_as_a_write_does() {
    let mut trial = Trial::new();
    let absent = trial.root(Patch, "secret/data/a/b", json!({ "data": {} }));
    assert!(matches!(absent, Err(Refusal::Absent)));
    put(&mut trial, 1);
    trial.root(Delete, "secret/data/a/b", json!({})).unwrap();
    let data = json!({ "data": { "m": 2 } });
    let asked = trial.ask(As::Root, Patch, "secret/data/a/b", data).unwrap();
    assert_eq!(asked.shape, Shape::Absent);
    assert_eq!(asked.data.unwrap()["version"], json!(1));
    // Check-and-set comes first.
    let data = json!({ "data": {}, "options": { "cas": 7 } });
    let refused = trial.root(Patch, "secret/data/a/b", data).unwrap_err();
    assert_eq!(
        text(refused),
        "check-and-set parameter did not match the current version"
    );
    let data = json!({ "data": {}, "options": { "cas": "x" } });
    let refused = trial.root(Update, "secret/data/a/b", data).unwrap_err();
    assert_eq!(text(refused), "error parsing check-and-set parameter");
}

#[test]
fn a_mount_that_never_deletes_keeps_what_its_keys_would_delete() {
    let mut trial = Trial::new();
    let deletion = |trial: &mut Trial| put(trial, 1)["deletion_time"].clone();
    let settings = json!({ "delete_version_after": "1h" });
    trial.write("secret/metadata/a/b", settings);
    assert_ne!(deletion(&mut trial), json!(""));
    trial.write("secret/config", json!({ "delete_version_after": "-1s" }));
    assert_eq!(deletion(&mut trial), json!(""));
    let config = trial.root(Read, "secret/config", json!({})).unwrap();
    assert_eq!(config["delete_version_after"], json!("-1s"));
    trial.write("secret/config", json!({ "delete_version_after": 60 }));
    assert_ne!(deletion(&mut trial), json!(""));
    trial.pass(61);
    let (shape, _) = read(&mut trial, "secret/data/a/b", 0).unwrap();
    assert_eq!(shape, Shape::Absent);
    let data = json!({ "delete_version_after": "-5s" });
    let refused = trial.root(Update, "secret/metadata/a/b", data).unwrap_err();
    assert_eq!(
        text(refused),
        "cannot provide negative value for delete_version_after"
    );
}

#[test]
fn a_key_is_told_that_its_mount_wants_check_and_set_anyway() {
    let mut trial = Trial::new();
    trial.write("secret/config", json!({ "cas_required": true }));
    let data = json!({ "cas_required": false });
    let told = trial
        .ask(As::Root, Update, "secret/metadata/x", data)
        .unwrap();
    assert_eq!(told.warnings.len(), 1);
    assert!(told.warnings[0].starts_with("\"cas_required\" set to false, but is mandated"));
}

#[test]
fn custom_metadata_that_is_too_much_is_refused_by_what_is_too_much() {
    let mut trial = Trial::new();
    let many: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!("x"))).collect();
    let long = "v".repeat(513);
    for (custom, why) in [
        (
            json!(many),
            "payload must contain at most 64 keys, provided 65",
        ),
        (
            json!({ "": "x" }),
            "length of key \"\" is 0 but must be 0 < len(key) <= 128",
        ),
        (
            json!({ "k": long }),
            "length of value for key \"k\" is 513 but must be 0 < len(value) <= 512",
        ),
        (
            json!({ "k": "a\u{7}" }),
            "value for key \"k\" contains unprintable characters",
        ),
    ] {
        let data = json!({ "custom_metadata": custom });
        let refused = trial.root(Update, "secret/metadata/x", data).unwrap_err();
        assert_eq!(
            text(refused),
            format!("custom_metadata validation failed: {why}")
        );
    }
}

#[test]
fn the_first_version_of_the_store_becomes_the_second_with_its_data() {
    let mut trial = Trial::new();
    let data = json!({ "type": "kv", "options": { "version": "1" } });
    trial.write("sys/mounts/old", data);
    // One that would be another key's row, had the two versions one storage.
    let names = ["a", "b/c", "meta/a", "config", "b/\u{e9} f"];
    for name in names {
        trial.write(&format!("old/{name}"), json!({ "name": name }));
    }
    let tune = json!({ "options": { "version": "2" } });
    trial.write("sys/mounts/old/tune", tune.clone());
    for name in names {
        let (_, read) = read(&mut trial, &format!("old/data/{name}"), 0).unwrap();
        assert_eq!(read["data"], json!({ "name": name }));
        assert_eq!(read["metadata"]["version"], json!(1));
    }
    let put = json!({ "data": {}, "options": { "cas": 1 } });
    assert_eq!(trial.write("old/data/a", put)["version"], json!(2));
    // Again it changes nothing; back it does not go.
    trial.write("sys/mounts/old/tune", tune);
    let tune = json!({ "options": { "version": "1" } });
    let refused = trial.root(Update, "sys/mounts/old/tune", tune).unwrap_err();
    assert!(text(refused).starts_with("cannot downgrade mount from version 2"));
}

#[test]
fn a_large_store_is_taken_over_in_pieces_and_serves_nothing_meanwhile() {
    let mut trial = Trial::new();
    let data = json!({ "type": "kv", "options": { "version": "1" } });
    trial.write("sys/mounts/old", data);
    for n in 0..600 {
        trial.write(&format!("old/k{n:03}"), json!({ "n": n }));
    }
    trial.write(
        "sys/mounts/old/tune",
        json!({ "options": { "version": "2" } }),
    );
    for (operation, path) in [(Read, "old/data/k599"), (List, "old/metadata")] {
        let refused = trial.root(operation, path, json!({})).unwrap_err();
        assert_eq!(text(refused), upgrade::UNDER_WAY);
    }
    trial.tend();
    for n in [0, 299, 599] {
        let (_, read) = read(&mut trial, &format!("old/data/k{n:03}"), 0).unwrap();
        assert_eq!(read["data"], json!({ "n": n }));
    }
    let listed = trial.root(List, "old/metadata", json!({})).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 600);
    // Nothing is left behind, also of a mount that is removed half way.
    trial.root(Delete, "sys/mounts/old", json!({})).unwrap();
    trial.tend();
    let before = trial.count(crate::core::tables::ENGINE);
    let data = json!({ "type": "kv", "options": { "version": "1" } });
    trial.write("sys/mounts/half", data);
    for n in 0..300 {
        trial.write(&format!("half/k{n:03}"), json!({ "n": n }));
    }
    trial.write(
        "sys/mounts/half/tune",
        json!({ "options": { "version": "2" } }),
    );
    trial.root(Delete, "sys/mounts/half", json!({})).unwrap();
    trial.tend();
    assert_eq!(trial.count(crate::core::tables::ENGINE), before);
}
