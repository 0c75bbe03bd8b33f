use data_encoding::HEXLOWER;

use super::*;

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[test]
fn hmac_is_that_of_rfc_4231_and_of_nist() {
    // RFC 4231, cases 2 and 6: a short key, and one longer than the block.
    let tag = Hash::Sha256.hmac(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        hex(&tag.unwrap()),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let long = [0xaa; 131];
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    assert_eq!(
        hex(&Hash::Sha256.hmac(&long, text).unwrap()),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
    // NIST, example values of HMAC-SHA3-256 with a key shorter than the block.
    let key: Vec<u8> = (0..32).collect();
    let tag = Hash::Sha3x256.hmac(&key, b"Sample message for keylen<blocklen");
    assert_eq!(
        hex(&tag.unwrap()),
        "4fe8e202c4f058e8dddc23d8c34e467343e23555e24fc2f025d598f558f67205"
    );
}

#[test]
fn hmac_is_the_librarys_own_where_it_has_one() {
    let known = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, b"a key");
    let tag = aws_lc_rs::hmac::sign(&known, b"a text");
    let ours = Hash::Sha512.hmac(b"a key", b"a text").unwrap();
    assert!(equal(tag.as_ref(), &ours));
    assert!(!equal(tag.as_ref(), &ours[1..]));
    assert_eq!(Hash::None.hmac(b"a key", b"a text"), None);
}
