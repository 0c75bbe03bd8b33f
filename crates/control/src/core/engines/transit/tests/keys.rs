//! Keys: made, shown, rotated, trimmed, deleted.

use super::*;

#[test]
fn a_key_is_shown_without_what_is_secret() {
    let mut trial = trial();
    let made = make(&mut trial, "k", json!({}));
    for (name, value) in [
        ("name", json!("k")),
        ("type", json!("aes256-gcm96")),
        ("derived", json!(false)),
        ("deletion_allowed", json!(false)),
        ("exportable", json!(false)),
        ("allow_plaintext_backup", json!(false)),
        ("latest_version", json!(1)),
        ("min_decryption_version", json!(1)),
        ("min_encryption_version", json!(0)),
        ("min_available_version", json!(0)),
        ("supports_encryption", json!(true)),
        ("supports_decryption", json!(true)),
        ("supports_derivation", json!(true)),
        ("supports_signing", json!(false)),
        ("auto_rotate_period", json!(0)),
        ("imported_key", json!(false)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert_eq!(made["keys"]["1"], json!(trial.now.as_secs()));
    let read = trial.root(Read, "transit/keys/k", json!({})).unwrap();
    assert_eq!(read, made);
    let again = trial.ask(
        As::Root,
        Update,
        "transit/keys/k",
        json!({ "type": "hmac" }),
    );
    let again = again.unwrap();
    assert_eq!(again.warnings, ["key k already existed"]);
    assert_eq!(Value::Object(again.data.unwrap()), made);
    let listed = trial.root(List, "transit/keys", json!({})).unwrap();
    assert_eq!(listed, json!({ "keys": ["k"] }));
}

#[test]
fn each_kind_can_be_made_and_says_what_it_can() {
    let mut trial = trial();
    for (kind, encrypts, signs, name) in [
        ("aes128-gcm96", true, false, ""),
        ("chacha20-poly1305", true, false, ""),
        ("hmac", false, false, ""),
        ("ed25519", false, true, "ed25519"),
        ("ecdsa-p256", false, true, "P-256"),
        ("ecdsa-p384", false, true, "P-384"),
        ("ecdsa-p521", false, true, "P-521"),
        ("rsa-2048", true, true, "rsa-2048"),
    ] {
        let made = make(&mut trial, kind, json!({ "type": kind }));
        assert_eq!(made["supports_encryption"], json!(encrypts), "{kind}");
        assert_eq!(made["supports_signing"], json!(signs), "{kind}");
        let version = &made["keys"]["1"];
        assert_eq!(version["name"].as_str().unwrap_or_default(), name, "{kind}");
        if signs {
            let public = version["public_key"].as_str().unwrap();
            let is_pem = public.starts_with("-----BEGIN PUBLIC KEY-----\n");
            assert_eq!(is_pem, kind != "ed25519", "{kind}");
        }
    }
    assert_eq!(
        refused(
            &mut trial,
            Update,
            "transit/keys/x",
            json!({ "type": "aes" })
        ),
        "unknown key type aes"
    );
}

#[test]
fn keys_that_can_not_be_are_not_made() {
    let mut trial = trial();
    for (settings, why) in [
        // GHSA-8w8f: a derived RSA key crashed the server at its first use.
        (
            json!({ "type": "rsa-2048", "derived": true }),
            "key derivation and convergent encryption not supported for keys of type rsa-2048",
        ),
        (
            json!({ "type": "ed25519", "derived": true, "convergent_encryption": true }),
            "key derivation and convergent encryption not supported for keys of type ed25519",
        ),
        (
            json!({ "convergent_encryption": true }),
            "convergent encryption requires derivation to be enabled",
        ),
        (
            json!({ "auto_rotate_period": "59m" }),
            "auto rotate period must be 0 to disable or at least an hour",
        ),
        (
            json!({ "key_size": 32 }),
            "key_size is not valid for algorithm aes256-gcm96",
        ),
        (
            json!({ "type": "hmac", "key_size": 31 }),
            "invalid key_size 31",
        ),
        (
            json!({ "type": "hmac", "key_size": 513 }),
            "invalid key_size 513",
        ),
    ] {
        assert_eq!(refused(&mut trial, Update, "transit/keys/x", settings), why);
    }
    let long = "k".repeat(129);
    for name in ["-a", "a.", "a b", "ä", &long] {
        let path = format!("transit/keys/{name}");
        let why = refused(&mut trial, Update, &path, json!({}));
        assert!(
            why.starts_with("a key's name has at most 128"),
            "{name}: {why}"
        );
    }
    assert!(matches!(
        trial.root(List, "transit/keys", json!({})),
        Err(Refusal::Absent)
    ));
}

#[test]
fn names_that_differ_by_case_are_two_keys() {
    let mut trial = trial();
    make(&mut trial, "Key", json!({}));
    make(&mut trial, "key", json!({}));
    let sealed = seal(&mut trial, "Key", b"text");
    assert!(open(&mut trial, "key", &sealed).is_err());
    assert_eq!(open(&mut trial, "Key", &sealed).unwrap(), b"text");
}

#[test]
fn a_key_is_deleted_only_if_that_is_allowed_and_then_is_gone() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let sealed = seal(&mut trial, "k", b"text");
    assert_eq!(
        refused(&mut trial, Delete, "transit/keys/k", json!({})),
        "error deleting policy k: deletion is not allowed for this key"
    );
    trial.write("transit/keys/k/config", json!({ "deletion_allowed": true }));
    trial.root(Delete, "transit/keys/k", json!({})).unwrap();
    let absent = trial.root(Read, "transit/keys/k", json!({}));
    assert!(matches!(absent, Err(Refusal::Absent)));
    assert_eq!(
        refused(&mut trial, Delete, "transit/keys/k", json!({})),
        "error deleting policy k: could not delete key; not found"
    );
    // A key of the same name is another one, though the first was parsed and remembered.
    make(&mut trial, "k", json!({}));
    assert_eq!(
        open(&mut trial, "k", &sealed),
        Err("cipher: message authentication failed".to_owned())
    );
}

#[test]
fn old_versions_decrypt_until_they_are_disallowed() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let first = seal(&mut trial, "k", b"one");
    let rotated = trial.write("transit/keys/k/rotate", json!({}));
    assert_eq!(rotated["latest_version"], json!(2));
    assert_eq!(rotated["keys"].as_object().unwrap().len(), 2);
    let second = seal(&mut trial, "k", b"two");
    assert!(first.starts_with("vault:v1:") && second.starts_with("vault:v2:"));
    assert_eq!(open(&mut trial, "k", &first).unwrap(), b"one");
    trial.write(
        "transit/keys/k/config",
        json!({ "min_decryption_version": 2 }),
    );
    assert_eq!(
        open(&mut trial, "k", &first),
        Err("ciphertext or signature version is disallowed by policy (too old)".to_owned())
    );
    let shown = trial.root(Read, "transit/keys/k", json!({})).unwrap();
    assert_eq!(shown["keys"].as_object().unwrap().len(), 1);
    assert_eq!(open(&mut trial, "k", &second).unwrap(), b"two");
    trial.write(
        "transit/keys/k/config",
        json!({ "min_decryption_version": 1 }),
    );
    assert_eq!(open(&mut trial, "k", &first).unwrap(), b"one");
    for (version, why) in [
        (json!(-1), "min decryption version cannot be negative"),
        (
            json!(3),
            "cannot set min decryption version of 3, latest key version is 2",
        ),
    ] {
        let data = json!({ "min_decryption_version": version });
        assert_eq!(
            refused(&mut trial, Update, "transit/keys/k/config", data),
            why
        );
    }
    let data = json!({ "min_decryption_version": 2, "min_encryption_version": 1 });
    assert_eq!(
        refused(&mut trial, Update, "transit/keys/k/config", data),
        "cannot set min encryption/decryption values; min encryption version of 1 must be greater \
         than or equal to min decryption version of 2"
    );
}

#[test]
fn trimmed_versions_are_gone_and_never_come_back() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let first = seal(&mut trial, "k", b"one");
    for _ in 0..4 {
        trial.write("transit/keys/k/rotate", json!({}));
    }
    let trim = |trial: &mut Trial, version: i64| {
        let data = json!({ "min_available_version": version });
        trial
            .root(Update, "transit/keys/k/trim", data)
            .map_err(text)
    };
    let said = |what: &str| Err(format!("minimum available version {what}"));
    assert_eq!(
        trim(&mut trial, 2),
        said("cannot be set when minimum encryption version is not set")
    );
    let data = json!({ "min_decryption_version": 3, "min_encryption_version": 4 });
    trial.write("transit/keys/k/config", data);
    assert_eq!(
        trim(&mut trial, 5),
        said("cannot be greater than minmum encryption version")
    );
    assert_eq!(
        trim(&mut trial, 4),
        said("cannot be greater than minimum decryption version")
    );
    assert_eq!(trim(&mut trial, 0), said("should be positive"));
    assert_eq!(trim(&mut trial, -1), said("cannot be negative"));
    let before = trial.count(crate::core::tables::ENGINE);
    assert_eq!(
        trim(&mut trial, 3).unwrap()["min_available_version"],
        json!(3)
    );
    assert_eq!(trial.count(crate::core::tables::ENGINE), before - 2);
    assert_eq!(trim(&mut trial, 2), said("cannot be decremented"));
    let data = json!({ "min_decryption_version": 1 });
    assert_eq!(
        refused(&mut trial, Update, "transit/keys/k/config", data),
        "min decryption version should not be less then min available version"
    );
    assert!(open(&mut trial, "k", &first).is_err());
}

#[test]
fn what_may_leave_may_always_leave() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let path = "transit/export/encryption-key/k";
    assert_eq!(
        refused(&mut trial, Read, path, json!({})),
        "private key material is not exportable"
    );
    trial.write("transit/keys/k/config", json!({ "exportable": true }));
    let exported = trial.root(Read, path, json!({})).unwrap();
    assert_eq!(exported["keys"]["1"].as_str().unwrap().len(), 44);
    let taken = trial.write("transit/keys/k/config", json!({ "exportable": false }));
    assert_eq!(taken["exportable"], json!(true));
    let latest = trial
        .root(Read, &format!("{path}/latest"), json!({}))
        .unwrap();
    assert_eq!(latest, exported);
    for (path, why) in [
        (
            "transit/export/encryption-key/k/0",
            "version for export is below minimum decryption version",
        ),
        (
            "transit/export/encryption-key/k/2",
            "version does not exist or cannot be found",
        ),
        ("transit/export/encryption-key/k/x", "invalid key version"),
        (
            "transit/export/signing-key/k",
            "signing not supported for the key",
        ),
        (
            "transit/export/kitty-key/k",
            "invalid export type: kitty-key",
        ),
    ] {
        assert_eq!(refused(&mut trial, Read, path, json!({})), why);
    }
}

#[test]
fn backups_need_two_permissions_and_restore_under_another_name() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let refusal = trial.root(Read, "transit/backup/k", json!({})).unwrap_err();
    assert!(matches!(refusal, Refusal::Failed(_)), "{refusal:?}");
    assert_eq!(text(refusal), "exporting is disallowed on the policy");
    trial.write("transit/keys/k/config", json!({ "exportable": true }));
    assert_eq!(
        refused(&mut trial, Read, "transit/backup/k", json!({})),
        "plaintext backup is disallowed on the policy"
    );
    trial.write(
        "transit/keys/k/config",
        json!({ "allow_plaintext_backup": true }),
    );
    let sealed = seal(&mut trial, "k", b"text");
    trial.write("transit/keys/k/rotate", json!({}));
    let backup = trial.root(Read, "transit/backup/k", json!({})).unwrap();
    assert_eq!(
        refused(&mut trial, Update, "transit/restore", backup.clone()),
        "key \"k\" already exists"
    );
    trial.write("transit/restore/other", backup.clone());
    assert_eq!(open(&mut trial, "other", &sealed).unwrap(), b"text");
    let shown = trial.root(Read, "transit/keys/other", json!({})).unwrap();
    assert_eq!(shown["latest_version"], json!(2));
    assert_eq!(shown["restore_info"]["version"], json!(2));
    // By force the key is the backup's again: what came after is gone.
    trial.write("transit/keys/k/rotate", json!({}));
    let third = seal(&mut trial, "k", b"three");
    let mut forced = backup;
    forced["force"] = json!(true);
    trial.write("transit/restore", forced);
    assert_eq!(
        open(&mut trial, "k", &third),
        Err("invalid ciphertext: version is too new".to_owned())
    );
    assert_eq!(open(&mut trial, "k", &sealed).unwrap(), b"text");
}

#[test]
fn a_key_rotates_by_itself_when_its_time_has_come() {
    let mut trial = trial();
    make(&mut trial, "k", json!({ "auto_rotate_period": "2h" }));
    make(&mut trial, "still", json!({}));
    make(
        &mut trial,
        "rsa",
        json!({ "type": "rsa-2048", "auto_rotate_period": "2h" }),
    );
    let latest = |trial: &mut Trial, name: &str| {
        let shown = trial.root(Read, &format!("transit/keys/{name}"), json!({}));
        shown.unwrap()["latest_version"].as_u64().unwrap()
    };
    trial.pass(7199);
    trial.tend();
    assert_eq!(latest(&mut trial, "k"), 1);
    trial.pass(1);
    trial.tend();
    trial.tend();
    assert_eq!(latest(&mut trial, "k"), 2);
    assert_eq!(latest(&mut trial, "still"), 1);
    trial.pass(7200);
    trial.tend();
    assert_eq!(latest(&mut trial, "k"), 3);
    // Switched off, it stays as it is.
    trial.write("transit/keys/k/config", json!({ "auto_rotate_period": 0 }));
    trial.pass(72_000);
    trial.tend();
    assert_eq!(latest(&mut trial, "k"), 3);
    // An RSA key waits for its next use.
    assert_eq!(latest(&mut trial, "rsa"), 1);
    let sealed = seal(&mut trial, "rsa", b"text");
    assert!(sealed.starts_with("vault:v2:"));
    assert_eq!(latest(&mut trial, "rsa"), 2);
}

#[test]
fn settings_of_the_mount_are_told_again() {
    let mut trial = trial();
    let path = "transit/cache-config";
    assert_eq!(
        trial.root(Read, path, json!({})).unwrap(),
        json!({ "size": 0 })
    );
    trial.write(path, json!({ "size": 500 }));
    assert_eq!(
        trial.root(Read, path, json!({})).unwrap(),
        json!({ "size": 500 })
    );
    assert_eq!(
        refused(&mut trial, Update, path, json!({ "size": 5 })),
        "size must be 0 or a value greater or equal to 10"
    );
}

#[test]
fn a_period_of_rotation_that_is_next_to_nothing_is_not_never() {
    let mut trial = trial();
    let why = refused(
        &mut trial,
        Update,
        "transit/keys/a",
        json!({ "auto_rotate_period": "500ms" }),
    );
    assert!(why.contains("at least an hour"), "{why}");
    make(&mut trial, "a", json!({ "auto_rotate_period": "0s" }));
}
