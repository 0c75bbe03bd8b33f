use serde_json::{Value, json};

use super::*;
use crate::core::request::Operation::{Read, Update};
use crate::core::trial::{As, Trial};

fn records(
    trial: &mut Trial,
    who: As<'_>,
    operation: Operation,
    path: &str,
    data: Value,
) -> [Value; 2] {
    let request = Trial::request(who, operation, path, data);
    let decided = trial.decide(&request);
    let hasher = Hasher::new(trial.barrier(), "file/");
    decided.records(&request, &Recorder::usual(hasher))
}

#[test]
fn a_record_says_who_did_what_and_shows_no_secret() {
    let mut trial = Trial::new();
    let data = json!({ "data": { "password": "CANARY", "deep": [{ "x": "CANARY2" }], "n": 5 } });
    let [asked, answered] = records(&mut trial, As::Root, Update, "secret/data/x", data);
    let lines = format!("{asked}{answered}");
    for secret in ["CANARY", "CANARY2", "\"root\",\"client"] {
        assert!(!lines.contains(secret), "{secret} in {lines}");
    }
    assert_eq!(asked["type"], json!("request"));
    assert_eq!(asked["request"]["path"], json!("secret/data/x"));
    assert_eq!(asked["auth"]["policies"], json!(["root"]));
    assert_eq!(asked["request"]["data"]["data"]["n"], json!(5));
    // The control: the hash of the secret is there, so an investigator who knows it finds it.
    let hasher = Hasher::new(trial.barrier(), "file/");
    assert_eq!(
        asked["request"]["data"]["data"]["password"],
        json!(hasher.hash("CANARY"))
    );
    assert_eq!(asked["request"]["client_token"], json!(hasher.hash("root")));
    let other = Hasher::new(trial.barrier(), "other/");
    assert_ne!(hasher.hash("CANARY"), other.hash("CANARY"));
    assert_eq!(answered["type"], json!("response"));
}

#[test]
fn a_token_that_is_made_is_hashed_in_the_record() {
    let mut trial = Trial::new();
    let request = Trial::request(As::Root, Update, "auth/token/create", json!({}));
    let decided = trial.decide(&request);
    let made = decided
        .response
        .outcome
        .as_ref()
        .unwrap()
        .auth
        .clone()
        .unwrap();
    let token = made["client_token"].as_str().unwrap().to_owned();
    let hasher = Hasher::new(trial.barrier(), "file/");
    let recorder = Recorder::usual(Hasher::new(trial.barrier(), "file/"));
    let [_, answered] = decided.records(&request, &recorder);
    let line = answered.to_string();
    assert!(!line.contains(&token) && line.contains(&hasher.hash(&token)));
}

#[test]
fn a_refusal_is_recorded_without_what_was_asked() {
    let mut trial = Trial::new();
    let [asked, answered] = records(
        &mut trial,
        As::Token("hvs.CANARY"),
        Read,
        "secret/data/x",
        json!({}),
    );
    assert_eq!(asked["error"], json!("permission denied"));
    assert!(answered.get("response").is_none());
    assert!(!format!("{asked}{answered}").contains("CANARY"));
}

#[test]
fn fields_are_shown_in_clear_only_where_the_mount_says_so() {
    let mut trial = Trial::new();
    let tune = json!({ "audit_non_hmac_request_keys": ["options"] });
    trial.write("sys/mounts/secret/tune", tune);
    let data = json!({ "data": { "a": "CANARY" }, "options": { "note": "shown" } });
    let [asked, _] = records(&mut trial, As::Root, Update, "secret/data/x", data);
    assert_eq!(asked["request"]["data"]["options"]["note"], json!("shown"));
    assert!(!asked.to_string().contains("CANARY"));
}

#[test]
fn what_only_asks_for_health_is_not_recorded() {
    let mut trial = Trial::new();
    let request = Trial::request(As::Nobody, Read, "sys/health", json!({}));
    assert!(trial.decide(&request).audit.is_none());
    let request = Trial::request(As::Nobody, Read, "sys/mounts", json!({}));
    assert!(trial.decide(&request).audit.is_some());
}
