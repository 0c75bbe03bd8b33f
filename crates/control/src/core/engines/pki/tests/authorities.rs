//! Roots, intermediates, imports.

use super::*;
use crate::core::refusal::Refusal;

/// A second engine at `below/`, and the request of an intermediate there.
fn intermediate(trial: &mut Trial) -> String {
    trial.write("sys/mounts/below", json!({ "type": "pki" }));
    let asked = json!({ "common_name": "trial intermediate", "key_type": "ec" });
    let data = trial.write("below/intermediate/generate/internal", asked);
    data["csr"].as_str().unwrap().to_owned()
}

fn sign(trial: &mut Trial, csr: &str) -> Value {
    let asked = json!({ "csr": csr, "common_name": "trial intermediate", "ttl": "8760h" });
    trial.write("pki/root/sign-intermediate", asked)
}

#[test]
fn an_intermediate_issues_below_its_root() {
    let mut trial = trial();
    let csr = intermediate(&mut trial);
    let signed = sign(&mut trial, &csr);
    let chain = format!(
        "{}\n{}",
        signed["certificate"].as_str().unwrap(),
        signed["issuing_ca"].as_str().unwrap()
    );
    let set = trial.write(
        "below/intermediate/set-signed",
        json!({ "certificate": chain }),
    );
    assert_eq!(set["imported_issuers"].as_array().unwrap().len(), 2);
    assert_eq!(set["imported_keys"], Value::Null);
    trial.write("below/roles/web", role());
    let asked = json!({ "common_name": "a.example.com", "ttl": "1h" });
    let leaf = trial.write("below/issue/web", asked);
    assert!(certificate(&leaf).is_signed_by(&certificate(&signed)));
    let chain: Vec<&str> = leaf["ca_chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0], leaf["issuing_ca"]);
    let asked = json!({ "common_name": "a.example.com", "remove_roots_from_chain": true });
    let short = trial.write("below/issue/web", asked);
    assert_eq!(short["ca_chain"].as_array().unwrap().len(), 1);
    // The same once more is known already.
    let again = trial.write(
        "below/intermediate/set-signed",
        json!({
            "certificate": signed["certificate"],
        }),
    );
    assert_eq!(again["existing_issuers"].as_array().unwrap().len(), 1);
    assert_eq!(again["imported_issuers"], Value::Null);
}

#[test]
fn an_intermediate_ends_with_its_root_and_this_is_told() {
    let mut trial = trial();
    let csr = intermediate(&mut trial);
    trial.pass(3600);
    let asked = json!({ "csr": csr, "common_name": "x", "ttl": "87600h" });
    let made = trial
        .ask(As::Root, Update, "pki/root/sign-intermediate", asked)
        .unwrap();
    assert!(
        made.warnings[0].contains("ends with its issuer"),
        "{:?}",
        made.warnings
    );
    let made = certificate(&Value::Object(made.data.unwrap()));
    let root = trial.root(Read, "pki/cert/ca", json!({})).unwrap();
    assert_eq!(made.not_after, certificate(&root).not_after);
}

#[test]
fn below_a_path_of_zero_there_is_no_authority() {
    let mut trial = trial();
    let asked = json!({
        "common_name": "last", "key_type": "ec", "max_path_length": 0, "issuer_name": "last",
    });
    let made = certificate(&trial.write("pki/root/generate/internal", asked));
    assert_eq!(made.authority.unwrap().path, Some(0));
    let csr = intermediate(&mut trial);
    let asked = json!({ "csr": csr, "common_name": "x", "issuer_ref": "last" });
    let told = refused(&mut trial, "pki/root/sign-intermediate", asked);
    assert!(told.contains("max path length of zero"), "{told}");
    let asked = json!({ "common_name": "two", "key_type": "ec", "max_path_length": 2,
        "issuer_name": "two" });
    trial.write("pki/root/generate/internal", asked);
    let asked = json!({ "csr": csr, "common_name": "x", "issuer_ref": "two" });
    let made = certificate(&trial.write("pki/root/sign-intermediate", asked));
    assert_eq!(made.authority.unwrap().path, Some(1));
}

#[test]
fn names_of_issuers_and_keys_are_taken_once() {
    let mut trial = trial();
    let told = refused(&mut trial, "pki/root/generate/internal", root());
    assert_eq!(told, "issuer name already in use");
    let asked = json!({ "common_name": "x", "key_type": "ec", "issuer_name": "default" });
    assert!(refused(&mut trial, "pki/root/generate/internal", asked).contains("issuer_name"));
    let asked = json!({ "common_name": "x", "key_type": "ec", "key_name": "k" });
    trial.write("pki/root/generate/internal", asked.clone());
    let told = refused(&mut trial, "pki/root/generate/internal", asked);
    assert_eq!(told, "key name already in use");
}

#[test]
fn the_first_issuer_is_the_default_until_another_is_named() {
    let mut trial = trial();
    let first = trial.root(Read, "pki/config/issuers", json!({})).unwrap();
    let rotated = trial.write(
        "pki/root/rotate/internal",
        json!({
            "common_name": "trial root 2", "key_type": "ec",
        }),
    );
    assert_eq!(rotated["issuer_name"], "next");
    assert_eq!(
        trial.root(Read, "pki/config/issuers", json!({})).unwrap(),
        first
    );
    let replaced = trial.write("pki/root/replace", json!({}));
    assert_eq!(replaced["default"], rotated["issuer_id"]);
    trial.write(
        "pki/config/issuers",
        json!({
            "default": "root", "default_follows_latest_issuer": true,
        }),
    );
    let latest = trial.write(
        "pki/root/generate/internal",
        json!({
            "common_name": "trial root 3", "key_type": "ec",
        }),
    );
    let now = trial.root(Read, "pki/config/issuers", json!({})).unwrap();
    assert_eq!(now["default"], latest["issuer_id"]);
    let id = latest["issuer_id"].as_str().unwrap();
    let path = format!("pki/issuer/{id}");
    let deleted = trial.ask(As::Root, Delete, &path, json!({})).unwrap();
    assert!(deleted.warnings[0].contains("configured as the default"));
    // Status 500, as Vault: clients match on it.
    let gone = trial.root(Read, &path, json!({})).unwrap_err();
    assert!(matches!(gone, Refusal::Failed(_)), "{gone}");
    trial.root(Delete, &path, json!({})).unwrap();
}

#[test]
fn an_issuer_is_imported_with_its_key_and_signs() {
    let mut trial = trial();
    trial.write("sys/mounts/other", json!({ "type": "pki" }));
    let made = trial.write(
        "other/root/generate/exported",
        json!({
            "common_name": "imported", "key_type": "ec",
        }),
    );
    let both = format!(
        "{}\n{}",
        made["private_key"].as_str().unwrap(),
        made["certificate"].as_str().unwrap()
    );
    let told = refused(
        &mut trial,
        "pki/issuers/import/cert",
        json!({ "pem_bundle": both }),
    );
    assert!(
        told.contains("private keys found in the PEM bundle"),
        "{told}"
    );
    let set = trial.write("pki/issuers/import/bundle", json!({ "pem_bundle": both }));
    let id = set["imported_issuers"][0].as_str().unwrap().to_owned();
    assert_eq!(set["mapping"][&id], set["imported_keys"][0]);
    trial.write("pki/roles/web", role());
    let leaf = trial.write(
        &format!("pki/issuer/{id}/issue/web"),
        json!({ "common_name": "a.example.com" }),
    );
    assert!(certificate(&leaf).is_signed_by(&certificate(&made)));
    // A certificate first, and its key later.
    trial.write("sys/mounts/third", json!({ "type": "pki" }));
    let alone = json!({ "pem_bundle": made["certificate"] });
    let set = trial.write("third/issuers/import/cert", alone.clone());
    let id = set["imported_issuers"][0].as_str().unwrap().to_owned();
    assert_eq!(set["mapping"][&id], "");
    trial.write("third/roles/web", role());
    let asked = json!({ "common_name": "a.example.com" });
    assert!(refused(&mut trial, "third/issue/web", asked.clone()).contains("has no key here"));
    trial.write("third/config/ca", json!({ "pem_bundle": both }));
    trial.write("third/issue/web", asked);
}

#[test]
fn a_leaf_is_not_imported_as_an_issuer() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let leaf = trial.write("pki/issue/web", json!({ "common_name": "a.example.com" }));
    let asked = json!({ "pem_bundle": leaf["certificate"] });
    assert!(refused(&mut trial, "pki/issuers/import/cert", asked).contains("not a CA's"));
    let asked = json!({ "certificate": leaf["certificate"] });
    let told = refused(&mut trial, "pki/root/sign-self-issued", asked);
    assert!(told.contains("not a CA certificate"), "{told}");
}

#[test]
fn a_key_in_use_stays_and_names_can_be_changed() {
    let mut trial = trial();
    let listed = trial.root(List, "pki/keys", json!({})).unwrap();
    let id = listed["keys"][0].as_str().unwrap().to_owned();
    let path = format!("pki/key/{id}");
    let told = text(trial.root(Delete, &path, json!({})).unwrap_err());
    assert!(told.contains("in use by an issuer"), "{told}");
    trial.write(&path, json!({ "key_name": "first" }));
    let shown = trial.root(Read, "pki/key/first", json!({})).unwrap();
    assert_eq!(
        (&shown["key_id"], &shown["key_type"]),
        (&json!(id), &json!("ec"))
    );
    let made = trial.write(
        "pki/keys/generate/exported",
        json!({ "key_type": "ed25519" }),
    );
    assert!(
        made["private_key"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY")
    );
    let again = json!({ "pem_bundle": made["private_key"], "key_name": "x" });
    let again = trial
        .ask(As::Root, Update, "pki/keys/import", again)
        .unwrap();
    assert_eq!(again.warnings.len(), 1);
    // A root with a key that is here.
    let root = json!({ "common_name": "x", "key_ref": made["key_id"] });
    let root = trial.write("pki/root/generate/existing", root);
    assert_eq!(root["key_id"], made["key_id"]);
    assert!(root.get("private_key").is_none());
}

#[test]
fn another_root_is_signed_as_it_is() {
    let mut trial = trial();
    trial.write("sys/mounts/other", json!({ "type": "pki" }));
    let theirs = trial.write(
        "other/root/generate/internal",
        json!({
            "common_name": "theirs", "key_type": "ed25519",
        }),
    );
    let asked = json!({ "certificate": theirs["certificate"] });
    let crossed = certificate(&trial.write("pki/root/sign-self-issued", asked));
    let theirs = certificate(&theirs);
    assert_eq!(
        (&crossed.subject, &crossed.key),
        (&theirs.subject, &theirs.key)
    );
    assert_eq!(crossed.serial, theirs.serial);
    let ours = trial.root(Read, "pki/cert/ca", json!({})).unwrap();
    assert!(crossed.is_signed_by(&certificate(&ours)));
}

#[test]
fn a_revoked_issuer_issues_no_more_and_cannot_be_talked_back() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let asked = json!({ "common_name": "a.example.com" });
    trial.write("pki/issue/web", asked.clone());
    let shown = trial.write("pki/issuer/root/revoke", json!({}));
    assert_eq!(shown["revoked"], true);
    assert!(refused(&mut trial, "pki/issue/web", asked.clone()).contains("is revoked"));
    trial.write(
        "pki/issuer/root",
        json!({ "usage": "issuing-certificates,crl-signing" }),
    );
    assert!(refused(&mut trial, "pki/issue/web", asked).contains("is revoked"));
}

#[test]
fn an_issuer_is_used_only_for_what_it_is_for() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    trial.write(
        "pki/issuer/root",
        json!({ "usage": "read-only,crl-signing" }),
    );
    let told = refused(
        &mut trial,
        "pki/issue/web",
        json!({ "common_name": "a.example.com" }),
    );
    assert!(
        told.contains("is not allowed to be used for issuing-certificates"),
        "{told}"
    );
}

#[test]
fn all_issuers_and_keys_go_with_the_root_and_only_with_sudo() {
    let mut trial = trial();
    trial.write("sys/policies/acl/pki", json!({
        "policy": "path \"pki/*\" { capabilities = [\"create\",\"read\",\"update\",\"delete\",\"list\"] }",
    }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["pki"] }));
    assert!(
        trial
            .ask(As::Token(&token), Delete, "pki/root", json!({}))
            .is_err()
    );
    assert!(trial.root(List, "pki/issuers", json!({})).is_ok());
    trial.root(Delete, "pki/root", json!({})).unwrap();
    assert!(trial.root(List, "pki/issuers", json!({})).is_err());
    assert!(trial.root(List, "pki/keys", json!({})).is_err());
}
