//! Keys that were made elsewhere.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::*;
use crate::core::engines::transit::der;

/// A control plane whose mount has a wrapping key, and that key.
fn with_wrapping() -> (Trial, Vec<u8>) {
    let mut trial = trial();
    let wrapping = trial.root(Read, "transit/wrapping_key", json!({})).unwrap();
    let pem = wrapping["public_key"].as_str().unwrap();
    let again = trial.root(Read, "transit/wrapping_key", json!({})).unwrap();
    assert_eq!(again["public_key"], json!(pem));
    let spki = der::public_of_pem(pem).unwrap();
    (trial, spki)
}

fn wrap(spki: &[u8], key: &[u8]) -> String {
    let public = PublicEncryptingKey::from_der(spki).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut sealed = vec![0; 512];
    let ephemeral = [9; 32];
    public
        .encrypt(&OAEP_SHA256_MGF1SHA256, &ephemeral, &mut sealed, None)
        .unwrap();
    let mut wrapped = vec![0; key.len() + 16];
    let ephemeral = KeyEncryptionKey::new(&AES_256, &ephemeral).unwrap();
    let wrapped = ephemeral.wrap_with_padding(key, &mut wrapped).unwrap();
    b64(&[&sealed, &*wrapped].concat())
}

fn pair() -> (Ed25519KeyPair, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let public = der::pem("PUBLIC KEY", public.as_ref());
    (pair, public)
}

#[test]
fn a_public_half_verifies_and_signs_once_its_private_half_came() {
    let (mut trial, wrapping) = with_wrapping();
    let (pair, public) = pair();
    let data = json!({ "type": "ed25519", "public_key": public });
    trial.write("transit/keys/e/import", data);
    let theirs = format!("vault:v1:{}", b64(pair.sign(b"text").as_ref()));
    let data = json!({ "input": b64(b"text"), "signature": theirs });
    assert_eq!(trial.write("transit/verify/e", data)["valid"], json!(true));
    let input = json!({ "input": b64(b"text") });
    assert_eq!(
        refused(&mut trial, Update, "transit/sign/e", input.clone()),
        "requested version for signing does not contain a private part"
    );
    // A key that does not belong to it is the next version.
    let other = Ed25519KeyPair::from_seed_unchecked(&[4; 32]).unwrap();
    let other = wrap(&wrapping, other.to_pkcs8v1().unwrap().as_ref());
    let path = "transit/keys/e/import_version";
    let data = json!({ "ciphertext": other, "version": 1 });
    assert_eq!(
        refused(&mut trial, Update, path, data),
        "cannot import key, key pair does not match"
    );
    let private = wrap(&wrapping, pair.to_pkcs8v1().unwrap().as_ref());
    trial.write(path, json!({ "ciphertext": private }));
    let ours = trial.write("transit/sign/e", input);
    let ours = ours["signature"].as_str().unwrap();
    let bytes = &ours.as_bytes()["vault:v1:".len()..];
    let bytes = data_encoding::BASE64.decode(bytes).unwrap();
    UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref())
        .verify(b"text", &bytes)
        .unwrap();
    trial.write(path, json!({ "ciphertext": other }));
    let shown = trial.root(Read, "transit/keys/e", json!({})).unwrap();
    assert_eq!(shown["latest_version"], json!(2));
    assert_eq!(
        refused(&mut trial, Update, "transit/keys/e/rotate", json!({})),
        "imported key e does not allow rotation within Vault"
    );
}

#[test]
fn a_symmetric_key_encrypts_for_whoever_made_it() {
    let (mut trial, wrapping) = with_wrapping();
    let data = json!({ "ciphertext": wrap(&wrapping, &[7; 32]), "allow_rotation": true });
    trial.write("transit/keys/a/import", data.clone());
    assert_eq!(
        refused(&mut trial, Update, "transit/keys/a/import", data),
        "the import path cannot be used with an existing key; use import-version to rotate an \
         existing imported key"
    );
    let sealed = seal(&mut trial, "a", b"text");
    let bytes = &sealed.as_bytes()["vault:v1:".len()..];
    let bytes = data_encoding::BASE64.decode(bytes).unwrap();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&bytes[..12]).unwrap();
    let mut body = bytes[12..].to_vec();
    let plain = cipher
        .open_in_place(nonce, Aad::empty(), &mut body)
        .unwrap();
    assert_eq!(plain, b"text");
    let rotated = trial.write("transit/keys/a/rotate", json!({}));
    assert_eq!(rotated["imported_key_allow_rotation"], json!(true));
}

#[test]
fn what_is_no_key_of_the_type_is_not_imported() {
    let (mut trial, wrapping) = with_wrapping();
    let (_, public) = pair();
    let wrap = |key: &[u8]| wrap(&wrapping, key);
    for (data, why) in [
        (
            json!({ "ciphertext": wrap(&[7; 31]) }),
            "invalid key size 31 bytes for key type aes256-gcm96",
        ),
        (
            json!({ "ciphertext": wrap(&[7; 32]), "type": "ed25519" }),
            "error parsing asymmetric key: it is no PKCS #8 of type ed25519",
        ),
        (
            json!({ "ciphertext": b64(&[0; 512]) }),
            "provided ciphertext is too short",
        ),
        (
            json!({ "ciphertext": b64(&[0; 512 + 8193]) }),
            "provided ciphertext is too long",
        ),
        (
            json!({ "ciphertext": b64(&[0; 552]) }),
            "the key could not be unwrapped: wrap it for this mount's wrapping_key",
        ),
        (
            json!({}),
            "one of the following fields, ciphertext and public_key, must be set",
        ),
        (
            json!({ "public_key": public, "type": "ecdsa-p256" }),
            "error parsing public key: it is no key of type ecdsa-p256",
        ),
        (
            json!({ "public_key": public, "type": "aes256-gcm96" }),
            "provided type does not support public_key import",
        ),
        (
            json!({ "ciphertext": wrap(&[7; 32]), "hash_function": "MD5" }),
            "unknown hash function: MD5",
        ),
    ] {
        assert_eq!(
            refused(&mut trial, Update, "transit/keys/n/import", data),
            why
        );
    }
}
