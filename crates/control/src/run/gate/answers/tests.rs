use data_encoding::HEXLOWER;

use super::*;

#[test]
fn a_share_is_read_in_hexadecimal_or_base64() {
    let bytes: Vec<u8> = (100..133).collect();
    let read = |text: &str| share(text).map(|share| share.expose().clone());
    assert_eq!(read(&HEXLOWER.encode(&bytes)), Some(bytes.clone()));
    assert_eq!(
        read(&HEXLOWER.encode(&bytes).to_uppercase()),
        Some(bytes.clone())
    );
    assert_eq!(read(&BASE64.encode(&bytes)), Some(bytes.clone()));
    assert_eq!(
        read(&format!(" {}\n", BASE64.encode(&bytes))),
        Some(bytes.clone())
    );
    assert_eq!(read(""), None);
    assert_eq!(read("no share at all"), None);
    assert_eq!(read(&"ab".repeat(SHARE_TEXT_MAX)), None);
    // Hexadecimal digits whose bytes are too few for a share are base64 of more.
    assert_eq!(read("abcdabcd").map(|bytes| bytes.len()), Some(6));
}

#[test]
fn fields_of_seal_requests_are_found_whatever_their_case() {
    let Value::Object(fields) = json!({ "Secret_Shares": "5", "secret_threshold": 3 }) else {
        unreachable!("an object")
    };
    assert_eq!(number(&fields, "secret_shares"), Some(5));
    assert_eq!(number(&fields, "secret_threshold"), Some(3));
    assert_eq!(number(&fields, "key"), None);
}
