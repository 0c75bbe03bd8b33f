//! What of a token is believed: signature, algorithm and times.

use std::process::Command;

use aws_lc_rs::hmac;

use super::*;
use crate::core::auth::jwt::keys::{ALGS, Alg, Key};

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
