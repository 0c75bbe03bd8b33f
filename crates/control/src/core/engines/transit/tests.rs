use serde_json::{Value, json};

use crate::core::refusal::Refusal;
use crate::core::request::Operation::{self, Delete, List, Read, Update};
use crate::core::trial::{As, Trial, text};

mod batches;
mod foreign;
mod imports;
mod keys;
mod properties;
mod signatures;
mod texts;

/// A control plane with the engine at `transit/`.
pub(super) fn trial() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/mounts/transit", json!({ "type": "transit" }));
    trial
}

/// Makes a key.
pub(super) fn make(trial: &mut Trial, name: &str, settings: Value) -> Value {
    trial.write(&format!("transit/keys/{name}"), settings)
}

/// Asks as root and returns the text of the refusal.
pub(super) fn refused(trial: &mut Trial, operation: Operation, path: &str, data: Value) -> String {
    text(trial.root(operation, path, data).unwrap_err())
}

pub(super) fn b64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

/// Encrypts a text and returns what was sealed.
pub(super) fn seal(trial: &mut Trial, name: &str, plain: &[u8]) -> String {
    let sealed = trial.write(
        &format!("transit/encrypt/{name}"),
        json!({ "plaintext": b64(plain) }),
    );
    sealed["ciphertext"].as_str().unwrap().to_owned()
}

/// Decrypts what was sealed.
pub(super) fn open(trial: &mut Trial, name: &str, sealed: &str) -> Result<Vec<u8>, String> {
    let opened = trial
        .root(
            Update,
            &format!("transit/decrypt/{name}"),
            json!({ "ciphertext": sealed }),
        )
        .map_err(text)?;
    let plain = opened["plaintext"].as_str().unwrap();
    Ok(data_encoding::BASE64.decode(plain.as_bytes()).unwrap())
}

#[test]
fn paths_that_are_not_there_are_told_from_operations_that_are_not() {
    let mut trial = trial();
    let unsupported = |trial: &mut Trial, operation, path: &str| {
        trial.root(operation, path, json!({})).unwrap_err()
    };
    for path in ["transit/nothing", "transit/keys/a/b", "transit/sign/a/b/c"] {
        let refusal = unsupported(&mut trial, Read, path);
        assert!(
            matches!(refusal, Refusal::UnsupportedPath),
            "{path}: {refusal:?}"
        );
    }
    for (operation, path) in [
        (Read, "transit/encrypt/a"),
        (Delete, "transit/keys/a/config"),
        (List, "transit/hash"),
        (Update, "transit/wrapping_key"),
    ] {
        let refusal = unsupported(&mut trial, operation, path);
        assert!(
            matches!(refusal, Refusal::UnsupportedOperation),
            "{path}: {refusal:?}"
        );
    }
}

#[test]
fn hashes_and_random_bytes_need_no_key() {
    let mut trial = trial();
    let sum = trial.write("transit/hash", json!({ "input": b64(b"abc") }));
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sum["sum"], json!(abc));
    let input = json!({ "input": b64(b"abc"), "format": "base64" });
    let sum = trial.write("transit/hash/sha2-512", input);
    assert_eq!(sum["sum"].as_str().unwrap().len(), 88);
    assert_eq!(
        refused(
            &mut trial,
            Update,
            "transit/hash/md5",
            json!({ "input": "" })
        ),
        "unsupported algorithm \"md5\""
    );
    let wrong = json!({ "input": "", "format": "text" });
    assert_eq!(
        refused(&mut trial, Update, "transit/hash", wrong),
        "unsupported encoding format \"text\"; must be \"hex\" or \"base64\""
    );
    let drawn = |trial: &mut Trial, path: &str, data: Value| {
        let drawn = trial.write(path, data);
        drawn["random_bytes"].as_str().unwrap().to_owned()
    };
    let first = drawn(&mut trial, "transit/random", json!({}));
    assert_eq!(first.len(), 44);
    assert_ne!(
        first,
        drawn(&mut trial, "transit/random/platform", json!({}))
    );
    let hex = drawn(
        &mut trial,
        "transit/random/all/7",
        json!({ "format": "hex" }),
    );
    assert_eq!(hex.len(), 14);
    assert_eq!(drawn(&mut trial, "transit/random/5", json!({})).len(), 8);
    for (path, why) in [
        ("transit/random/0", "\"bytes\" cannot be less than 1"),
        (
            "transit/random/131073",
            "\"bytes\" should be less than 131072",
        ),
        (
            "transit/random/x",
            "error parsing url-set byte count: \"x\"",
        ),
    ] {
        assert_eq!(refused(&mut trial, Update, path, json!({})), why);
    }
}

#[test]
fn whoever_may_only_update_makes_no_key_by_encrypting() {
    let mut trial = trial();
    let policy = r#"path "transit/encrypt/*" { capabilities = ["update"] }"#;
    trial.write("sys/policy/update", json!({ "policy": policy }));
    let policy = r#"path "transit/encrypt/*" { capabilities = ["create", "update"] }"#;
    trial.write("sys/policy/create", json!({ "policy": policy }));
    let data = json!({ "plaintext": b64(b"text") });
    let mut ask = |policy: &str| {
        let (token, _) = trial.token(As::Root, json!({ "policies": [policy] }));
        let path = "transit/encrypt/new";
        trial.ask(As::Token(&token), Update, path, data.clone())
    };
    // What does not exist is created, which `update` does not allow.
    assert!(matches!(ask("update"), Err(Refusal::Denied)));
    assert!(ask("create").is_ok());
    assert!(ask("update").is_ok());
    let made = trial.root(Read, "transit/keys/new", json!({})).unwrap();
    assert_eq!(made["type"], json!("aes256-gcm96"));
    trial.write("transit/config/keys", json!({ "disable_upsert": true }));
    let path = "transit/encrypt/other";
    let data = json!({ "plaintext": b64(b"text") });
    assert_eq!(
        refused(&mut trial, Update, path, data),
        "encryption key not found"
    );
}
