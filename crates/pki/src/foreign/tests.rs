use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::public_key_of;

/// A certificate of version 1, made with `openssl x509 -req` and no extensions (P-256).
const OLD: &str = include_str!("version1.pem");

#[test]
fn the_key_of_a_certificate_of_version_1_is_found() {
    let old = CertificateDer::from_pem_slice(OLD.as_bytes()).unwrap();
    let key = public_key_of(&old).unwrap();
    // The info of a key on P-256: a header of 26 bytes, and an uncompressed point.
    assert_eq!(key.as_ref().len(), 26 + 65);
    assert_eq!(key.as_ref()[26], 4);
    let mut longer = old.to_vec();
    longer.push(0);
    assert!(public_key_of(&longer.into()).is_none());
    assert!(public_key_of(&CertificateDer::from(&old[..old.len() - 1])).is_none());
    assert!(public_key_of(&CertificateDer::from(Vec::new())).is_none());
}
