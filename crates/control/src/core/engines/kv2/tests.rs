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
