use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::core::outside::{answered, failed};
use crate::core::pipeline::Envelope;
use crate::core::trial::{As, Trial, text};

const LOGIN: &str = "auth/jwt/login";

/// Somebody who signs tokens with P-256.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(pair.unwrap())
    }

    fn pem(&self) -> String {
        use aws_lc_rs::encoding::AsDer;
        let spki = self.0.public_key().as_der().unwrap();
        bastide_pki::x509::pem("PUBLIC KEY", spki.as_ref())
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
            "x": part(&point[1..33]), "y": part(&point[33..]),
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

fn signed_part(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn es256() -> Value {
    json!({ "alg": "ES256", "typ": "JWT" })
}

fn secs(trial: &Trial) -> i64 {
    trial.now.as_secs().try_into().unwrap()
}

fn claims(trial: &Trial, more: Value) -> Value {
    let now = secs(trial);
    let mut claims = json!({ "sub": "ada", "aud": "bastide", "iat": now, "exp": now + 300 });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

fn begun(config: Value, role: Value) -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/jwt", json!({ "type": "jwt" }));
    trial.write("auth/jwt/config", config);
    let mut all = json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": "bastide" });
    all.as_object_mut()
        .unwrap()
        .extend(role.as_object().unwrap().clone());
    trial.write("auth/jwt/role/ci", all);
    trial
}

fn with_key(issuer: &Issuer, role: Value) -> Trial {
    begun(
        json!({ "jwt_validation_pubkeys": [issuer.pem()], "default_role": "CI" }),
        role,
    )
}

fn log_in(trial: &mut Trial, token: &str) -> Result<Envelope, Refusal> {
    let fields = json!({ "role": "ci", "jwt": token });
    trial.ask(As::Nobody, Operation::Update, LOGIN, fields)
}

#[track_caller]
fn refused(trial: &mut Trial, token: &str, why: &str) {
    let said = text(log_in(trial, token).unwrap_err());
    assert!(said.contains(why), "{said} does not say {why}");
}

#[test]
fn a_token_that_a_known_key_signed_makes_one_of_ours() {
    let issuer = Issuer::new();
    let role = json!({
        "token_policies": "reader", "groups_claim": "/nested/groups",
        "claim_mappings": { "mail": "email", "/nested/level": "level", "absent": "x" },
    });
    let mut trial = with_key(&issuer, role);
    let more = json!({
        "mail": "ada@example.org", "nested": { "groups": ["dev", "ops"], "level": 3 },
    });
    let token = issuer.sign(&es256(), &claims(&trial, more));
    let auth = log_in(&mut trial, &token).unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "reader"]));
    let metadata = json!({ "role": "ci", "email": "ada@example.org", "level": "3" });
    assert_eq!(auth["metadata"], metadata);
    // The default role serves who names none.
    let fields = json!({ "jwt": token });
    trial
        .ask(As::Nobody, Operation::Update, LOGIN, fields)
        .unwrap();
}

const PYJWT: &str = r#"
import json, jwt
from cryptography.hazmat.primitives.asymmetric import rsa, ec, ed25519
from cryptography.hazmat.primitives import serialization as s
from jwt.algorithms import get_default_algorithms
r = rsa.generate_private_key(65537, 2048)
k = {a: r for a in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")}
k.update(ES256=ec.generate_private_key(ec.SECP256R1()), ES384=ec.generate_private_key(ec.SECP384R1()),
         ES512=ec.generate_private_key(ec.SECP521R1()), EdDSA=ed25519.Ed25519PrivateKey.generate())
for alg, key in k.items():
    pub = key.public_key()
    pem = pub.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode()
    jwk = get_default_algorithms()[alg].to_jwk(pub)
    jwk = json.loads(jwk) if isinstance(jwk, str) else jwk
    token = jwt.encode({"sub": "ada", "n": 1}, key, algorithm=alg, headers={"kid": alg})
    print(json.dumps({"alg": alg, "pem": pem, "jwk": jwk, "token": token}))
"#;

#[test]
fn tokens_of_pyjwt_are_believed_with_their_own_key_and_algorithm_alone() {
    // Debian's own interpreter is the one that Debian's packages are for.
    let ran = ["/usr/bin/python3", "python3"]
        .into_iter()
        .find_map(|python| {
            let ran = Command::new(python).args(["-c", PYJWT]).output();
            ran.ok().filter(|ran| ran.status.success())
        });
    let Some(ran) = ran else {
        println!("skipped: python3 with PyJWT is missing");
        return;
    };
    let lines = String::from_utf8(ran.stdout).unwrap();
    let made: Vec<Value> = lines
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(made.len(), ALGS.len());
    let every: Vec<Alg> = ALGS.iter().map(|(alg, _)| *alg).collect();
    for one in &made {
        let alg = Alg::parse(one["alg"].as_str().unwrap()).unwrap();
        let mut jwk = one["jwk"].clone();
        jwk.as_object_mut().unwrap().remove("key_ops");
        let set = json!({ "keys": [jwk] }).to_string();
        let from_set = Key::set(set.as_bytes()).unwrap();
        assert_eq!(from_set.len(), 1, "{alg:?}");
        let from_pem = vec![Key::from_pem(one["pem"].as_str().unwrap()).unwrap()];
        for other in &made {
            let text = other["token"].as_str().unwrap();
            let token = Unproven::read(text).unwrap();
            for keys in [&from_set, &from_pem] {
                let verified = token.verify(keys, &every);
                // All RSA tokens are of one key here.
                let kin = one["pem"] == other["pem"];
                assert_eq!(
                    verified.is_ok(),
                    kin,
                    "{} by the key of {alg:?}",
                    other["alg"]
                );
                if other["alg"] == one["alg"] {
                    assert!(token.verify(keys, &[alg]).is_ok());
                    let others: Vec<_> = every.iter().copied().filter(|it| *it != alg).collect();
                    let refused = token.verify(keys, &others).unwrap_err();
                    assert_eq!(refused, TokenError::Algorithm);
                }
            }
        }
        // One bit anywhere makes it another token.
        let text = one["token"].as_str().unwrap();
        for at in [text.find('.').unwrap() + 3, text.len() - 10] {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let token = Unproven::read(&changed).unwrap();
            assert_eq!(
                token.verify(&from_pem, &every).unwrap_err(),
                TokenError::Signature
            );
        }
    }
}

#[test]
fn a_token_that_is_not_signed_or_by_something_that_is_no_secret_is_refused() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({}));
    let said = claims(&trial, json!({}));
    let not_allowed = "an algorithm that is not allowed";
    for alg in ["none", "None", "NONE", "nOnE", "", "es256", "ES256K"] {
        let header = json!({ "alg": alg });
        refused(&mut trial, &issuer.sign(&header, &said), not_allowed);
        refused(
            &mut trial,
            &format!("{}.", signed_part(&header, &said)),
            not_allowed,
        );
    }
    refused(&mut trial, &issuer.sign(&json!({}), &said), not_allowed);
    // The public key as the secret of an HMAC: the confusion of algorithms.
    let header = json!({ "alg": "HS256" });
    let signed = signed_part(&header, &said);
    for secret in [issuer.pem(), format!("{}\n", issuer.pem())] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
        refused(&mut trial, &token, not_allowed);
    }
    for header in [
        json!({ "alg": "ES256", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "ES256", "crit": [] }),
        json!({ "alg": "ES256", "b64": false }),
    ] {
        refused(&mut trial, &issuer.sign(&header, &said), "critical");
    }
    refused(
        &mut trial,
        &Issuer::new().sign(&es256(), &said),
        "no known key",
    );
    let good = issuer.sign(&es256(), &said);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for wrong in [
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        "..".to_owned(),
        "e30.e30.e30.e30.e30".to_owned(),
        "x".repeat(token::TOKEN_BYTES_MAX + 1),
    ] {
        assert!(log_in(&mut trial, &wrong).is_err(), "{wrong}");
    }
    // A signature of zeros (CVE-2022-21449 believed it).
    refused(
        &mut trial,
        &format!("{signed}.{}", BASE64URL_NOPAD.encode(&[0; 64])),
        "no known key",
    );
    log_in(&mut trial, &good).unwrap();
}

#[test]
fn a_token_is_good_in_its_time_alone() {
    let issuer = Issuer::new();
    // The leeways, what the token says from now on, and why it is refused.
    let (default, none) = (
        json!({}),
        json!({
            "clock_skew_leeway": -1, "expiration_leeway": "-1s", "not_before_leeway": -1,
        }),
    );
    let (expired, early) = ("token is expired", "not yet valid");
    for (leeways, times, why) in [
        (&default, json!({ "exp": -59 }), None),
        (&default, json!({ "exp": -60 }), Some(expired)),
        (&none, json!({ "exp": 1, "iat": 0 }), None),
        (&none, json!({ "exp": 0, "iat": 0 }), Some(expired)),
        (&default, json!({ "exp": 300, "nbf": 60 }), None),
        (&default, json!({ "exp": 300, "nbf": 61 }), Some(early)),
        (&none, json!({ "exp": 300, "nbf": 1 }), Some(early)),
        (&none, json!({ "exp": 300, "nbf": 0 }), None),
        (
            &none,
            json!({ "exp": 300, "nbf": 0, "iat": 5 }),
            Some("issued in the future"),
        ),
        // What is not said follows from what is.
        (&default, json!({ "iat": -150 }), None),
        (&default, json!({ "iat": -210 }), Some(expired)),
        (&default, json!({ "nbf": -149 }), None),
        (&none, json!({ "iat": 0 }), Some(expired)),
        (&default, json!({ "exp": 210 }), None),
        // As in Vault: nobody would say when it began.
        (&default, json!({ "exp": 211 }), Some(early)),
        (&default, json!({}), Some("no issued at")),
    ] {
        let mut trial = with_key(&issuer, leeways.clone());
        let mut said = json!({ "sub": "ada", "aud": "bastide" });
        for (name, offset) in times.as_object().unwrap() {
            said[name] = (secs(&trial) + offset.as_i64().unwrap()).into();
        }
        let token = issuer.sign(&es256(), &said);
        match (log_in(&mut trial, &token), why) {
            (Ok(_), None) => {}
            (Err(refusal), Some(why)) => {
                let said = text(refusal);
                assert!(said.contains(why), "{times}: {said}");
            }
            (Ok(_), Some(why)) => panic!("{times} was granted: {why}"),
            (Err(refusal), None) => panic!("{times}: {}", text(refusal)),
        }
    }
    let mut trial = with_key(&issuer, json!({}));
    for odd in [json!("soon"), json!(1e300), json!([1]), json!({})] {
        let token = issuer.sign(&es256(), &claims(&trial, json!({ "exp": odd })));
        refused(&mut trial, &token, "not a number");
    }
    let far = issuer.sign(
        &es256(),
        &claims(&trial, json!({ "exp": i64::MAX, "nbf": i64::MIN })),
    );
    log_in(&mut trial, &far).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_a_role_is_bound_to_must_be_said() {
    let issuer = Issuer::new();
    for (role, said, fits) in [
        (json!({}), json!({}), true),
        (json!({}), json!({ "aud": ["other", "bastide"] }), true),
        (json!({}), json!({ "aud": "other" }), false),
        (json!({}), json!({ "aud": [] }), false),
        (json!({}), json!({ "aud": { "bastide": 1 } }), false),
        (
            json!({ "bound_audiences": [], "bound_subject": "ada" }),
            json!({}),
            false,
        ),
        (json!({ "bound_subject": "ada" }), json!({}), true),
        (json!({ "bound_subject": "bob" }), json!({}), false),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": "dev" }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": ["x", "dev"] }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": ["dev", "ops"] } }),
            json!({ "team": "ops" }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": "Dev" }),
            false,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({}),
            false,
        ),
        (
            json!({ "bound_claims": { "team": "d*" } }),
            json!({ "team": "dev" }),
            false,
        ),
        (
            json!({ "bound_claims": { "on": true } }),
            json!({ "on": true }),
            true,
        ),
        (
            json!({ "bound_claims": { "on": true } }),
            json!({ "on": "true" }),
            false,
        ),
        (
            json!({ "bound_claims": { "/a/b": "c" } }),
            json!({ "a": { "b": "c" } }),
            true,
        ),
        (
            json!({ "bound_claims": { "/a/b": "c" } }),
            json!({ "a": "c" }),
            false,
        ),
        (
            json!({ "bound_claims": { "ref": "refs/*/main" }, "bound_claims_type": "glob" }),
            json!({ "ref": "refs/heads/main" }),
            true,
        ),
        (
            json!({ "bound_claims": { "ref": "refs/*/main" }, "bound_claims_type": "glob" }),
            json!({ "ref": "refs/heads/main2" }),
            false,
        ),
        (json!({ "groups_claim": "groups" }), json!({}), false),
        (
            json!({ "groups_claim": "groups" }),
            json!({ "groups": [1] }),
            false,
        ),
        (
            json!({ "groups_claim": "groups" }),
            json!({ "groups": "one" }),
            true,
        ),
        (json!({ "user_claim": "name" }), json!({}), false),
        (json!({ "user_claim": "name" }), json!({ "name": 7 }), false),
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "" }),
            false,
        ),
        // A name that looks like another is nobody's.
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "ada " }),
            false,
        ),
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "ad\u{8}a" }),
            false,
        ),
        (
            json!({ "user_claim": "/a/name" }),
            json!({ "a": { "name": "x" } }),
            false,
        ),
        (
            json!({ "user_claim": "/a/name", "user_claim_json_pointer": true }),
            json!({ "a": { "name": "x" } }),
            true,
        ),
        (
            json!({ "claim_mappings": { "l": "l" } }),
            json!({ "l": ["list"] }),
            false,
        ),
        (
            json!({ "token_bound_cidrs": "10.0.0.0/8" }),
            json!({}),
            false,
        ),
    ] {
        let mut trial = with_key(&issuer, role.clone());
        let token = issuer.sign(&es256(), &claims(&trial, said.clone()));
        assert_eq!(
            log_in(&mut trial, &token).is_ok(),
            fits,
            "{role} and {said}"
        );
    }
}

#[test]
fn the_issuer_is_judged_where_it_is_bound() {
    let issuer = Issuer::new();
    let config = json!({ "jwt_validation_pubkeys": issuer.pem(), "bound_issuer": "https://a" });
    let mut trial = begun(config, json!({}));
    for (iss, fits) in [
        (json!("https://a"), true),
        (json!("https://b"), false),
        (Value::Null, false),
    ] {
        let token = issuer.sign(&es256(), &claims(&trial, json!({ "iss": iss })));
        assert_eq!(log_in(&mut trial, &token).is_ok(), fits, "{iss}");
    }
}

/// Makes the network of a trial: what stands where, and a list of what was asked for.
fn network(trial: &mut Trial, documents: &[(&str, Value)]) -> Arc<Mutex<Vec<(String, Age)>>> {
    let documents: Vec<_> = documents
        .iter()
        .map(|(url, document)| ((*url).to_owned(), document.to_string()))
        .collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    trial.outside = Box::new(move |work| {
        let Work::Fetch(fetch) = work else {
            return failed("nothing else is asked for");
        };
        heard.lock().unwrap().push((fetch.url.clone(), fetch.age));
        let found = documents.iter().find(|(url, _)| *url == fetch.url);
        found.map_or_else(
            || failed("it answered 404"),
            |(_, body)| answered(body.as_bytes()),
        )
    });
    asked
}

#[test]
fn keys_are_fetched_and_fetched_anew_when_a_token_names_another() {
    let [old, new] = [Issuer::new(), Issuer::new()];
    let mut trial = Trial::new();
    trial.write("sys/auth/jwt", json!({ "type": "jwt" }));
    let url = "https://id.example/keys";
    let config = json!({ "jwks_url": url, "jwt_supported_algs": "ES256" });
    let gone = trial.root(Operation::Update, "auth/jwt/config", config.clone());
    assert!(text(gone.unwrap_err()).starts_with("error checking jwks URL"));
    let asked = network(&mut trial, &[(url, json!({ "keys": [old.jwk("old")] }))]);
    trial.write("auth/jwt/config", config);
    trial.write(
        "auth/jwt/role/ci",
        json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": "bastide" }),
    );
    asked.lock().unwrap().clear();
    let said = claims(&trial, json!({}));
    let named = |kid: &str| json!({ "alg": "ES256", "kid": kid });
    log_in(&mut trial, &old.sign(&named("old"), &said)).unwrap();
    assert_eq!(*asked.lock().unwrap(), [(url.to_owned(), Age::Minutes)]);
    // Under another key's name the right key does not count.
    refused(&mut trial, &old.sign(&named("new"), &said), "no known key");
    asked.lock().unwrap().clear();
    refused(&mut trial, &new.sign(&named("new"), &said), "no known key");
    let twice = [
        (url.to_owned(), Age::Minutes),
        (url.to_owned(), Age::Seconds),
    ];
    assert_eq!(*asked.lock().unwrap(), twice);
    network(
        &mut trial,
        &[(url, json!({ "keys": [old.jwk("old"), new.jwk("new")] }))],
    );
    log_in(&mut trial, &new.sign(&named("new"), &said)).unwrap();
    // An algorithm that is not allowed is refused before anybody is asked.
    let asked = network(&mut trial, &[]);
    refused(
        &mut trial,
        &new.sign(&json!({ "alg": "RS256" }), &said),
        "not allowed",
    );
    assert!(asked.lock().unwrap().is_empty());
    refused(
        &mut trial,
        &new.sign(&named("new"), &said),
        "keys could not be fetched",
    );
}

#[test]
fn a_provider_is_believed_only_about_itself() {
    let issuer = Issuer::new();
    let base = "https://id.example/a";
    let about = |issuer: &str| json!({ "issuer": issuer, "jwks_uri": "https://id.example/a/keys" });
    let discovery = "https://id.example/a/.well-known/openid-configuration";
    let mut trial = Trial::new();
    trial.write("sys/auth/oidc", json!({ "type": "oidc" }));
    let config = json!({ "oidc_discovery_url": base, "jwt_supported_algs": "ES256" });
    network(&mut trial, &[(discovery, about("https://other.example"))]);
    let other = trial.root(Operation::Update, "auth/oidc/config", config.clone());
    assert!(text(other.unwrap_err()).contains("issuer is not the discovery URL"));
    let keys = json!({ "keys": [issuer.jwk("1")] });
    network(
        &mut trial,
        &[
            (discovery, about(base)),
            ("https://id.example/a/keys", keys),
        ],
    );
    trial.write("auth/oidc/config", config);
    let role = json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": "bastide" });
    trial.write("auth/oidc/role/ci", role);
    for (iss, fits) in [
        (json!(base), true),
        (json!("https://other.example"), false),
        (Value::Null, false),
    ] {
        let token = issuer.sign(&es256(), &claims(&trial, json!({ "iss": iss })));
        let fields = json!({ "role": "ci", "jwt": token });
        let login = trial.ask(As::Nobody, Operation::Update, "auth/oidc/login", fields);
        assert_eq!(login.is_ok(), fits, "{iss}");
    }
}

#[test]
fn configurations_and_roles_that_would_let_in_anybody_are_refused() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({}));
    let pem = issuer.pem();
    for (config, why) in [
        (json!({}), "exactly one of"),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwks_url": "https://a" }),
            "exactly one of",
        ),
        (
            json!({ "jwt_validation_pubkeys": "nothing" }),
            "error parsing public key",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwt_supported_algs": "none" }),
            "unsupported",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwt_supported_algs": "HS256" }),
            "unsupported",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "oidc_client_id": "x" }),
            "both",
        ),
    ] {
        let refused = trial.root(Operation::Update, "auth/jwt/config", config.clone());
        let said = text(refused.unwrap_err());
        assert!(said.contains(why), "{config}: {said}");
    }
    for (role, why) in [
        (
            json!({ "role_type": "jwt", "user_claim": "sub" }),
            "at least one bound constraint",
        ),
        (
            json!({ "role_type": "jwt", "bound_subject": "a" }),
            "a user claim must be defined",
        ),
        (
            json!({ "role_type": "saml", "user_claim": "sub" }),
            "invalid 'role_type'",
        ),
        (
            json!({ "user_claim": "sub" }),
            "'allowed_redirect_uris' must be set",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_subject": "a",
                "claim_mappings": { "a": "role" } }),
            "reserved",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_subject": "a",
                "claim_mappings": { "a": "x", "b": "x" } }),
            "multiple keys",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_claims": { "a": 1 },
                "bound_claims_type": "glob" }),
            "must be strings",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_claims": { "a": [] } }),
            "neither a value nor a list",
        ),
    ] {
        let refused = trial.root(Operation::Update, "auth/jwt/role/x", role.clone());
        let said = text(refused.unwrap_err());
        assert!(said.contains(why), "{role}: {said}");
    }
    let oidc = json!({ "user_claim": "sub", "allowed_redirect_uris": "http://localhost:8250" });
    trial.write("auth/jwt/role/web", oidc);
    let token = issuer.sign(&es256(), &claims(&trial, json!({})));
    let login = json!({ "role": "web", "jwt": token });
    let login = trial.ask(As::Nobody, Operation::Update, LOGIN, login);
    assert_eq!(
        text(login.unwrap_err()),
        "role with oidc role_type is not allowed"
    );
}

#[test]
fn the_clients_secret_is_not_shown() {
    let issuer = Issuer::new();
    let config = json!({
        "jwt_validation_pubkeys": issuer.pem(), "oidc_client_id": "me", "oidc_client_secret": "hush",
    });
    let mut trial = begun(config, json!({}));
    let shown = trial
        .root(Operation::Read, "auth/jwt/config", json!({}))
        .unwrap();
    assert_eq!(shown["oidc_client_id"], "me");
    assert!(!shown.to_string().contains("hush"));
}

#[test]
fn a_token_is_renewed_as_its_role_says_now() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({ "token_ttl": 60 }));
    let token = issuer.sign(&es256(), &claims(&trial, json!({})));
    let auth = log_in(&mut trial, &token).unwrap().auth.unwrap();
    let ours = auth["client_token"].as_str().unwrap().to_owned();
    let renew = |trial: &mut Trial| {
        let path = "auth/token/renew-self";
        trial.ask(As::Token(&ours), Operation::Update, path, json!({}))
    };
    trial.write("auth/jwt/role/ci", json!({ "token_ttl": 90 }));
    assert_eq!(
        renew(&mut trial).unwrap().auth.unwrap()["lease_duration"],
        90
    );
    trial.write("auth/jwt/role/ci", json!({ "token_policies": "less" }));
    assert!(text(renew(&mut trial).unwrap_err()).contains("policies have changed"));
    trial
        .root(Operation::Delete, "auth/jwt/role/ci", json!({}))
        .unwrap();
    assert!(text(renew(&mut trial).unwrap_err()).contains("does not exist during renewal"));
}

#[test]
fn a_role_is_read_as_it_was_written() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({ "bound_claims": { "a": [1, 2] } }));
    let shown = trial
        .root(Operation::Read, "auth/jwt/role/CI", json!({}))
        .unwrap();
    assert_eq!(shown["bound_claims"], json!({ "a": [1, 2] }));
    assert_eq!(shown["bound_audiences"], json!(["bastide"]));
    assert_eq!(shown["user_claim"], "sub");
    assert_eq!(shown["claim_mappings"], Value::Null);
    let keys = trial
        .root(Operation::List, "auth/jwt/role", json!({}))
        .unwrap();
    assert_eq!(keys["keys"], json!(["ci"]));
}

#[test]
fn sets_of_keys_are_read_with_care() {
    let issuer = Issuer::new();
    let count =
        |keys: Value| Key::set(json!({ "keys": keys }).to_string().as_bytes()).map(|it| it.len());
    assert_eq!(count(json!([issuer.jwk("a")])), Some(1));
    for (field, value) in [
        ("use", json!("enc")),
        ("kty", json!("oct")),
        ("crv", json!("secp256k1")),
        ("alg", json!("HS256")),
        ("x", json!("A".repeat(44))),
        ("y", json!("not base64!")),
    ] {
        let mut jwk = issuer.jwk("a");
        jwk[field] = value;
        assert_eq!(count(json!([jwk])), Some(0), "{field}");
    }
    assert_eq!(count(json!(vec![issuer.jwk("a"); KEYS_MAX + 1])), None);
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#] {
        assert!(Key::set(wrong.as_bytes()).is_none(), "{wrong}");
    }
}
