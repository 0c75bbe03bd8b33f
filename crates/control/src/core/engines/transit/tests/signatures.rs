//! Signing and verifying.

use super::*;

fn sign(trial: &mut Trial, path: &str, mut data: Value, input: &[u8]) -> Result<String, String> {
    data["input"] = json!(b64(input));
    let path = format!("transit/sign/{path}");
    let signed = trial.root(Update, &path, data).map_err(text)?;
    Ok(signed["signature"].as_str().unwrap().to_owned())
}

fn verify(
    trial: &mut Trial,
    path: &str,
    mut data: Value,
    input: &[u8],
    signature: &str,
) -> Result<bool, String> {
    data["input"] = json!(b64(input));
    data["signature"] = json!(signature);
    let path = format!("transit/verify/{path}");
    let verified = trial.root(Update, &path, data).map_err(text)?;
    Ok(verified["valid"].as_bool().unwrap())
}

#[test]
fn each_kind_signs_with_each_hash_and_form() {
    let mut trial = trial();
    for kind in ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"] {
        make(&mut trial, kind, json!({ "type": kind }));
        for hash in [
            "sha1", "sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-256", "sha3-512",
        ] {
            for form in ["asn1", "jws"] {
                let data = json!({ "hash_algorithm": hash, "marshaling_algorithm": form });
                let signed = sign(&mut trial, kind, data.clone(), b"text").unwrap();
                let told = |trial: &mut Trial, input: &[u8]| {
                    verify(trial, kind, data.clone(), input, &signed)
                };
                assert_eq!(told(&mut trial, b"text"), Ok(true), "{kind} {hash} {form}");
                assert_eq!(
                    told(&mut trial, b"other"),
                    Ok(false),
                    "{kind} {hash} {form}"
                );
            }
        }
    }
}

#[test]
fn a_hash_that_is_signed_is_the_text_that_is_hashed() {
    let mut trial = trial();
    for kind in ["ecdsa-p256", "rsa-2048"] {
        make(&mut trial, kind, json!({ "type": kind }));
        let signed = sign(&mut trial, &format!("{kind}/sha2-512"), json!({}), b"text").unwrap();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, b"text");
        let data = json!({ "prehashed": true, "hash_algorithm": "sha2-512" });
        let told = verify(&mut trial, kind, data, hash.as_ref(), &signed);
        assert_eq!(told, Ok(true), "{kind}");
    }
    let data = json!({ "prehashed": true });
    assert_eq!(
        sign(&mut trial, "rsa-2048", data, b"short"),
        Err("crypto/rsa: input must be hashed message".to_owned())
    );
}

#[test]
fn rsa_takes_every_salt_that_it_has_room_for() {
    let mut trial = trial();
    make(&mut trial, "rsa", json!({ "type": "rsa-2048" }));
    for salt in ["auto", "hash", "-1", "0", "1", "20", "222"] {
        let data = json!({ "salt_length": salt });
        let signed = sign(&mut trial, "rsa", data.clone(), b"text").unwrap();
        assert_eq!(
            verify(&mut trial, "rsa", data, b"text", &signed),
            Ok(true),
            "{salt}"
        );
        // Without being told the salt, all but odd ones are found.
        let found = verify(&mut trial, "rsa", json!({}), b"text", &signed);
        assert_eq!(found, Ok(salt != "1"), "{salt}");
    }
    let data = json!({ "signature_algorithm": "pkcs1v15" });
    let signed = sign(&mut trial, "rsa", data.clone(), b"text").unwrap();
    assert_eq!(verify(&mut trial, "rsa", data, b"text", &signed), Ok(true));
    assert_eq!(
        verify(&mut trial, "rsa", json!({}), b"text", &signed),
        Ok(false)
    );
    for (salt, why) in [
        ("223", "requested salt length 223 is invalid"),
        ("-2", "salt length is invalid: -2"),
        ("foobar", "salt length neither 'auto', 'hash', nor an int"),
    ] {
        let data = json!({ "salt_length": salt });
        assert_eq!(sign(&mut trial, "rsa", data, b"text"), Err(why.to_owned()));
    }
}

#[test]
fn what_names_no_hash_form_or_padding_is_refused() {
    let mut trial = trial();
    make(&mut trial, "e", json!({ "type": "ecdsa-p256" }));
    make(&mut trial, "k", json!({}));
    for (data, why) in [
        (
            json!({ "hash_algorithm": "meow2-256" }),
            "invalid hash algorithm \"meow2-256\"",
        ),
        (
            json!({ "marshaling_algorithm": "xml" }),
            "invalid marshaling type \"xml\"",
        ),
        (
            json!({ "signature_algorithm": "cats" }),
            "unsupported rsa signature algorithm cats",
        ),
        (
            json!({ "hash_algorithm": "none" }),
            "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15",
        ),
    ] {
        assert_eq!(sign(&mut trial, "e", data, b"text"), Err(why.to_owned()));
    }
    assert_eq!(
        sign(&mut trial, "k", json!({}), b"text"),
        Err("key type aes256-gcm96 does not support signing".to_owned())
    );
    assert_eq!(
        sign(&mut trial, "none", json!({}), b"text"),
        Err("signing key not found".to_owned())
    );
}

#[test]
fn what_is_no_signature_is_refused_or_not_valid() {
    let mut trial = trial();
    make(&mut trial, "e", json!({ "type": "ecdsa-p256" }));
    make(&mut trial, "d", json!({ "type": "ed25519" }));
    for (signature, why) in [
        ("text", "invalid signature: no prefix"),
        ("vault:v1", "invalid signature: wrong number of fields"),
        (
            "vault:vx:AAAA",
            "invalid signature: version number could not be decoded",
        ),
        ("vault:v2:AAAA", "invalid signature: version is too new"),
        ("vault:v1:???", "invalid base64 signature value"),
        ("vault:v1:AAAA", "supplied signature is invalid"),
    ] {
        let told = verify(&mut trial, "e", json!({}), b"text", signature);
        assert_eq!(told, Err(why.to_owned()), "{signature}");
    }
    let told = verify(&mut trial, "d", json!({}), b"text", "vault:v1:AAAA");
    assert_eq!(told, Ok(false));
}

#[test]
fn derived_signing_keys_have_a_public_half_for_each_context() {
    let mut trial = trial();
    make(
        &mut trial,
        "d",
        json!({ "type": "ed25519", "derived": true }),
    );
    let data = json!({ "context": b64(b"atlas"), "input": b64(b"text") });
    let signed = trial.write("transit/sign/d", data);
    let path = "transit/keys/d";
    let shown = trial
        .root(Read, path, json!({ "context": b64(b"atlas") }))
        .unwrap();
    assert_eq!(shown["keys"]["1"]["public_key"], signed["public_key"]);
    let other = trial
        .root(Read, path, json!({ "context": b64(b"boreas") }))
        .unwrap();
    assert_ne!(other["keys"]["1"]["public_key"], signed["public_key"]);
    let none = trial.root(Read, path, json!({})).unwrap();
    assert_eq!(none["keys"]["1"]["public_key"], json!(""));
    let signature = signed["signature"].as_str().unwrap().to_owned();
    let context = |name: &[u8]| json!({ "context": b64(name) });
    let told = verify(&mut trial, "d", context(b"atlas"), b"text", &signature);
    assert_eq!(told, Ok(true));
    let told = verify(&mut trial, "d", context(b"boreas"), b"text", &signature);
    assert_eq!(told, Ok(false));
    let missing = sign(&mut trial, "d", json!({}), b"text").unwrap_err();
    assert!(missing.starts_with("missing 'context'"), "{missing}");
}
