use serde_json::{Value, json};

use crate::core::audit::{Hasher, Recorder, devices};
use crate::core::draft::Draft;
use crate::core::entropy::Entropy;
use crate::core::refusal::Refusal;
use crate::core::request::Operation::{Delete, List, Read, Update};
use crate::core::trial::{As, Trial};

fn file(path: &str) -> Value {
    json!({ "type": "file", "options": { "path": path } })
}

fn why(refused: Result<Value, Refusal>) -> String {
    match refused {
        Err(Refusal::Invalid(text)) => text,
        other => panic!("it was answered {other:?}"),
    }
}

#[test]
fn a_device_is_enabled_listed_asked_for_hashes_and_disabled() {
    let mut trial = Trial::new();
    trial.write("sys/audit/test-tempfile", file("/tmp/a.log"));
    let listed = trial.root(Read, "sys/audit", json!({})).unwrap();
    let told = &listed["test-tempfile/"];
    assert_eq!(told["type"], json!("file"));
    assert_eq!(told["options"]["path"], json!("/tmp/a.log"));
    assert_eq!(told["path"], json!("test-tempfile/"));
    let hash = |trial: &mut Trial, name: &str| {
        trial.root(
            Update,
            &format!("sys/audit-hash/{name}"),
            json!({ "input": "x" }),
        )
    };
    let first = hash(&mut trial, "test-tempfile").unwrap();
    assert!(first["hash"].as_str().unwrap().starts_with("hmac-sha256:"));
    assert_eq!(
        why(trial.root(Update, "sys/audit/test-tempfile", file("/tmp/b.log"))),
        "path already in use at test-tempfile/"
    );
    trial
        .root(Delete, "sys/audit/test-tempfile", json!({}))
        .unwrap();
    assert_eq!(trial.root(Read, "sys/audit", json!({})).unwrap(), json!({}));
    let unknown = why(hash(&mut trial, "test-tempfile"));
    assert_eq!(unknown, "unknown audit backend \"test-tempfile/\"");
    // One that is not there is gone already, as in Vault.
    trial
        .root(Delete, "sys/audit/test-tempfile", json!({}))
        .unwrap();
    // Enabled again it has another key.
    trial.write("sys/audit/test-tempfile", file("/tmp/a.log"));
    assert_ne!(hash(&mut trial, "test-tempfile").unwrap(), first);
}

#[test]
fn without_leave_of_the_configuration_no_device_is_made_or_removed_by_api() {
    // OpenBao since CVE-2025-6000: a device by API is a file wherever its caller says.
    let mut trial = Trial::new();
    trial.write("sys/audit/kept", file("/tmp/a.log"));
    trial.server.audit_by_api = false;
    for (operation, path) in [(Update, "sys/audit/new"), (Delete, "sys/audit/kept")] {
        let text = why(trial.root(operation, path, file("/tmp/b.log")));
        assert!(text.contains("audit device via API"), "{text}");
    }
    let listed = trial.root(Read, "sys/audit", json!({})).unwrap();
    assert!(listed.get("kept/").is_some() && listed.get("new/").is_none());
}

#[test]
fn only_sudo_sees_or_changes_devices() {
    let mut trial = Trial::new();
    let policy =
        "path \"sys/audit*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }";
    trial.write("sys/policies/acl/most", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["most"] }));
    for (operation, path) in [(Read, "sys/audit"), (Update, "sys/audit/a")] {
        let refused = trial.ask(As::Token(&token), operation, path, json!({}));
        assert!(matches!(refused, Err(Refusal::Denied)));
    }
    // The control: hashing is no matter of sudo.
    trial.write("sys/audit/a", file("/tmp/a.log"));
    let input = json!({ "input": "x" });
    trial
        .ask(As::Token(&token), Update, "sys/audit-hash/a", input)
        .unwrap();
}

#[test]
fn options_that_would_show_secrets_or_make_programs_are_refused() {
    let mut trial = Trial::new();
    let cases = [
        (json!({ "path": "/a", "log_raw": "true" }), "log_raw"),
        (json!({ "path": "/a", "prefix": "#!/bin/sh\n" }), "prefix"),
        (json!({ "path": "/a", "mode": "0755" }), "mode"),
        (json!({ "path": "/a", "mode": "9" }), "mode"),
        (json!({ "path": "/a", "format": "jsonx" }), "format"),
        (json!({ "path": "/a/../b" }), "file_path"),
        (json!({ "path": "a" }), "file_path"),
        (json!({}), "file_path"),
        (json!({ "path": "/a", "colour": "red" }), "colour"),
        (json!({ "path": ["/a"] }), "options"),
    ];
    for (options, word) in cases {
        let asked = json!({ "type": "file", "options": options });
        let text = why(trial.root(Update, "sys/audit/x", asked));
        assert!(text.contains(word), "{word}: {text}");
    }
    let asked =
        json!({ "type": "socket", "options": { "address": "a:1", "socket_type": "smoke" } });
    assert!(why(trial.root(Update, "sys/audit/x", asked)).contains("socket_type"));
    let asked = json!({ "type": "syslog", "options": { "tag": "a b" } });
    assert!(why(trial.root(Update, "sys/audit/x", asked)).contains("tag"));
    let asked = json!({ "type": "telegraph" });
    assert!(why(trial.root(Update, "sys/audit/x", asked)).contains("unknown backend type"));
    // The control: with what is left they are enabled.
    trial.write("sys/audit/x", file("/a"));
    let asked = json!({ "type": "socket", "options": { "address": "a:1", "write_timeout": "1s" } });
    trial.write("sys/audit/y", asked);
    trial.write("sys/audit/z", json!({ "type": "syslog" }));
    let same = why(trial.root(Update, "sys/audit/again", file("/a")));
    assert!(same.contains("another audit device"), "{same}");
}

#[test]
fn a_device_records_as_its_options_say() {
    let mut trial = Trial::new();
    trial.write("secret/data/a", json!({ "data": { "k": "v" } }));
    trial.write("secret/data/b", json!({ "data": { "k": "v" } }));
    let options = json!({ "path": "/a", "hmac_accessor": false, "elide_list_responses": "true" });
    trial.write("sys/audit/x", json!({ "type": "file", "options": options }));
    let (token, accessor) = trial.token(As::Root, json!({ "policies": ["root"] }));
    let request = Trial::request(As::Token(&token), List, "secret/metadata/", json!({}));
    let decided = trial.decide(&request);
    let snapshot = trial.snapshot();
    let entropy = Entropy::new(&bastide_api::Secret::new([0; 32]));
    let mut draft = Draft::new(&snapshot, trial.now, entropy, &[]);
    let device = devices::load(&mut draft).unwrap().remove(0);
    let [asked, answered] = decided.records(&request, &device.recorder(trial.barrier()));
    assert_eq!(asked["auth"]["accessor"], json!(accessor));
    assert_eq!(answered["response"]["data"]["keys"], json!(2));
    assert!(!asked.to_string().contains(&token));
    // The control: a device without options hides the one and shows hashes of the others.
    let usual = Recorder::usual(Hasher::new(trial.barrier(), "x"));
    let [asked, answered] = decided.records(&request, &usual);
    assert_ne!(asked["auth"]["accessor"], json!(accessor));
    assert_eq!(
        answered["response"]["data"]["keys"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
