use serde_json::{Value, json};

use super::*;
use crate::core::pipeline::Shape;
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
fn no_record_names_a_field_twice() {
    let mut trial = Trial::new();
    let mut request = Trial::request(As::Root, Update, "auth/token/create", json!({}));
    request.wrap = Some(std::time::Duration::from_secs(60));
    let decided = trial.decide(&request);
    let wrapped = decided.response.outcome.as_ref().unwrap();
    let token = wrapped.wrap_info.as_ref().unwrap()["token"].clone();
    let recorder = Recorder::usual(Hasher::new(trial.barrier(), "file/"));
    let audited = decided.audit.as_ref().unwrap();
    let lines = recorder.lines(audited, &request, Some(wrapped), trial.now);
    let [_, answered] = lines.each().map(String::from_utf8_lossy);
    assert_eq!(answered.matches("\"wrap_info\":").count(), 1, "{answered}");
    assert!(!answered.contains(token.as_str().unwrap()));
    let hash = recorder.hasher.hash(token.as_str().unwrap());
    assert!(answered.contains(&hash), "{answered}");
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

#[test]
fn headers_are_recorded_as_an_operator_says_and_none_that_proves_who_asks() {
    const PATH: &str = "sys/config/auditing/request-headers";
    let mut trial = Trial::new();
    let shown = trial.root(Read, PATH, json!({})).unwrap();
    let clear = json!({ "hmac": false });
    let usual = json!({
        "correlation-id": clear, "user-agent": clear, "x-correlation-id": clear,
    });
    assert_eq!(shown["headers"], usual);
    let recorded = |trial: &mut Trial| {
        let mut request = Trial::request(As::Root, Read, "secret/data/x", json!({}));
        let long = "x".repeat(600);
        for (name, value) in [
            ("user-agent", "curl/8"),
            ("x-team", "CANARY"),
            ("x-team", "second"),
            ("x-vault-token", "root"),
            ("x-other", "\u{e9}\t"),
            ("correlation-id", &long),
        ] {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers.append(name, value);
        }
        let mut recorder = Recorder::usual(Hasher::new(trial.barrier(), "file/"));
        let headers = trial
            .within("sys/", |ctx| headers::load(ctx.draft))
            .unwrap();
        recorder.headers = headers.into();
        let [asked, answered] = trial.decide(&request).records(&request, &recorder);
        let told = asked["request"]["headers"].clone();
        assert_eq!(answered["request"]["headers"], told);
        told
    };
    let told = recorded(&mut trial);
    // What whoever asks chooses the length of is cut.
    let cut = "x".repeat(512);
    assert_eq!(
        told,
        json!({ "user-agent": ["curl/8"], "correlation-id": [cut] })
    );
    trial.write(&format!("{PATH}/X-Team"), json!({ "hmac": true }));
    trial.write(&format!("{PATH}/x-other"), json!({}));
    trial
        .root(
            crate::core::request::Operation::Delete,
            &format!("{PATH}/user-agent"),
            json!({}),
        )
        .unwrap();
    let hasher = Hasher::new(trial.barrier(), "file/");
    let hashes = json!([hasher.hash("CANARY"), hasher.hash("second")]);
    let told = recorded(&mut trial);
    assert_eq!(told["x-team"], hashes);
    assert_eq!(told["x-other"], json!(["\u{e9}\t"]));
    assert_eq!(told.get("user-agent"), None);
    let one = trial
        .root(Read, &format!("{PATH}/X-Team"), json!({}))
        .unwrap();
    assert_eq!(one, json!({ "X-Team": { "hmac": true } }));
    for wrong in ["x-vault-token", "Authorization", "cookie", "a b", "\u{e9}"] {
        let refused = trial.root(Update, &format!("{PATH}/{wrong}"), json!({}));
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{wrong}");
    }
    let gone = trial.root(Read, &format!("{PATH}/user-agent"), json!({}));
    assert!(matches!(gone, Err(Refusal::Invalid(_))));
    for number in 0..60 {
        trial.write(&format!("{PATH}/x-{number}"), json!({}));
    }
    let many = trial.root(Update, &format!("{PATH}/x-60"), json!({}));
    assert!(matches!(many, Err(Refusal::Invalid(_))));
    // They are no device, and need sudo as devices do.
    assert_eq!(trial.root(Read, "sys/audit", json!({})).unwrap(), json!({}));
    let policy = format!("path \"{PATH}*\" {{ capabilities = [\"read\", \"update\"] }}");
    trial.write("sys/policies/acl/p", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["p"] }));
    let refused = trial.ask(As::Token(&token), Read, PATH, json!({}));
    assert!(matches!(refused, Err(Refusal::Denied)));
}

#[test]
fn what_is_answered_as_bytes_stands_in_no_record() {
    // CVE-2025-62705, CVE-2025-62513: bodies that were no JSON went into the log as they were.
    let mut trial = Trial::new();
    trial.write("sys/mounts/ssh", json!({ "type": "ssh" }));
    trial.write("ssh/config/ca", json!({ "key_type": "ed25519" }));
    let hasher = Hasher::new(trial.barrier(), "file/");
    let recorder = Recorder::usual(hasher);
    let request = Trial::request(As::Root, Read, "ssh/public_key", json!({}));
    let decided = trial.decide(&request);
    let Shape::Raw(raw) = &decided.response.outcome.as_ref().unwrap().shape else {
        panic!("the key is a text of its own")
    };
    let line = String::from_utf8(raw.body.clone()).unwrap();
    let key = line.split(' ').nth(1).unwrap();
    let encoded = data_encoding::BASE64.encode(&raw.body);
    for record in decided.records(&request, &recorder) {
        let record = record.to_string();
        assert!(
            !record.contains(key.trim()) && !record.contains(&encoded),
            "{record}"
        );
    }
}
