use serde_json::{Value, json};

use crate::core::refusal::Refusal;
use crate::core::request::Operation::{Delete, List, Read, Update};
use crate::core::trial::{As, Trial, text};

#[test]
fn random_bytes_and_hashes_are_made_for_whoever_may() {
    let mut trial = Trial::new();
    let drawn = |trial: &mut Trial, path: &str, data: Value| {
        let found = trial.root(Update, path, data).unwrap();
        found["random_bytes"].as_str().unwrap().to_owned()
    };
    let hex = json!({ "format": "hex" });
    let one = drawn(&mut trial, "sys/tools/random/16", hex.clone());
    assert_eq!(one.len(), 32);
    assert_ne!(one, drawn(&mut trial, "sys/tools/random/16", hex));
    assert_eq!(drawn(&mut trial, "sys/tools/random", json!({})).len(), 44);
    for wrong in [
        json!({ "bytes": 0 }),
        json!({ "bytes": 200_000 }),
        json!({ "format": "x" }),
    ] {
        let found = trial.root(Update, "sys/tools/random", wrong.clone());
        assert!(matches!(found, Err(Refusal::Invalid(_))), "{wrong}");
    }
    let input = json!({ "input": "aGVsbG8=" });
    let sum = trial.write("sys/tools/hash", input.clone());
    let expect = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(sum["sum"], expect);
    let sum = trial.write("sys/tools/hash/sha2-512", input);
    assert_eq!(sum["sum"].as_str().unwrap().len(), 128);
    let wrong = json!({ "input": "no base64!" });
    assert!(trial.root(Update, "sys/tools/hash", wrong).is_err());
}

#[test]
fn the_catalog_lists_what_the_program_has_and_takes_nothing_in() {
    let mut trial = Trial::new();
    let all = trial.root(Read, "sys/plugins/catalog", json!({})).unwrap();
    let has = |list: &str, kind: &str| all[list].as_array().unwrap().contains(&json!(kind));
    assert!(has("auth", "userpass") && has("secret", "kv") && !has("secret", "system"));
    let auth = trial
        .root(List, "sys/plugins/catalog/auth", json!({}))
        .unwrap();
    assert_eq!(auth["keys"], all["auth"]);
    let one = trial
        .root(Read, "sys/plugins/catalog/auth/userpass", json!({}))
        .unwrap();
    assert_eq!(
        (&one["name"], &one["builtin"]),
        (&json!("userpass"), &json!(true))
    );
    let gone = trial.root(Read, "sys/plugins/catalog/auth/none", json!({}));
    assert!(matches!(gone, Err(Refusal::Absent)));
    let added = json!({ "sha256": "00", "command": "sh" });
    let added = trial.root(Update, "sys/plugins/catalog/secret/mine", added);
    assert!(text(added.unwrap_err()).contains("a part of this server"));
}

#[test]
fn raw_storage_joins_and_profiles_are_not_served_to_anybody() {
    let mut trial = Trial::new();
    for (operation, path) in [
        (Read, "sys/raw/core/keyring"),
        (List, "sys/raw"),
        (Update, "sys/raw/x"),
        (Delete, "sys/raw/x"),
        (Read, "sys/pprof/heap"),
        (Read, "sys/pprof"),
        // CVE-2022-36129, CVE-2024-8185: strangers joined, or filled memory by trying to.
        (Update, "sys/storage/raft/join"),
        (Update, "sys/storage/raft/bootstrap/challenge"),
        (Update, "sys/storage/raft/bootstrap/answer"),
        (Update, "sys/storage/raft/remove-peer"),
        (Read, "sys/storage/raft/configuration"),
        // A rule that is taken and not enforced is worse than none (CVE-2022-30689).
        (Update, "identity/mfa/login-enforcement/all"),
        (Update, "identity/mfa/method/totp"),
    ] {
        let found = trial.root(operation, path, json!({}));
        assert!(
            matches!(found, Err(Refusal::UnsupportedPath)),
            "{path}: {found:?}"
        );
        let stranger = trial.ask(As::Nobody, operation, path, json!({}));
        assert!(
            matches!(stranger, Err(Refusal::Unauthenticated)),
            "{path}: {stranger:?}"
        );
    }
}

#[test]
fn a_move_is_done_when_it_is_answered_and_can_be_asked_about() {
    let mut trial = Trial::new();
    trial.write("sys/mounts/old", json!({ "type": "kv" }));
    trial.write("old/a", json!({ "x": 1 }));
    let moved = trial.write("sys/remount", json!({ "from": "old", "to": "new" }));
    let id = moved["migration_id"].as_str().unwrap();
    let found = trial.root(Read, "new/a", json!({})).unwrap();
    assert_eq!(found, json!({ "x": 1 }));
    let status = trial
        .root(Read, &format!("sys/remount/status/{id}"), json!({}))
        .unwrap();
    assert_eq!(
        status["migration_info"],
        json!({ "source_mount": "old/", "target_mount": "new/", "status": "success" })
    );
    let unknown = trial.root(Read, "sys/remount/status/none", json!({}));
    assert!(matches!(unknown, Err(Refusal::Absent)), "{unknown:?}");
}

#[test]
fn what_a_token_may_is_told_in_one_list() {
    let mut trial = Trial::new();
    let policy = "path \"a/b\" { capabilities = [\"read\"] } path \"c/*\" { policy = \"write\" }";
    trial.write("sys/policies/acl/some", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["some"], "ttl": "1h" }));
    let path = "sys/internal/ui/resultant-acl";
    let shown = trial
        .ask(As::Token(&token), Read, path, json!({}))
        .unwrap()
        .data
        .unwrap();
    assert_eq!(shown["root"], false);
    assert_eq!(
        shown["exact_paths"]["a/b"],
        json!({ "capabilities": ["read"] })
    );
    let write = json!(["create", "delete", "list", "read", "update"]);
    assert_eq!(shown["glob_paths"]["c/"], json!({ "capabilities": write }));
    assert_eq!(trial.root(Read, path, json!({})).unwrap()["root"], true);
}

#[test]
fn a_policys_name_has_one_form_and_no_other_is_a_name() {
    let mut trial = Trial::new();
    let policy = json!({ "policy": "path \"a\" { policy = \"read\" }" });
    trial.write("sys/policies/acl/Web-Team", policy.clone());
    let read = trial
        .root(Read, "sys/policies/acl/web-team", json!({}))
        .unwrap();
    assert_eq!(read["name"], "web-team");
    // A letter that folds to another is that other: the Kelvin sign is a k.
    trial.write("sys/policies/acl/\u{212a}ube", policy.clone());
    assert!(trial.root(Read, "sys/policies/acl/kube", json!({})).is_ok());
    // Spaces, and letters taken apart into base and accent, are no names.
    for wrong in ["a b", " a", "a\u{301}", "a\u{200b}b", "\u{202e}ab"] {
        let found = trial.root(Update, &format!("sys/policies/acl/{wrong}"), policy.clone());
        assert!(matches!(found, Err(Refusal::Invalid(_))), "{wrong:?}");
    }
    let listed = trial.root(List, "sys/policies/acl", json!({})).unwrap();
    assert_eq!(
        listed["keys"],
        json!(["default", "kube", "root", "web-team"])
    );
}
