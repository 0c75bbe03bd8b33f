//! A server's certificate of a test: it signed itself.

use std::net::IpAddr;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_linux::clock::Clock;
use bastide_pki::x509::{
    Attribute, Extensions, KeyKind, Name, PrivateKey, San, Template, sign_certificate,
};

/// Makes a certificate for an address that is good now; returns its key and the certificate in DER.
pub(crate) fn certificate(address: IpAddr) -> (PrivateKey, Vec<u8>) {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let mut subject = Name::default();
    subject.push(Attribute::CommonName, "place");
    let subject = subject.to_der();
    let now = Clock::leading(None).now();
    let template = Template {
        serial: &[1],
        issuer: &subject,
        subject: &subject,
        not_before: UnixTime::EPOCH.plus(Duration::from_secs(now.as_secs() - 60)),
        not_after: now.plus(Duration::from_secs(600)),
        spki: key.public().spki(),
        extensions: Extensions {
            basic_constraints: Some((true, None)),
            names: &[San::Ip(address)],
            ..Extensions::default()
        },
    };
    let der = sign_certificate(&template, &key, KeyKind::P256.scheme(0, false)).unwrap();
    (key, der)
}
