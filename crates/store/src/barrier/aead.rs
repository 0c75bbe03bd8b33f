//! AES-256-GCM with a random nonce: `nonce 12 | ciphertext | tag 16`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;

/// Makes a key that can be used many times.
pub(crate) fn key(bytes: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256-GCM takes 32 bytes");
    LessSafeKey::new(key)
}

/// Appends `nonce | ciphertext | tag` of `plain` to `to`.
pub(crate) fn seal_into(key: &LessSafeKey, aad: &[u8], plain: &[u8], to: &mut Vec<u8>) {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).expect("the system's random source answers once it is seeded");
    to.extend_from_slice(&nonce);
    let start = to.len();
    to.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut to[start..],
        )
        .expect("values are shorter than AES-GCM's limit of 64 GiB");
    to.extend_from_slice(tag.as_ref());
}

/// Opens what [`seal_into`] appended; `None` if key, associated data or a byte differ.
pub(crate) fn open_with(key: &LessSafeKey, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut body = body.to_vec();
    let plain = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(aad),
            &mut body,
        )
        .ok()?
        .len();
    body.truncate(plain);
    Some(body)
}

/// Seals once under `bytes`.
pub(crate) fn seal(bytes: &[u8; 32], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + 16);
    seal_into(&key(bytes), aad, plain, &mut sealed);
    sealed
}

/// Opens what [`seal`] sealed.
pub(crate) fn open(bytes: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    open_with(&key(bytes), aad, sealed)
}
