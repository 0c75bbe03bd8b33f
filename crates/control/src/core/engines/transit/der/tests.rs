use super::*;

#[test]
fn pem_has_lines_of_64_letters_and_is_read_again() {
    let der: Vec<u8> = (0..=255).collect();
    let text = pem("PUBLIC KEY", &der);
    assert!(text.lines().all(|line| line.len() <= 64));
    assert_eq!(public_of_pem(&text), Some(der));
    assert_eq!(public_of_pem("-----BEGIN PUBLIC KEY-----"), None);
    assert_eq!(public_of_pem(&"x".repeat(PEM_BYTES_MAX + 1)), None);
}

#[test]
fn a_signature_is_two_numbers_and_nothing_more() {
    assert!(is_ecdsa_signature(&[0x30, 6, 2, 1, 1, 2, 1, 1]));
    for wrong in [
        &[0x30, 6, 2, 1, 1, 2, 1, 1, 0][..],
        &[0x30, 7, 2, 1, 1, 2, 1, 1],
        &[0x30, 3, 2, 1, 1],
        &[0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1],
        &[0x31, 6, 2, 1, 1, 2, 1, 1],
        &[0x30, 0x84, 0, 0, 0, 6, 2, 1, 1, 2, 1, 1],
        &[0x30, 0x81, 6, 2, 1, 1, 2, 1, 1],
        &[0x30, 0xff],
        &[],
    ] {
        assert!(!is_ecdsa_signature(wrong), "{wrong:?}");
    }
}
