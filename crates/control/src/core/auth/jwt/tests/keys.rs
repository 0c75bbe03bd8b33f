//! Where keys come from.

use std::sync::{Arc, Mutex};

use super::*;
use crate::core::outside::{answered, failed};

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
