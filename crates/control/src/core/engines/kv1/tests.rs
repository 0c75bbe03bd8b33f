use serde_json::json;

use super::*;
use crate::core::request::Operation::{Delete, List, Patch, Read, Update};
use crate::core::trial::{As, Trial, text};

fn trial() -> Trial {
    let mut trial = Trial::new();
    let data = json!({ "type": "kv", "options": { "version": 1 } });
    trial.write("sys/mounts/one", data);
    trial
}

#[test]
fn what_is_written_is_read_listed_and_deleted() {
    let mut trial = trial();
    trial.write("one/a/b", json!({ "x": 1, "y": { "z": [true, null] } }));
    trial.write("one/a", json!({ "x": 2 }));
    let read = trial.root(Read, "one/a/b", json!({})).unwrap();
    assert_eq!(read, json!({ "x": 1, "y": { "z": [true, null] } }));
    let listed = trial.root(List, "one", json!({})).unwrap();
    assert_eq!(listed, json!({ "keys": ["a", "a/"] }));
    let listed = trial.root(List, "one/a", json!({})).unwrap();
    assert_eq!(listed, json!({ "keys": ["b"] }));
    trial.root(Delete, "one/a/b", json!({})).unwrap();
    trial.root(Delete, "one/a/b", json!({})).unwrap();
    for (operation, path) in [(Read, "one/a/b"), (List, "one/a"), (Read, "one/a/")] {
        let absent = trial.root(operation, path, json!({}));
        assert!(matches!(absent, Err(Refusal::Absent)), "{path}");
    }
    let patched = trial.root(Patch, "one/a", json!({ "x": 3 }));
    assert!(matches!(patched, Err(Refusal::UnsupportedOperation)));
    let nothing = trial.root(Update, "one/a", json!({})).unwrap_err();
    assert_eq!(text(nothing), "missing data fields");
}

#[test]
fn a_value_says_when_to_read_it_again_and_is_no_lease() {
    let mut trial = trial();
    for (value, secs) in [
        (json!({ "x": 1 }), 2_764_800),
        (json!({ "ttl": "1h" }), 3600),
        (json!({ "lease": "30s" }), 30),
        (json!({ "ttl": 90 }), 90),
        (json!({ "ttl": "some day" }), 2_764_800),
    ] {
        trial.write("one/a", value);
        let read = trial.ask(As::Root, Read, "one/a", json!({})).unwrap();
        assert_eq!(read.lease_duration, secs);
        assert!(read.lease_id.is_empty() && !read.renewable);
    }
}
