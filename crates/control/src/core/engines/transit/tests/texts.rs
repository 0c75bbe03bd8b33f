//! Encrypting and decrypting single texts.

use super::*;

fn derived(trial: &mut Trial, name: &str, convergent: bool) {
    let settings = json!({ "derived": true, "convergent_encryption": convergent });
    make(trial, name, settings);
}

fn seal_for(trial: &mut Trial, name: &str, plain: &[u8], context: &[u8]) -> String {
    let data = json!({ "plaintext": b64(plain), "context": b64(context) });
    let sealed = trial.write(&format!("transit/encrypt/{name}"), data);
    sealed["ciphertext"].as_str().unwrap().to_owned()
}

fn open_for(trial: &mut Trial, name: &str, sealed: &str, context: &[u8]) -> Result<String, String> {
    let data = json!({ "ciphertext": sealed, "context": b64(context) });
    let path = format!("transit/decrypt/{name}");
    let opened = trial.root(Update, &path, data).map_err(text)?;
    Ok(opened["plaintext"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_encrypted_twice_is_not_the_same_twice() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let first = seal(&mut trial, "k", b"text");
    assert_ne!(first, seal(&mut trial, "k", b"text"));
    assert_eq!(open(&mut trial, "k", &first).unwrap(), b"text");
}

#[test]
fn an_empty_text_is_a_text() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let sealed = seal(&mut trial, "k", b"");
    assert_eq!(open(&mut trial, "k", &sealed).unwrap(), b"");
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/k", json!({})),
        "missing plaintext to encrypt"
    );
    assert_eq!(
        refused(
            &mut trial,
            Update,
            "transit/decrypt/k",
            json!({ "ciphertext": "" })
        ),
        "missing ciphertext to decrypt"
    );
}

#[test]
fn what_is_no_ciphertext_is_refused_with_vaults_words() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let sealed = seal(&mut trial, "k", b"text");
    let mut changed = sealed.clone().into_bytes();
    changed[30] = if changed[30] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (sealed, why) in [
        ("text", "invalid ciphertext: no prefix"),
        ("vault:v1", "invalid ciphertext: wrong number of fields"),
        (
            "vault:vx:AAAA",
            "invalid ciphertext: version number could not be decoded",
        ),
        ("vault:v2:AAAA", "invalid ciphertext: version is too new"),
        (
            "vault:v99999999999:AAAA",
            "ciphertext or signature version is disallowed by policy (too old)",
        ),
        (
            "vault:v1:???",
            "invalid ciphertext: could not decode base64",
        ),
        ("vault:v1:AAAA", "invalid ciphertext length"),
        (
            "vault:v1:AAAAAAAAAAAAAAAA",
            "cipher: message authentication failed",
        ),
        (&changed, "cipher: message authentication failed"),
    ] {
        assert_eq!(
            open(&mut trial, "k", sealed),
            Err(why.to_owned()),
            "{sealed}"
        );
    }
    assert_eq!(
        open(&mut trial, "none", &sealed),
        Err("encryption key not found".to_owned())
    );
    let wrong = json!({ "plaintext": "b64?" });
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/k", wrong),
        "illegal base64 data at input byte 3"
    );
}

#[test]
fn a_nonce_of_the_callers_is_refused() {
    // CVE-2023-4680: whoever chose a nonce twice gave the key of the authentication away.
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    derived(&mut trial, "c", true);
    for name in ["k", "c"] {
        let mut data = json!({ "plaintext": b64(b"text"), "nonce": b64(&[0; 12]) });
        if name == "c" {
            data["context"] = json!(b64(b"context"));
        }
        let path = format!("transit/encrypt/{name}");
        assert_eq!(
            refused(&mut trial, Update, &path, data),
            "nonce provided when not allowed"
        );
    }
}

#[test]
fn derived_keys_open_under_their_own_context_alone() {
    let mut trial = trial();
    derived(&mut trial, "d", false);
    let sealed = seal_for(&mut trial, "d", b"text", b"atlas");
    assert_eq!(
        open_for(&mut trial, "d", &sealed, b"atlas"),
        Ok(b64(b"text"))
    );
    assert_eq!(
        open_for(&mut trial, "d", &sealed, b"boreas"),
        Err("cipher: message authentication failed".to_owned())
    );
    let missing = open(&mut trial, "d", &sealed).unwrap_err();
    assert!(
        missing.starts_with("missing 'context' for key derivation"),
        "{missing}"
    );
    assert_ne!(sealed, seal_for(&mut trial, "d", b"text", b"atlas"));
}

#[test]
fn convergent_texts_are_equal_for_one_context_and_differ_between_two() {
    let mut trial = trial();
    derived(&mut trial, "c", true);
    let first = seal_for(&mut trial, "c", b"text", b"atlas");
    assert_eq!(first, seal_for(&mut trial, "c", b"text", b"atlas"));
    assert_ne!(first, seal_for(&mut trial, "c", b"text", b"boreas"));
    assert_ne!(
        first[..26],
        seal_for(&mut trial, "c", b"other", b"atlas")[..26]
    );
    assert_eq!(
        open_for(&mut trial, "c", &first, b"atlas"),
        Ok(b64(b"text"))
    );
    trial.write("transit/keys/c/rotate", json!({}));
    assert_ne!(first, seal_for(&mut trial, "c", b"text", b"atlas"));
    assert_eq!(
        open_for(&mut trial, "c", &first, b"atlas"),
        Ok(b64(b"text"))
    );
}

#[test]
fn one_text_beside_two_things_is_sealed_under_two_nonces() {
    // Two tags under one nonce give away what makes tags (NIST SP 800-38D, appendix A).
    let mut trial = trial();
    for kind in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"] {
        let settings = json!({ "type": kind, "derived": true, "convergent_encryption": true });
        make(&mut trial, kind, settings);
        let mut seal = |associated: &[u8]| {
            let data = json!({
                "plaintext": b64(b"text"),
                "context": b64(b"atlas"),
                "associated_data": b64(associated),
            });
            let sealed = trial.write(&format!("transit/encrypt/{kind}"), data);
            let text = sealed["ciphertext"].as_str().unwrap().to_owned();
            let data = json!({
                "ciphertext": text,
                "context": b64(b"atlas"),
                "associated_data": b64(associated),
            });
            let opened = trial.write(&format!("transit/decrypt/{kind}"), data);
            assert_eq!(opened["plaintext"], json!(b64(b"text")));
            text
        };
        let [none, one, other] = [&b""[..], b"row 7", b"row 8"].map(&mut seal);
        assert_eq!(seal(b"row 7"), one, "it is still convergent");
        let nonce = |text: &str| {
            let body = text.rsplit(':').next().unwrap();
            data_encoding::BASE64.decode(body.as_bytes()).unwrap()[..12].to_vec()
        };
        let nonces = [&none, &one, &other].map(|text| nonce(text));
        assert!(
            nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2],
            "{kind}"
        );
    }
}

#[test]
fn associated_data_must_be_the_same_again() {
    let mut trial = trial();
    for kind in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"] {
        make(&mut trial, kind, json!({ "type": kind }));
        let data = json!({ "plaintext": b64(b"text"), "associated_data": b64(b"row 7") });
        let sealed = trial.write(&format!("transit/encrypt/{kind}"), data);
        let mut ask = |associated: &[u8]| {
            let data = json!({
                "ciphertext": sealed["ciphertext"],
                "associated_data": b64(associated),
            });
            trial.root(Update, &format!("transit/decrypt/{kind}"), data)
        };
        assert_eq!(ask(b"row 7").unwrap()["plaintext"], json!(b64(b"text")));
        let broken = text(ask(b"row 8").unwrap_err());
        assert!(
            broken.ends_with(": message authentication failed"),
            "{broken}"
        );
        assert!(ask(b"").is_err());
    }
    make(&mut trial, "rsa", json!({ "type": "rsa-2048" }));
    let data = json!({ "plaintext": b64(b"text"), "associated_data": b64(b"row 7") });
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/rsa", data),
        "'[0].associated_data' provided for non-AEAD cipher suite rsa-2048"
    );
}

#[test]
fn rsa_says_the_same_of_all_that_it_cannot_decrypt() {
    // CVE-2023-2197 and its kin: who can tell wrong paddings apart decrypts without the key.
    let mut trial = trial();
    make(&mut trial, "rsa", json!({ "type": "rsa-2048" }));
    let sealed = seal(&mut trial, "rsa", b"text");
    assert_eq!(open(&mut trial, "rsa", &sealed).unwrap(), b"text");
    let one = "failed to RSA decrypt the ciphertext".to_owned();
    for bytes in [
        vec![0; 256],
        vec![1; 256],
        vec![0xff; 256],
        vec![7; 255],
        Vec::new(),
    ] {
        let sealed = format!("vault:v1:{}", b64(&bytes));
        assert_eq!(
            open(&mut trial, "rsa", &sealed),
            Err(one.clone()),
            "{}",
            bytes.len()
        );
    }
    let long = json!({ "plaintext": b64(&[7; 191]) });
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/rsa", long),
        "failed to RSA encrypt the plaintext: message too long for RSA key size"
    );
    let longest = seal(&mut trial, "rsa", &[7; 190]);
    assert_eq!(open(&mut trial, "rsa", &longest).unwrap(), [7; 190]);
}

#[test]
fn keys_that_only_sign_encrypt_nothing() {
    let mut trial = trial();
    make(&mut trial, "e", json!({ "type": "ed25519" }));
    let data = json!({ "plaintext": b64(b"text") });
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/e", data),
        "message encryption not supported for key type ed25519"
    );
    assert_eq!(
        open(&mut trial, "e", "vault:v1:AAAA"),
        Err("message decryption not supported for key type ed25519".to_owned())
    );
}

#[test]
fn a_version_can_be_asked_for_if_it_may_encrypt() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    for _ in 0..2 {
        trial.write("transit/keys/k/rotate", json!({}));
    }
    trial.write(
        "transit/keys/k/config",
        json!({ "min_encryption_version": 2 }),
    );
    let mut ask = |version: i64| {
        let data = json!({ "plaintext": b64(b"text"), "key_version": version });
        let sealed = trial
            .root(Update, "transit/encrypt/k", data)
            .map_err(text)?;
        Ok::<_, String>(sealed["key_version"].as_u64().unwrap())
    };
    assert_eq!(ask(0), Ok(3));
    assert_eq!(ask(2), Ok(2));
    let said = |why: &str| Err(format!("requested version for encryption is {why}"));
    assert_eq!(ask(1), said("less than the minimum encryption key version"));
    assert_eq!(ask(4), said("higher than the latest key version"));
    assert_eq!(ask(i64::MAX), said("higher than the latest key version"));
    assert_eq!(ask(-1), said("negative"));
}

#[test]
fn rewrapping_moves_a_text_to_the_latest_version() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let first = seal(&mut trial, "k", b"text");
    trial.write("transit/keys/k/rotate", json!({}));
    let moved = trial.write("transit/rewrap/k", json!({ "ciphertext": first }));
    assert_eq!(moved["key_version"], json!(2));
    let moved = moved["ciphertext"].as_str().unwrap().to_owned();
    assert!(moved.starts_with("vault:v2:"));
    assert_eq!(open(&mut trial, "k", &moved).unwrap(), b"text");
}

#[test]
fn data_keys_are_shown_in_plain_only_where_that_is_asked() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    for (bits, bytes) in [(128, 16), (256, 32), (512, 64)] {
        let made = trial.write("transit/datakey/plaintext/k", json!({ "bits": bits }));
        let sealed = made["ciphertext"].as_str().unwrap().to_owned();
        let key = open(&mut trial, "k", &sealed).unwrap();
        assert_eq!(key.len(), bytes);
        assert_eq!(made["plaintext"], json!(b64(&key)));
    }
    let wrapped = trial.write("transit/datakey/wrapped/k", json!({}));
    assert!(wrapped.get("plaintext").is_none());
    assert_eq!(
        refused(&mut trial, Update, "transit/datakey/other/k", json!({})),
        "Invalid path, must be 'plaintext' or 'wrapped'"
    );
    assert_eq!(
        refused(
            &mut trial,
            Update,
            "transit/datakey/wrapped/k",
            json!({ "bits": 384 })
        ),
        "invalid bit length"
    );
}

#[test]
fn encryptions_are_counted_warned_of_and_end_with_a_new_version() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let block = 1_u64 << 16;
    let at = [&trial.mount("transit/").0, "used/k/00000001".as_bytes()].concat();
    let key = bastide_store::Key::new(crate::core::tables::ENGINE, at);
    let items = |count: usize| {
        let item = json!({ "plaintext": "" });
        json!({ "batch_input": vec![item; count] })
    };
    let fill = |trial: &mut Trial| {
        // A block and no more: the batches before it count in memory alone.
        let mut warnings = Vec::new();
        for count in [10_000; 6].into_iter().chain([5_536]) {
            let asked = trial.ask(As::Root, Update, "transit/encrypt/k", items(count));
            warnings = asked.unwrap().warnings;
        }
        warnings
    };
    assert_eq!(fill(&mut trial), Vec::<String>::new());
    let stored = trial.snapshot().get(&key).unwrap().unwrap();
    assert_eq!(stored.expose()[..], *block.to_string().as_bytes());
    trial.write_row(
        key.clone(),
        ((1_u64 << 31) - block).to_string().into_bytes(),
    );
    let warnings = fill(&mut trial);
    assert_eq!(
        warnings,
        [
            "version 1 of key \"k\" has encrypted 2147483648 times under random nonces: rotate it \
          before 4294967296"
        ]
    );
    trial.write_row(key, ((1_u64 << 32) - block).to_string().into_bytes());
    fill(&mut trial);
    assert!(seal(&mut trial, "k", b"text").starts_with("vault:v2:"));
}

#[test]
fn parsed_keys_are_remembered_but_only_as_they_are_stored() {
    use crate::core::engines::transit::Transit;
    use std::sync::Arc;
    let mut trial = Trial::new();
    let engine = Arc::new(Transit::default());
    trial.add_engine(Arc::clone(&engine) as Arc<dyn crate::core::engine::Engine>);
    trial.write("sys/mounts/transit", json!({ "type": "transit" }));
    make(
        &mut trial,
        "k",
        json!({ "exportable": true, "allow_plaintext_backup": true }),
    );
    assert_eq!(engine.cache.len(), 0);
    let sealed = seal(&mut trial, "k", b"text");
    seal(&mut trial, "k", b"text");
    assert_eq!(engine.cache.len(), 1);
    // Restored under the same name from a backup of another key, version 1 is another key.
    make(
        &mut trial,
        "other",
        json!({ "exportable": true, "allow_plaintext_backup": true }),
    );
    let mut backup = trial.root(Read, "transit/backup/other", json!({})).unwrap();
    backup["force"] = json!(true);
    trial.write("transit/restore/k", backup);
    assert!(open(&mut trial, "k", &sealed).is_err());
    assert!(engine.cache.len() <= 2);
}
