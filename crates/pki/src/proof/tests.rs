use proptest::prelude::*;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType,
};

use super::*;
use crate::{Identity, fixture};

#[test]
fn a_nodes_own_request_proves_its_key() {
    let identity = Identity::generate();
    let proven = ProvenKey::from_request(&identity.csr_pem()).unwrap();
    assert_eq!(proven.fingerprint(), identity.fingerprint());
}

#[test]
fn whatever_else_a_request_asks_for_is_not_certified() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "controller");
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://somewhere/controller/me".try_into().unwrap(),
    )];
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let proven = ProvenKey::from_request(&request).unwrap();
    let issued =
        fixture::authority().sign_node(&proven, fixture::node(), fixture::for_a_day(), [9; 16]);
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(
        parsed.subject().to_string(),
        format!("CN={}", fixture::node())
    );
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let usage = parsed.extended_key_usage().unwrap().unwrap();
    assert!(!usage.value.any);
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let (mine, other) = (Identity::generate(), Identity::generate());
    let der = |identity: &Identity| {
        CertificateSigningRequestDer::from_pem_slice(identity.csr_pem().as_bytes())
            .unwrap()
            .to_vec()
    };
    let (request, foreign) = (der(&mine), der(&other));
    let (_, parsed) = X509CertificationRequest::from_der(&foreign).unwrap();
    let theirs = parsed
        .certification_request_info
        .subject_pki
        .subject_public_key
        .data
        .to_vec();
    let (_, parsed) = X509CertificationRequest::from_der(&request).unwrap();
    let ours = parsed
        .certification_request_info
        .subject_pki
        .subject_public_key
        .data
        .to_vec();
    let at = request
        .windows(ours.len())
        .position(|window| window == ours)
        .unwrap();
    let mut forged = request.clone();
    forged[at..at + ours.len()].copy_from_slice(&theirs);
    assert_eq!(
        ProvenKey::from_request(&pem(&forged)),
        Err(ProofError::Signature)
    );
    assert!(
        ProvenKey::from_request(&pem(&request)).is_ok(),
        "the untouched request is valid"
    );
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(
            ProvenKey::from_request(&request.pem().unwrap()),
            Err(ProofError::Algorithm)
        );
    }
}

#[test]
fn what_is_longer_than_a_request_is_not_even_parsed() {
    let long = "A".repeat(PEM_BYTES_MAX + 1);
    assert_eq!(ProvenKey::from_request(&long), Err(ProofError::TooLong));
}

fn pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,300}") {
        prop_assert!(ProvenKey::from_request(&text).is_err());
    }

    #[test]
    fn a_request_with_one_byte_changed_proves_nothing_about_another_key(
        at in 0_usize..1000, to in any::<u8>()
    ) {
        let request = fixture_request();
        let mut changed = request.clone();
        let at = at % changed.len();
        changed[at] = to;
        match ProvenKey::from_request(&pem(&changed)) {
            // A change of what is signed never passes; one of the signature's own encoding might.
            Ok(proven) => prop_assert_eq!(proven.fingerprint(), own_fingerprint()),
            Err(_) => prop_assert_ne!(changed, request),
        }
    }
}

fn fixture_identity() -> &'static Identity {
    static IDENTITY: std::sync::OnceLock<Identity> = std::sync::OnceLock::new();
    IDENTITY.get_or_init(Identity::generate)
}

fn own_fingerprint() -> [u8; 32] {
    fixture_identity().fingerprint()
}

fn fixture_request() -> Vec<u8> {
    static REQUEST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    REQUEST
        .get_or_init(|| {
            CertificateSigningRequestDer::from_pem_slice(fixture_identity().csr_pem().as_bytes())
                .unwrap()
                .to_vec()
        })
        .clone()
}
