//! What OpenBao's own library made: keys in backups, texts and signatures. (`sdk/v2` 2.5.1, package
//! `keysutil`: for each kind of key a text sealed by version 1, a rotation, and signatures by version
//! 2 with SHA-512; the text is `the quick brown fox`, the context `for whom`, what is associated
//! `beside`.)

use super::*;

const VECTORS: &str = include_str!("openbao.json");
const PLAIN: &[u8] = b"the quick brown fox";

fn vectors() -> Vec<Value> {
    serde_json::from_str(VECTORS).unwrap()
}

fn restored(vector: &Value) -> (Trial, String) {
    let mut trial = trial();
    let name = vector["name"].as_str().unwrap().to_owned();
    trial.write("transit/restore", json!({ "backup": vector["backup"] }));
    (trial, name)
}

fn with_context(vector: &Value, mut data: Value) -> Value {
    if let Some(context) = vector.get("context") {
        data["context"] = context.clone();
    }
    data
}

#[test]
fn texts_that_openbao_sealed_open_here() {
    let mut opened = 0;
    for vector in vectors() {
        let Some(sealed) = vector.get("ciphertext") else {
            continue;
        };
        let (mut trial, name) = restored(&vector);
        let path = format!("transit/decrypt/{name}");
        let data = with_context(&vector, json!({ "ciphertext": sealed }));
        let plain = trial.write(&path, data);
        assert_eq!(plain["plaintext"], json!(b64(PLAIN)), "{name}");
        if let Some(sealed) = vector.get("associated") {
            let data = json!({ "ciphertext": sealed, "associated_data": b64(b"beside") });
            let plain = trial.write(&path, with_context(&vector, data));
            assert_eq!(plain["plaintext"], json!(b64(PLAIN)), "{name}");
        }
        opened += 1;
    }
    assert_eq!(opened, 10);
}

#[test]
fn convergent_texts_are_the_same_as_openbaos() {
    let mut compared = 0;
    for vector in vectors() {
        let (mut trial, name) = restored(&vector);
        if !name.ends_with("convergent") {
            continue;
        }
        let data = json!({ "plaintext": b64(PLAIN), "key_version": 1 });
        let data = with_context(&vector, data);
        let sealed = trial.write(&format!("transit/encrypt/{name}"), data);
        assert_eq!(sealed["ciphertext"], vector["ciphertext"], "{name}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn signatures_of_openbaos_are_good_here() {
    let mut verified = 0;
    for vector in vectors() {
        if vector.get("signature").is_none() {
            continue;
        }
        let (mut trial, name) = restored(&vector);
        let path = format!("transit/verify/{name}/sha2-512");
        for (field, form, padding) in [
            ("signature", "asn1", "pss"),
            ("jws", "jws", "pss"),
            ("pkcs1", "asn1", "pkcs1v15"),
        ] {
            let mut data = json!({
                "input": b64(PLAIN),
                "signature": vector[field],
                "marshaling_algorithm": form,
                "signature_algorithm": padding,
            });
            data = with_context(&vector, data);
            let told = trial.write(&path, data.clone());
            assert_eq!(told["valid"], json!(true), "{name} {field}");
            data["input"] = json!(b64(b"another fox"));
            let told = trial.write(&path, data);
            assert_eq!(told["valid"], json!(false), "{name} {field}");
            verified += 1;
        }
        if let Some(public) = vector.get("public") {
            let data = with_context(&vector, json!({}));
            let shown = trial
                .root(Read, &format!("transit/keys/{name}"), data)
                .unwrap();
            assert_eq!(&shown["keys"]["2"]["public_key"], public);
        }
    }
    assert_eq!(verified, 18);
}

#[test]
fn a_backup_of_openbaos_is_written_again_as_it_was() {
    for vector in vectors() {
        let (mut trial, name) = restored(&vector);
        let written = trial.root(Read, &format!("transit/backup/{name}"), json!({}));
        let read = |text: &Value| -> Value {
            let json = data_encoding::BASE64.decode(text.as_str().unwrap().as_bytes());
            // As text, for numbers that no number type here holds.
            let json = String::from_utf8(json.unwrap()).unwrap();
            let numbers = |field: &str, json: &str| {
                let at = json.find(&format!("\"{field}\":")).unwrap() + field.len() + 3;
                let end = json[at..].find([',', '}']).unwrap();
                json[at..at + end].to_owned()
            };
            json!({
                "type": numbers("type", &json),
                "ec_d": numbers("ec_d", &json),
                "ec_x": numbers("ec_x", &json),
                "key": numbers("key", &json),
                "hmac_key": numbers("hmac_key", &json),
                "latest": numbers("latest_version", &json),
                "rsa": json.split("\"rsa_key\":").nth(1).map(|rest| {
                    rest.split("\"rsa_public_key\"").next().map(str::to_owned)
                }),
            })
        };
        let mut theirs = read(&vector["backup"]);
        if name == "hmac" {
            // Their number of it is Vault's of keys that are held elsewhere.
            theirs["type"] = json!("11");
        }
        assert_eq!(read(&written.unwrap()["backup"]), theirs, "{name}");
    }
}
