use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::{
    Attribute, CrlTemplate, Extensions, KeyKind, Name, Oid, PrivateKey, RevokedEntry, San,
    SignatureScheme, Template, pem, sign_certificate, sign_crl,
};
use serde_json::{Value, json};

use super::*;
use crate::core::pipeline::Envelope;
use crate::core::request::{Peer, Presented};
use crate::core::trial::{As, Trial, text};

const LOGIN: &str = "auth/cert/login";

/// Somebody who can sign: an authority, or a client that pretends to be one.
struct Signer {
    key: PrivateKey,
    name: Vec<u8>,
    der: Vec<u8>,
}

/// What a certificate of a test says.
struct Says<'s> {
    common_name: &'s str,
    unit: &'s str,
    serial: u8,
    is_authority: bool,
    names: &'s [San],
    others: &'s [(Oid, bool, Vec<u8>)],
    life: Duration,
}

impl Default for Says<'_> {
    fn default() -> Self {
        Self {
            common_name: "ci",
            unit: "",
            serial: 7,
            is_authority: false,
            names: &[],
            others: &[],
            life: Duration::from_secs(86_400),
        }
    }
}

fn scheme() -> SignatureScheme {
    KeyKind::P256.scheme(0, false)
}

fn now() -> UnixTime {
    crate::run::server::now()
}

/// Makes a certificate for `key`, signed by `issuer` or, without one, by itself.
fn certify(key: PrivateKey, issuer: Option<&Signer>, says: &Says<'_>) -> Signer {
    let mut name = Name::default();
    name.push(Attribute::CommonName, says.common_name);
    name.push(Attribute::Unit, says.unit);
    let name = name.to_der();
    let template = Template {
        serial: &[says.serial],
        issuer: issuer.map_or(&name, |it| &it.name),
        subject: &name,
        not_before: now(),
        not_after: now().plus(says.life),
        spki: key.public().spki(),
        extensions: Extensions {
            basic_constraints: Some((says.is_authority, None)),
            subject_key_id: &key.public().id(),
            authority_key_id: &issuer.map(|it| it.key.public().id()).unwrap_or_default(),
            names: says.names,
            others: says.others,
            ..Extensions::default()
        },
    };
    let signing = issuer.map_or(&key, |it| &it.key);
    let der = sign_certificate(&template, signing, scheme()).unwrap();
    Signer { key, name, der }
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).unwrap()
}

fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pkcs8(key.pkcs8().unwrap().expose()).unwrap()
}

fn authority(name: &str) -> Signer {
    let says = Says {
        common_name: name,
        is_authority: true,
        serial: 1,
        ..Says::default()
    };
    certify(key(), None, &says)
}

fn client(issuer: &Signer, says: &Says<'_>) -> Signer {
    certify(key(), Some(issuer), says)
}

fn pem_of(signer: &Signer) -> String {
    pem("CERTIFICATE", &signer.der)
}

fn begun(certificate: &Signer, role: Value) -> Trial {
    let mut trial = Trial::new();
    trial.now = now().plus(Duration::from_secs(60));
    trial.write("sys/auth/cert", json!({ "type": "cert" }));
    let mut role = role;
    role["certificate"] = pem_of(certificate).into();
    trial.write("auth/cert/certs/Build", role);
    trial
}

fn request(
    who: As<'_>,
    path: &str,
    data: Value,
    chain: &[&Signer],
) -> crate::core::request::Request {
    let mut request = Trial::request(who, Operation::Update, path, data);
    let chain: Vec<_> = chain.iter().map(|it| it.der.clone()).collect();
    request.peer = Peer {
        presented: (!chain.is_empty()).then(|| Arc::new(Presented { chain })),
        ..Peer::default()
    };
    request
}

fn log_in(trial: &mut Trial, chain: &[&Signer]) -> Result<Envelope, Refusal> {
    trial.send(&request(As::Nobody, LOGIN, json!({}), chain))
}

#[track_caller]
fn refused(trial: &mut Trial, chain: &[&Signer], why: &str) {
    assert_eq!(text(log_in(trial, chain).unwrap_err()), why);
}

#[test]
fn a_certificate_of_a_trusted_authority_makes_a_token() {
    let root = authority("root");
    let ci = client(&root, &Says::default());
    let mut trial = begun(
        &root,
        json!({ "token_policies": "deploy", "token_ttl": 60 }),
    );
    let auth = log_in(&mut trial, &[&ci]).unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "deploy"]));
    assert_eq!(auth["lease_duration"], 60);
    let meta = &auth["metadata"];
    assert_eq!(meta["cert_name"], "build");
    assert_eq!(meta["common_name"], "ci");
    assert_eq!(meta["serial_number"], "7");
    let ids = [ci.key.public().id(), root.key.public().id()].map(|id| with_colons(&id));
    assert_eq!(
        [&meta["subject_key_id"], &meta["authority_key_id"]],
        [&ids[0], &ids[1]]
    );
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let shown = trial
        .ask(
            As::Token(&token),
            Operation::Read,
            "auth/token/lookup-self",
            json!({}),
        )
        .unwrap();
    assert_eq!(shown.data.unwrap()["display_name"], "cert-build");
}

#[test]
fn who_shows_no_certificate_or_one_that_is_not_trusted_is_refused() {
    let [root, other] = ["root", "root"].map(authority);
    let mut trial = begun(&root, json!({}));
    refused(&mut trial, &[], "client certificate must be supplied");
    let stranger = client(&other, &Says::default());
    // To show the trusted authority beside it does not help, nor to show that one alone in front.
    refused(&mut trial, &[&stranger], UNTRUSTED);
    refused(&mut trial, &[&stranger, &root], UNTRUSTED);
    let garbage = Signer {
        key: key(),
        name: Vec::new(),
        der: vec![0x30, 3, 1, 2, 3],
    };
    refused(&mut trial, &[&garbage], UNTRUSTED);
    let good = client(&root, &Says::default());
    log_in(&mut trial, &[&good, &garbage]).unwrap();
}

#[test]
fn a_certificate_is_good_in_its_time_alone() {
    let root = authority("root");
    let says = Says {
        life: Duration::from_secs(120),
        ..Says::default()
    };
    let ci = client(&root, &says);
    let mut trial = begun(&root, json!({}));
    log_in(&mut trial, &[&ci]).unwrap();
    trial.pass(120);
    refused(&mut trial, &[&ci], UNTRUSTED);
    // Nor does one that is trusted by itself outlive its time.
    let own = certify(key(), None, &says);
    let mut trial = begun(&own, json!({}));
    log_in(&mut trial, &[&own]).unwrap();
    trial.pass(120);
    refused(&mut trial, &[&own], UNTRUSTED);
}

#[test]
fn an_authority_between_is_taken_from_what_the_client_shows() {
    let root = authority("root");
    let says = Says {
        common_name: "between",
        is_authority: true,
        serial: 2,
        ..Says::default()
    };
    let between = client(&root, &says);
    let ci = client(&between, &Says::default());
    let mut trial = begun(&root, json!({}));
    refused(&mut trial, &[&ci], UNTRUSTED);
    log_in(&mut trial, &[&ci, &between]).unwrap();
    // A client is no authority, whatever it signs.
    let forged = client(
        &ci,
        &Says {
            common_name: "admin",
            ..Says::default()
        },
    );
    refused(&mut trial, &[&forged, &ci, &between], UNTRUSTED);
}

#[test]
fn a_trusted_leaf_is_itself_and_no_other_of_its_name_serial_authority_or_key() {
    // CVE-2025-6037: a certificate of the same authority was taken for the one that is trusted.
    let root = authority("root");
    let ci = client(&root, &Says::default());
    let mut trial = begun(&ci, json!({}));
    log_in(&mut trial, &[&ci]).unwrap();
    let same_names = client(&root, &Says::default());
    refused(&mut trial, &[&same_names], UNTRUSTED);
    let same_key = certify(
        copy(&ci.key),
        Some(&root),
        &Says {
            unit: "other",
            ..Says::default()
        },
    );
    refused(&mut trial, &[&same_key], UNTRUSTED);
    // Nor is it an authority: what it signs is not trusted, though it bears its name and key.
    let below = client(
        &ci,
        &Says {
            common_name: "admin",
            ..Says::default()
        },
    );
    refused(&mut trial, &[&below, &ci], UNTRUSTED);
    // Nor does another authority with the same key and name make it trusted.
    let twin = certify(
        copy(&ci.key),
        None,
        &Says {
            is_authority: true,
            ..Says::default()
        },
    );
    let below = client(
        &twin,
        &Says {
            common_name: "admin",
            ..Says::default()
        },
    );
    refused(&mut trial, &[&below, &twin], UNTRUSTED);
}

#[test]
fn what_a_role_asks_for_must_all_be_said() {
    let root = authority("root");
    let names = [
        San::Dns("ci.example".to_owned()),
        San::Email("ci@example.org".to_owned()),
        San::Uri("spiffe://example/ci".to_owned()),
    ];
    // UTF8String `blue`.
    let own: Oid = "1.2.3.4".parse().unwrap();
    let others = [(own, false, b"\x0c\x04blue".to_vec())];
    let ci = client(
        &root,
        &Says {
            unit: "build",
            names: &names,
            others: &others,
            ..Says::default()
        },
    );
    for (field, fits, does_not) in [
        ("allowed_common_names", "c*", "CI"),
        ("allowed_names", "x,ci@example.org", "example"),
        ("allowed_dns_sans", "*.example", "*.example.org"),
        ("allowed_email_sans", "*@example.org", "*@example.com"),
        ("allowed_uri_sans", "spiffe://example/*", "spiffe://other/*"),
        ("allowed_organizational_units", "night,build", "builder"),
        ("required_extensions", "1.2.3.4:bl*", "1.2.3.4:green"),
        (
            "required_extensions",
            "hex:1.2.3.4:0C04*",
            "hex:1.2.3.4:0d*",
        ),
        ("required_extensions", "1.2.3.4:*", "1.2.3.4:*,1.2.3.5:*"),
    ] {
        let mut trial = begun(&root, json!({ field: fits }));
        assert!(log_in(&mut trial, &[&ci]).is_ok(), "{field} = {fits}");
        let mut trial = begun(&root, json!({ field: does_not }));
        assert_eq!(
            text(log_in(&mut trial, &[&ci]).unwrap_err()),
            UNFIT,
            "{field} = {does_not}"
        );
    }
    // What a certificate does not say at all fits nothing.
    let plain = client(&root, &Says::default());
    let mut trial = begun(&root, json!({ "allowed_uri_sans": "*" }));
    refused(&mut trial, &[&plain], UNFIT);
    let metadata = json!({ "allowed_metadata_extensions": "1.2.3.4,1.2.3.5" });
    let mut trial = begun(&root, metadata);
    let auth = log_in(&mut trial, &[&ci]).unwrap().auth.unwrap();
    assert_eq!(auth["metadata"]["1-2-3-4"], "blue");
    assert!(auth["metadata"].get("1-2-3-5").is_none());
}

fn crl(issuer: &Signer, serials: &[u8]) -> String {
    let revoked: Vec<_> = serials
        .iter()
        .map(|serial| RevokedEntry {
            serial: vec![*serial],
            at: now(),
        })
        .collect();
    let template = CrlTemplate {
        issuer: &issuer.name,
        key_id: &issuer.key.public().id(),
        number: 1,
        base: None,
        delta_points: &[],
        this_update: now(),
        next_update: now().plus(Duration::from_secs(60)),
        revoked: &revoked,
    };
    pem(
        "X509 CRL",
        &sign_crl(&template, &issuer.key, scheme()).unwrap(),
    )
}

#[test]
fn a_revoked_certificate_is_refused_and_so_is_what_a_revoked_authority_signed() {
    // CVE-2022-41316: lists were not loaded at a start. Here each login reads what is stored.
    let root = authority("root");
    let between = client(
        &root,
        &Says {
            common_name: "between",
            is_authority: true,
            serial: 2,
            ..Says::default()
        },
    );
    let ci = client(
        &root,
        &Says {
            serial: 7,
            ..Says::default()
        },
    );
    let below = client(
        &between,
        &Says {
            serial: 8,
            ..Says::default()
        },
    );
    let mut trial = begun(&root, json!({}));
    log_in(&mut trial, &[&ci]).unwrap();
    log_in(&mut trial, &[&below, &between]).unwrap();
    trial.write("auth/cert/crls/root", json!({ "crl": crl(&root, &[7, 9]) }));
    refused(&mut trial, &[&ci], UNFIT);
    log_in(&mut trial, &[&below, &between]).unwrap();
    let shown = trial
        .root(Operation::Read, "auth/cert/crls/root", json!({}))
        .unwrap();
    assert_eq!(shown["serials"], json!({ "7": {}, "9": {} }));
    // A new list takes the place of the old one.
    trial.write("auth/cert/crls/root", json!({ "crl": crl(&root, &[2]) }));
    log_in(&mut trial, &[&ci]).unwrap();
    refused(&mut trial, &[&below, &between], UNFIT);
    // Also where the leaf is trusted by itself.
    trial.write("auth/cert/crls/more", json!({ "crl": crl(&root, &[7]) }));
    trial.write(
        "auth/cert/certs/leaf",
        json!({ "certificate": pem_of(&ci) }),
    );
    refused(&mut trial, &[&ci], UNFIT);
    trial
        .root(Operation::Delete, "auth/cert/crls/more", json!({}))
        .unwrap();
    log_in(&mut trial, &[&ci]).unwrap();
    let garbage = trial.root(
        Operation::Update,
        "auth/cert/crls/x",
        json!({ "crl": "nothing" }),
    );
    assert!(text(garbage.unwrap_err()).contains("failed to parse CRL"));
}

#[test]
fn a_login_that_names_a_role_is_judged_by_that_role_alone() {
    let [root, other] = ["root", "other"].map(authority);
    let ci = client(&root, &Says::default());
    let mut trial = begun(&root, json!({}));
    let role = json!({ "certificate": pem_of(&other), "token_policies": "more" });
    trial.write("auth/cert/certs/a-first", role);
    let login = |trial: &mut Trial, name: &str| {
        trial.send(&request(As::Nobody, LOGIN, json!({ "name": name }), &[&ci]))
    };
    assert!(login(&mut trial, "BUILD").is_ok());
    assert_eq!(text(login(&mut trial, "a-first").unwrap_err()), UNTRUSTED);
    assert_eq!(text(login(&mut trial, "nobody").unwrap_err()), UNTRUSTED);
    // Without a name the first that fits is taken, not the first.
    let auth = log_in(&mut trial, &[&ci]).unwrap().auth.unwrap();
    assert_eq!(auth["metadata"]["cert_name"], "build");
}

#[test]
fn a_token_is_renewed_with_the_certificate_it_was_made_with_and_no_other() {
    // CVE-2024-2048 and CVE-2026-39388: another certificate of the same authority and name renewed it.
    let root = authority("root");
    let ci = client(&root, &Says::default());
    let mut trial = begun(&root, json!({ "token_ttl": 60, "token_max_ttl": 600 }));
    let auth = log_in(&mut trial, &[&ci]).unwrap().auth.unwrap();
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let renew = |trial: &mut Trial, chain: &[&Signer]| {
        let path = "auth/token/renew-self";
        trial.send(&request(As::Token(&token), path, json!({}), chain))
    };
    renew(&mut trial, &[&ci]).unwrap();
    let twin = client(&root, &Says::default());
    let not_the_same =
        "client identity during renewal not matching client identity used during login";
    assert_eq!(text(renew(&mut trial, &[&twin]).unwrap_err()), not_the_same);
    assert!(renew(&mut trial, &[]).is_err());
    trial.write("auth/cert/crls/root", json!({ "crl": crl(&root, &[7]) }));
    assert_eq!(text(renew(&mut trial, &[&ci]).unwrap_err()), UNFIT);
    trial
        .root(Operation::Delete, "auth/cert/crls/root", json!({}))
        .unwrap();
    trial.write("auth/cert/config", json!({ "disable_binding": true }));
    renew(&mut trial, &[]).unwrap();
    trial.write(
        "auth/cert/certs/build",
        json!({ "token_policies": "other" }),
    );
    assert_eq!(
        text(renew(&mut trial, &[&ci]).unwrap_err()),
        "policies have changed, not renewing"
    );
    trial
        .root(Operation::Delete, "auth/cert/certs/build", json!({}))
        .unwrap();
    assert!(renew(&mut trial, &[&ci]).is_err());
}

#[test]
fn a_name_that_looks_like_another_is_nobodys() {
    let root = authority("root");
    let mut trial = begun(&root, json!({}));
    for name in [" ci", "ci ", "c\u{7}i", "ci\n"] {
        let odd = client(
            &root,
            &Says {
                common_name: name,
                ..Says::default()
            },
        );
        refused(&mut trial, &[&odd], UNFIT);
    }
}

#[test]
fn a_node_of_this_cluster_is_no_stranger() {
    // Its certificate is not handed on: what it shows is its identity.
    let root = authority("root");
    let mut trial = begun(&root, json!({}));
    let node = crate::core::request::Identity::Node(bastide_api::NodeId::from_bytes([1; 16]));
    let login = trial.ask(As::Machine(node), Operation::Update, LOGIN, json!({}));
    assert_eq!(
        text(login.unwrap_err()),
        "client certificate must be supplied"
    );
}

#[test]
fn a_role_is_read_as_it_was_written_and_config_too() {
    let root = authority("root");
    let mut trial = begun(&root, json!({ "allowed_dns_sans": ["a", "b"] }));
    let shown = trial
        .root(Operation::Read, "auth/cert/certs/build", json!({}))
        .unwrap();
    assert_eq!(shown["display_name"], "build");
    assert_eq!(shown["allowed_dns_sans"], json!(["a", "b"]));
    assert_eq!(shown["certificate"], pem_of(&root));
    let keys = trial
        .root(Operation::List, "auth/cert/certs", json!({}))
        .unwrap();
    assert_eq!(keys["keys"], json!(["build"]));
    for (fields, why) in [
        (json!({}), "failed to parse certificate"),
        (
            json!({ "certificate": "nothing" }),
            "failed to parse certificate",
        ),
        (
            json!({ "certificate": pem_of(&root), "ocsp_enabled": true }),
            "ocsp_enabled: OCSP is not asked",
        ),
        (
            json!({ "certificate": pem_of(&root), "ocsp_servers_override": ["http://o"] }),
            "ocsp_servers_override: OCSP is not asked",
        ),
        (
            json!({ "certificate": pem_of(&root), "ocsp_ca_certificates": "PEM" }),
            "ocsp_ca_certificates: OCSP is not asked",
        ),
        (
            json!({ "certificate": pem_of(&root), "required_extensions": "1.2" }),
            "oid:value",
        ),
    ] {
        let refused = trial.root(Operation::Update, "auth/cert/certs/x", fields.clone());
        assert!(text(refused.unwrap_err()).contains(why), "{fields}");
    }
    // What clients send who want none of it.
    let defaults = json!({
        "certificate": pem_of(&root), "ocsp_enabled": false, "ocsp_servers_override": [],
        "ocsp_ca_certificates": "", "ocsp_fail_open": false, "ocsp_query_all_servers": false,
    });
    trial.write("auth/cert/certs/x", defaults);
    let config = trial
        .root(Operation::Read, "auth/cert/config", json!({}))
        .unwrap();
    assert_eq!(config["disable_binding"], false);
    trial.write("auth/cert/config", json!({ "disable_binding": "true" }));
    let config = trial
        .root(Operation::Read, "auth/cert/config", json!({}))
        .unwrap();
    assert_eq!(config["disable_binding"], true);
}
