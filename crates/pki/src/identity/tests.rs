use x509_parser::prelude::FromDer;

use super::*;

#[test]
fn an_identity_read_back_is_the_same() {
    let identity = Identity::generate();
    let again = Identity::from_pem(&identity.key_pem()).unwrap();
    assert_eq!(again.fingerprint(), identity.fingerprint());
    assert_ne!(Identity::generate().fingerprint(), identity.fingerprint());
}

#[test]
fn what_is_no_key_is_refused() {
    for wrong in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let read = Identity::from_pem(&Secret::new(wrong.to_owned()));
        assert_eq!(read.err(), Some(IdentityError::Key));
    }
}

#[test]
fn a_request_has_no_subject_and_asks_for_no_name() {
    let pem = Identity::generate().csr_pem();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
            .unwrap();
    assert_eq!(request.certification_request_info.subject.to_string(), "");
    assert!(request.requested_extensions().is_none());
}

#[test]
fn a_chain_is_one_to_four_certificates() {
    let one = crate::fixture::authority().certificate_pem().to_owned();
    assert_eq!(certificate_chain(&one).unwrap().len(), 1);
    assert_eq!(certificate_chain(&one.repeat(4)).unwrap().len(), 4);
    assert_eq!(certificate_chain(&one.repeat(5)), Err(IdentityError::Chain));
    assert_eq!(certificate_chain(""), Err(IdentityError::Chain));
}
