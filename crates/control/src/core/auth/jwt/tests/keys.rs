//! Where keys come from.

use std::sync::{Arc, Mutex};

use super::*;
use crate::core::auth::jwt::keys::{KEYS_MAX, Key};
use crate::core::outside::{answered, failed};
use crate::core::refusal::Work;

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
fn keys_come_from_several_sets_as_long_as_one_can_be_had() {
    let [one, two] = [Issuer::new(), Issuer::new()];
    let mut trial = Trial::new();
    trial.write("sys/auth/jwt", json!({ "type": "jwt" }));
    let urls = ["https://one.example/keys", "https://two.example/keys"];
    let pairs = json!([
        { "jwks_url": urls[0] },
        { "jwks_url": urls[1], "jwks_ca_pem": "PEM" },
    ]);
    let config = json!({ "jwks_pairs": pairs, "jwt_supported_algs": "ES256" });
    let sets = [one.jwk("one"), two.jwk("two")].map(|jwk| json!({ "keys": [jwk] }));
    network(&mut trial, &[(urls[0], sets[0].clone())]);
    let half = trial.root(Operation::Update, "auth/jwt/config", config.clone());
    assert!(text(half.unwrap_err()).starts_with("error checking jwks URL"));
    let [first, second] = sets;
    network(&mut trial, &[(urls[0], first), (urls[1], second.clone())]);
    trial.write("auth/jwt/config", config);
    let shown = trial.root(Operation::Read, "auth/jwt/config", json!({}));
    assert_eq!(shown.unwrap()["jwks_pairs"][1]["jwks_url"], json!(urls[1]));
    trial.write(
        "auth/jwt/role/ci",
        json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": "bastide" }),
    );
    let said = claims(&trial, json!({}));
    let tokens = [&one, &two].map(|issuer| issuer.sign(&es256(), &said));
    for token in &tokens {
        log_in(&mut trial, token).unwrap();
    }
    refused(
        &mut trial,
        &Issuer::new().sign(&es256(), &said),
        "no known key",
    );
    network(&mut trial, &[(urls[1], second)]);
    log_in(&mut trial, &tokens[1]).unwrap();
    refused(&mut trial, &tokens[0], "no known key");
    network(&mut trial, &[]);
    refused(&mut trial, &tokens[1], "keys could not be fetched");
    for wrong in [
        json!({ "jwks_pairs": [{ "jwks_ca_pem": "PEM" }] }),
        json!({ "jwks_pairs": [{ "jwks_url": "https://a", "more": 1 }] }),
        json!({ "jwks_pairs": "https://a" }),
        json!({ "jwks_pairs": vec![json!({ "jwks_url": "https://a" }); 17] }),
        json!({ "jwks_pairs": [{ "jwks_url": "https://a" }], "jwks_url": "https://a" }),
    ] {
        let refused = trial.root(Operation::Update, "auth/jwt/config", wrong.clone());
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{wrong}");
    }
}

#[test]
fn the_clients_secret_is_not_shown() {
    let mut trial = Trial::new();
    trial.write("sys/auth/jwt", json!({ "type": "jwt" }));
    let base = "https://id.example";
    let about = json!({ "issuer": base, "jwks_uri": "https://id.example/keys" });
    network(
        &mut trial,
        &[("https://id.example/.well-known/openid-configuration", about)],
    );
    let config = json!({
        "oidc_discovery_url": base, "oidc_client_id": "me", "oidc_client_secret": "hush",
    });
    trial.write("auth/jwt/config", config);
    let shown = trial
        .root(Operation::Read, "auth/jwt/config", json!({}))
        .unwrap();
    assert_eq!(shown["oidc_client_id"], "me");
    assert!(!shown.to_string().contains("hush"));
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
