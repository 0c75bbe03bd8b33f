//! What everybody may do without a token, and what not.

use super::*;
use crate::core::pipeline::Shape;
use crate::core::reply::Raw;

fn raw(trial: &mut Trial, path: &str) -> Raw {
    let envelope = trial.ask(As::Nobody, Read, path, json!({})).unwrap();
    match envelope.shape {
        Shape::Raw(raw) => raw,
        other => panic!("{path} is not raw: {other:?}"),
    }
}

#[test]
fn certificates_and_lists_are_fetched_without_a_token() {
    let mut trial = trial();
    for (path, content_type, starts) in [
        ("pki/ca", "application/pkix-cert", &b"\x30\x82"[..]),
        (
            "pki/ca/pem",
            "application/pem-certificate-chain",
            b"-----BEGIN CERTIFICATE",
        ),
        (
            "pki/ca_chain",
            "application/pem-certificate-chain",
            b"-----BEGIN CERTIFICATE",
        ),
        ("pki/crl", "application/pkix-crl", b"\x30"),
        (
            "pki/crl/pem",
            "application/x-pem-file",
            b"-----BEGIN X509 CRL",
        ),
        ("pki/issuer/root/der", "application/pkix-cert", b"\x30\x82"),
        (
            "pki/issuer/root/pem",
            "application/pem-certificate-chain",
            b"-----BEGIN CERT",
        ),
        (
            "pki/issuer/default/crl/der",
            "application/pkix-crl",
            b"\x30",
        ),
        (
            "pki/issuer/default/crl/pem",
            "application/x-pem-file",
            b"-----BEGIN X509 CRL",
        ),
    ] {
        let raw = raw(&mut trial, path);
        assert_eq!(raw.content_type, content_type, "{path}");
        assert!(raw.body.starts_with(starts), "{path}");
    }
    for path in [
        "pki/cert/ca",
        "pki/cert/ca_chain",
        "pki/cert/crl",
        "pki/issuer/root/json",
    ] {
        assert!(
            trial.ask(As::Nobody, Read, path, json!({})).is_ok(),
            "{path}"
        );
    }
    assert!(
        trial
            .ask(As::Nobody, List, "pki/issuers", json!({}))
            .is_ok()
    );
}

#[test]
fn before_there_is_an_issuer_nothing_is_fetched_and_nothing_fails() {
    let mut trial = Trial::new();
    trial.write("sys/mounts/pki", json!({ "type": "pki" }));
    for path in [
        "pki/ca",
        "pki/ca/pem",
        "pki/ca_chain",
        "pki/crl",
        "pki/crl/pem",
    ] {
        assert!(raw(&mut trial, path).body.is_empty(), "{path}");
    }
}

// CVE-2023-0665: issuers were changed by whoever asked.
#[test]
fn nothing_is_changed_without_a_token() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let writes = [
        "pki/issuer/root",
        "pki/issuer/root/json",
        "pki/issuer/root/revoke",
        "pki/issuer/root/sign-verbatim",
        "pki/issue/web",
        "pki/sign/web",
        "pki/revoke",
        "pki/roles/web",
        "pki/config/urls",
        "pki/config/crl",
        "pki/root/generate/internal",
        "pki/root/sign-self-issued",
        "pki/keys/generate/internal",
        "pki/tidy",
        "pki/crl",
        "pki/cert/ca",
    ];
    for path in writes {
        for operation in [Update, Patch, Delete] {
            let data = json!({ "issuer_name": "stolen", "common_name": "a.example.com" });
            assert!(
                trial.ask(As::Nobody, operation, path, data).is_err(),
                "{path}"
            );
        }
    }
    for path in [
        "pki/issuer/root",
        "pki/roles/web",
        "pki/config/crl",
        "pki/crl/rotate",
    ] {
        assert!(
            trial.ask(As::Nobody, Read, path, json!({})).is_err(),
            "{path}"
        );
    }
    for path in ["pki/certs", "pki/roles", "pki/keys", "pki/certs/revoked"] {
        assert!(
            trial.ask(As::Nobody, List, path, json!({})).is_err(),
            "{path}"
        );
    }
    let shown = trial.root(Read, "pki/issuer/root", json!({})).unwrap();
    assert_eq!(shown["issuer_name"], "root");
}

#[test]
fn no_answer_shows_a_key_that_is_internal() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    trial.write("pki/issue/web", json!({ "common_name": "a.example.com" }));
    let key = trial.root(List, "pki/keys", json!({})).unwrap()["keys"][0].clone();
    let key = format!("pki/key/{}", key.as_str().unwrap());
    for path in [
        "pki/issuer/root",
        "pki/cert/ca",
        &key,
        "pki/issuer/root/json",
    ] {
        let shown = trial.root(Read, path, json!({})).unwrap().to_string();
        assert!(
            !shown.contains("PRIVATE") && !shown.contains("pkcs8"),
            "{path}"
        );
    }
}
