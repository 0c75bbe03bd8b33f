//! What is fuzzed of X.509 for authorities of others.

use std::sync::LazyLock;

use super::pem;
use crate::fixture::now;
use crate::x509::der::Reader;
use crate::x509::{
    Answered, Attribute, BUNDLE_BYTES_MAX, Bundle, CertStatus, Certificate, CertificateRequest,
    Extensions, KeyKind, Name, OCSP_BYTES_MAX, OcspRequest, OcspResponder, PrivateKey, San,
    Template, sign_certificate, sign_ocsp,
};

/// An authority of somebody else's, made with the parts that engines use.
static OTHER: LazyLock<(PrivateKey, Certificate)> = LazyLock::new(|| {
    let key = PrivateKey::generate(KeyKind::P256).expect("P-256 keys can be drawn");
    let der = certify(&key, &[], key.public().spki());
    let certificate = Certificate::parse(&der).expect("our own certificate");
    (key, certificate)
});

fn certify(key: &PrivateKey, names: &[San], spki: &[u8]) -> Vec<u8> {
    let mut name = Name::default();
    name.push(Attribute::CommonName, "fuzzed");
    let name = name.to_der();
    let template = Template {
        serial: &[1],
        issuer: &name,
        subject: &name,
        not_before: now(),
        not_after: now().plus(crate::fixture::DAY),
        spki,
        extensions: Extensions {
            names,
            ..Extensions::default()
        },
    };
    let scheme = key.kind().scheme(0, false);
    sign_certificate(&template, key, scheme).expect("P-256 signs any bytes")
}

/// A request as text, and as DER inside PEM: what is read of it can be certified, and is read back the
/// same; and it makes nobody an authority.
pub fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for pem in [text.into_owned(), pem("CERTIFICATE REQUEST", bytes)] {
        let Ok(request) = CertificateRequest::parse(&pem) else {
            continue;
        };
        let der = certify(&OTHER.0, &request.names, request.key.spki());
        let made = Certificate::parse(&der).expect("our own certificate");
        assert_eq!(made.names.as_ref(), Some(&request.names));
        assert_eq!((made.key, made.authority), (request.key, None));
    }
}

/// Certificates and keys as text: what is read is read the same once more, and none is ours.
pub fn bundle(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for pem in [
        text.into_owned(),
        pem("CERTIFICATE", bytes),
        pem("PRIVATE KEY", bytes),
    ] {
        let Ok(bundle) = Bundle::parse(&pem) else {
            continue;
        };
        assert!(pem.len() <= BUNDLE_BYTES_MAX);
        for certificate in bundle.certificates {
            assert_eq!(
                Certificate::parse(certificate.der()),
                Ok(certificate.clone())
            );
            assert!(!certificate.is_signed_by(&OTHER.1), "our key was guessed");
        }
        for key in bundle.keys {
            let pkcs8 = key.pkcs8().expect("what was read can be written");
            let again = PrivateKey::from_pkcs8(pkcs8.expose());
            assert!(again.is_ok_and(|again| again.public() == key.public()));
        }
    }
}

/// A question to OCSP: what is answered is one value of DER, and not much longer than the question.
pub fn ocsp(bytes: &[u8]) {
    let Ok(request) = OcspRequest::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= OCSP_BYTES_MAX && !request.ids.is_empty());
    let answers: Vec<_> = request
        .ids
        .iter()
        .map(|id| Answered {
            id,
            status: if id.is_of(&OTHER.1) {
                CertStatus::Good
            } else {
                CertStatus::Unknown
            },
        })
        .collect();
    let responder = OcspResponder {
        issuer: &OTHER.1,
        key: &OTHER.0,
        scheme: OTHER.0.kind().scheme(0, false),
        now: now(),
        next_update: None,
    };
    let answer = sign_ocsp(&responder, &answers, request.nonce.as_deref());
    let answer = answer.expect("P-256 signs any bytes");
    assert!(answer.len() <= 2 * bytes.len() + 1024);
    let mut reader = Reader::new(&answer);
    assert!(reader.any().is_ok() && reader.is_empty());
}
