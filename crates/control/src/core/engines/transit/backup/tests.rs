use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../tests/openbao.json");

/// Returns a backup with something of it changed.
fn changed(name: &str, from: &str, to: &str) -> String {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let vector = vectors
        .iter()
        .find(|vector| vector["name"] == name)
        .unwrap();
    let json = BASE64.decode(vector["backup"].as_str().unwrap().as_bytes());
    let json = String::from_utf8(json.unwrap()).unwrap();
    assert!(json.contains(from), "{from}");
    BASE64.encode(json.replace(from, to).as_bytes())
}

#[test]
fn what_is_no_backup_is_refused() {
    let refused = |text: &str| Backup::parse(text).err().unwrap();
    assert_eq!(refused("?"), "the backup is no base64");
    assert_eq!(
        refused(&BASE64.encode(b"{}")),
        "the backup is no key's backup"
    );
    assert_eq!(
        refused(&"A".repeat(BACKUP_BYTES_MAX + 1)),
        "the backup is too long"
    );
    for (name, from, to, why) in [
        (
            "aes256-gcm96",
            "\"type\":0",
            "\"type\":99",
            "keys of type 99 are not known here",
        ),
        // OpenBao's XChaCha20-Poly1305, and Vault's number of `hmac`.
        (
            "aes256-gcm96",
            "\"type\":0",
            "\"type\":11",
            "a key is not of the type that the backup says",
        ),
        (
            "aes256-gcm96",
            "\"type\":0",
            "\"type\":8",
            "a key has a wrong length",
        ),
        (
            "ed25519",
            "\"type\":2",
            "\"type\":1",
            "an elliptic key is not as it should be",
        ),
        (
            "ecdsa-p256",
            "\"type\":1",
            "\"type\":6",
            "an elliptic key is not as it should be",
        ),
        (
            "rsa-2048",
            "\"Dp\":",
            "\"Dp\":1",
            "an RSA key is not as it should be",
        ),
        (
            "rsa-2048",
            "\"Dp\":",
            "\"Dx\":",
            "an RSA key lacks the values that are computed of it",
        ),
        (
            "rsa-2048",
            "\"type\":3",
            "\"type\":9",
            "a key is not of the type that the backup says",
        ),
        (
            "aes256-gcm96derived",
            "\"kdf\":1",
            "\"kdf\":0",
            "the key derives or encrypts in a way that was given up: rewrap what it sealed",
        ),
        (
            "aes256-gcm96convergent",
            "\"convergent_version\":3",
            "\"convergent_version\":2",
            "the key derives or encrypts in a way that was given up: rewrap what it sealed",
        ),
        (
            "aes256-gcm96",
            "\"latest_version\":2",
            "\"latest_version\":3",
            "the backup lacks versions of the key",
        ),
        (
            "aes256-gcm96",
            "\"min_decryption_version\":1",
            "\"min_decryption_version\":3",
            "the versions of the key are out of order",
        ),
        (
            "aes256-gcm96",
            "\"latest_version\":2",
            "\"latest_version\":4294967295",
            "the versions of the key are out of order",
        ),
    ] {
        assert_eq!(refused(&changed(name, from, to)), why, "{name} {to}");
    }
}

#[test]
fn a_backup_with_the_last_number_that_there_is_is_refused() {
    // The next version would have none.
    let name = "chacha20-poly1305";
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let vector = vectors.iter().find(|it| it["name"] == name).unwrap();
    let json = BASE64.decode(vector["backup"].as_str().unwrap().as_bytes());
    let mut backup: Value = serde_json::from_slice(&json.unwrap()).unwrap();
    let whole = |backup: &Value| {
        let text = BASE64.encode(backup.to_string().as_bytes());
        Backup::parse(&text).err()
    };
    assert_eq!(whole(&backup), None, "the control");
    let archived = backup["archived_keys"]["keys"]
        .as_array()
        .unwrap()
        .last()
        .cloned();
    backup["archived_keys"]["keys"] = serde_json::json!([archived]);
    backup["policy"]["keys"] = serde_json::json!({});
    for (latest, refused) in [
        (1_u32 << 30, false),
        ((1 << 30) + 1, true),
        (u32::MAX, true),
    ] {
        for field in [
            "latest_version",
            "min_decryption_version",
            "min_available_version",
        ] {
            backup["policy"][field] = latest.into();
        }
        backup["policy"]["min_encryption_version"] = 0.into();
        assert_eq!(whole(&backup).is_some(), refused, "{latest}");
    }
}
