use std::time::Duration;

use bastide_api::UnixTime;
use proptest::prelude::*;

use super::certificate::{read_extensions, read_usage, serial};
use super::der::{NotDer, Reader, Writer, read_time};
use super::*;

fn at(secs: u64) -> UnixTime {
    UnixTime::from_millis(secs * 1000)
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    write(&mut out);
    out.into_bytes()
}

fn name(common_name: &str) -> Vec<u8> {
    let mut name = Name::default();
    name.push(Attribute::CommonName, common_name);
    name.to_der()
}

fn root(key: &PrivateKey, extensions: Extensions<'_>) -> Certificate {
    let name = name("root");
    let template = Template {
        serial: &[0, 0x80, 1],
        issuer: &name,
        subject: &name,
        not_before: at(1_700_000_000),
        not_after: at(2_600_000_000),
        spki: key.public().spki(),
        extensions,
    };
    let scheme = key.kind().scheme(0, false);
    Certificate::parse(&sign_certificate(&template, key, scheme).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn each_second_that_is_written_is_read(secs in 0_u64..253_402_300_800) {
        let der = written(|out| out.time(at(secs)));
        let (tag, content, _) = Reader::new(&der).any().unwrap();
        prop_assert_eq!(read_time(tag, content), Ok(at(secs)));
        prop_assert_eq!(tag == der::UTC_TIME, secs < 2_524_608_000);
    }

    #[test]
    fn each_length_that_is_written_is_read(length in 0_usize..70_000) {
        let content = vec![7; length];
        let der = written(|out| out.nest(der::SEQUENCE, |out| out.raw(&content)));
        prop_assert_eq!(Reader::new(&der).value(der::SEQUENCE), Ok(content.as_slice()));
        let whole = written(|out| out.value(der::SEQUENCE, &content));
        prop_assert_eq!(der, whole);
    }

    #[test]
    fn key_usages_are_read_as_written(usage in 1_u16..0x200) {
        let key = PrivateKey::generate(KeyKind::Ed25519).unwrap();
        let extensions = Extensions { key_usage: usage, ..Extensions::default() };
        prop_assert_eq!(root(&key, extensions).key_usage, Some(usage));
    }

    #[test]
    fn identifiers_are_printed_as_they_are_read(arcs in prop::collection::vec(any::<u32>(), 0..6)) {
        for head in ["0.9", "1.3", "2.999"] {
            let arcs = arcs.iter().map(u32::to_string);
            let text = [head.to_owned()].into_iter().chain(arcs).collect::<Vec<_>>().join(".");
            prop_assert_eq!(text.parse::<Oid>().unwrap().to_string(), text);
        }
    }
}

#[test]
fn what_is_no_identifier_is_refused() {
    for text in [
        "", "1", "1.", ".1", "3.1", "1.40", "01.2", "1.02", "1.-2", "1.x", "1.2 ",
    ] {
        assert!(text.parse::<Oid>().is_err(), "{text}");
    }
}

#[test]
fn dates_that_are_none_are_refused() {
    for text in [
        "20230229000000Z",
        "20241301000000Z",
        "20240230000000Z",
        "20240101240000Z",
    ] {
        assert!(
            read_time(der::GENERALIZED_TIME, text.as_bytes()).is_err(),
            "{text}"
        );
    }
    assert!(read_time(der::GENERALIZED_TIME, b"20240229000000Z").is_ok());
    assert!(read_time(der::UTC_TIME, b"2402290000Z").is_err());
    assert!(read_time(der::UTC_TIME, b"240229000000+0100").is_err());
}

#[test]
fn lengths_have_one_form() {
    for bytes in [
        &[0x30, 0x80, 0, 0][..],
        &[0x30, 0x81, 1, 0],
        &[0x30, 0x82, 0, 200],
        &[0x30, 2, 0],
        &[0x30],
        &[0x1f, 1, 0],
        &[0x30, 0x85, 1, 0, 0, 0, 0],
    ] {
        assert_eq!(Reader::new(bytes).any(), Err(NotDer), "{bytes:?}");
    }
    assert!(Reader::new(&[0x30, 0]).any().is_ok());
}

#[test]
fn serial_numbers_are_positive_and_of_twenty_bytes_at_most() {
    for bytes in [&[][..], &[0], &[0, 0], &[0x80], &[1; 21], &[0, 0, 1][..0]] {
        assert!(serial(bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(serial(&[0, 0x80]), Ok(vec![0x80]));
    assert_eq!(serial(&[0x7f; 20]), Ok(vec![0x7f; 20]));
    let mut longest = vec![0];
    longest.extend([0xff; 20]);
    assert_eq!(serial(&longest), Ok(vec![0xff; 20]));
}

#[test]
fn keys_of_each_kind_are_read_back_in_each_form_and_sign() {
    let kinds = [
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Ed25519,
        KeyKind::Rsa(2048),
    ];
    for kind in kinds {
        let key = PrivateKey::generate(kind).unwrap();
        assert_eq!(key.kind(), kind);
        let of_pkcs8 = PrivateKey::from_pkcs8(key.pkcs8().unwrap().expose()).unwrap();
        assert_eq!(of_pkcs8.public(), key.public());
        for as_pkcs8 in [true, false] {
            let text = key.to_pem(as_pkcs8).unwrap();
            let bundle = Bundle::parse(text.expose()).unwrap();
            assert_eq!(bundle.keys[0].public(), key.public(), "{kind:?}");
        }
        assert_eq!(
            PublicKey::from_spki(key.public().spki()).as_ref(),
            Ok(key.public())
        );
        for (bits, pss) in [(0, false), (384, true), (512, false)] {
            let scheme = kind.scheme(bits, pss);
            let signature = key.sign(scheme, b"text").unwrap();
            assert!(
                key.public().verify(scheme, b"text", &signature),
                "{scheme:?}"
            );
            assert!(
                !key.public().verify(scheme, b"other", &signature),
                "{scheme:?}"
            );
            let algorithm = written(|out| scheme.write(out));
            assert_eq!(SignatureScheme::read(&algorithm), Some(scheme));
        }
    }
}

#[test]
fn short_rsa_keys_are_refused() {
    let of = |bytes: usize| {
        let modulus = vec![0xc1; bytes];
        let bits = written(|out| {
            out.nest(der::SEQUENCE, |out| {
                out.unsigned(&modulus);
                out.unsigned(&[1, 0, 1]);
            });
        });
        let spki = written(|out| {
            out.nest(der::SEQUENCE, |out| {
                out.nest(der::SEQUENCE, |out| {
                    out.value(der::OID, oid::known::RSA);
                    out.value(der::NULL, &[]);
                });
                out.bits(&bits);
            });
        });
        PublicKey::from_spki(&spki).map(|key| key.kind())
    };
    assert_eq!(of(128), Err(KeyError::Kind));
    assert_eq!(of(256), Ok(KeyKind::Rsa(2048)));
    assert_eq!(of(512), Ok(KeyKind::Rsa(4096)));
    assert_eq!(of(1024), Err(KeyError::Kind));
}

#[test]
fn a_certificate_is_read_as_it_was_made() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let names = [
        San::Dns("a.example".to_owned()),
        San::Email("a@a.example".to_owned()),
        San::Uri("spiffe://a/b".to_owned()),
        San::Ip("192.0.2.1".parse().unwrap()),
        San::Ip("2001:db8::1".parse().unwrap()),
        San::Other("1.2.3.4".parse().unwrap(), "ü".to_owned()),
    ];
    let made = root(
        &key,
        Extensions {
            names: &names,
            basic_constraints: Some((true, Some(3))),
            subject_key_id: &[1, 2, 3],
            ..Extensions::default()
        },
    );
    assert_eq!(made.names.as_deref(), Some(&names[..]));
    assert_eq!(made.authority, Some(AuthorityLimit { path: Some(3) }));
    assert_eq!(made.key_id, [1, 2, 3]);
    assert_eq!(made.serial, [0x80, 1]);
    assert!(made.is_self_signed());
    assert_eq!(Certificate::parse(made.der()).unwrap(), made);
    let other = PrivateKey::generate(KeyKind::P256).unwrap();
    assert!(!made.is_signed_by(&root(&other, Extensions::default())));
    for at in 0..made.der().len() {
        let mut bytes = made.der().to_vec();
        bytes[at] ^= 1;
        if let Ok(changed) = Certificate::parse(&bytes) {
            assert!(!changed.verifies_with(key.public()), "byte {at} may change");
        }
    }
}

#[test]
fn an_extension_stands_once() {
    let twice = written(|out| {
        out.nest(der::SEQUENCE, |out| {
            for _ in 0..2 {
                out.nest(der::SEQUENCE, |out| {
                    out.value(der::OID, oid::known::KEY_USAGE);
                    out.value(der::OCTET_STRING, &[3, 2, 7, 0x80]);
                });
            }
        });
    });
    assert!(read_extensions(&twice).is_err());
    assert_eq!(read_usage(&[3, 2, 7, 0x80]), Ok(1));
}

#[test]
fn names_keep_their_parts_and_their_letters() {
    let mut name = Name::default();
    name.push(Attribute::CommonName, "a, b & c");
    name.push(Attribute::Organization, "Größe GmbH");
    name.push(Attribute::Country, "DE");
    name.push(Attribute::Unit, "");
    let read = Name::from_der(&name.to_der()).unwrap();
    assert_eq!(read.last(Attribute::CommonName), Some("a, b & c"));
    assert_eq!(read.last(Attribute::Organization), Some("Größe GmbH"));
    assert_eq!(read.last(Attribute::Unit), None);
}

#[test]
fn a_request_is_believed_only_with_its_keys_signature() {
    let key = PrivateKey::generate(KeyKind::P384).unwrap();
    let names = [San::Dns("a.example".to_owned())];
    let extensions = Extensions {
        names: &names,
        ..Extensions::default()
    };
    let scheme = key.kind().scheme(0, false);
    let der = sign_request(&name("a"), &extensions, &key, scheme).unwrap();
    let read = CertificateRequest::parse(&pem("CERTIFICATE REQUEST", &der)).unwrap();
    assert_eq!(
        (&read.key, read.names.as_slice()),
        (key.public(), &names[..])
    );
    let old = pem("NEW CERTIFICATE REQUEST", &der);
    assert_eq!(CertificateRequest::parse(&old), Ok(read));
    for at in 0..der.len() {
        let mut bytes = der.clone();
        bytes[at] ^= 1;
        let text = pem("CERTIFICATE REQUEST", &bytes);
        assert!(
            CertificateRequest::parse(&text).is_err(),
            "byte {at} may change"
        );
    }
}

#[test]
fn a_bundle_holds_certificates_and_keys_and_no_more_than_it_may() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let made = root(&key, Extensions::default());
    let one = pem("CERTIFICATE", made.der());
    let text = format!("{}\n{one}\n", key.to_pem(false).unwrap().expose());
    let read = Bundle::parse(&text).unwrap();
    assert_eq!(read.certificates, [made]);
    assert_eq!(read.keys.len(), 1);
    assert_eq!(Bundle::parse("").err(), Some(BundleError::Format));
    assert_eq!(Bundle::parse("nonsense").err(), Some(BundleError::Format));
    let many = format!("{one}\n").repeat(65);
    assert_eq!(Bundle::parse(&many).err(), Some(BundleError::TooLong));
    let long = " ".repeat(BUNDLE_BYTES_MAX + 1);
    assert_eq!(Bundle::parse(&long).err(), Some(BundleError::TooLong));
}

/// A question about serial numbers of an issuer, as a client writes it.
fn question(issuer: &Certificate, serials: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA256, digest};
    written(|out| {
        out.nest(der::SEQUENCE, |out| {
            out.nest(der::SEQUENCE, |out| {
                out.nest(der::SEQUENCE, |out| {
                    for serial in serials {
                        out.nest(der::SEQUENCE, |out| {
                            out.nest(der::SEQUENCE, |out| {
                                out.nest(der::SEQUENCE, |out| {
                                    out.value(der::OID, oid::known::SHA256);
                                    out.value(der::NULL, &[]);
                                });
                                let subject = digest(&SHA256, &issuer.subject);
                                out.value(der::OCTET_STRING, subject.as_ref());
                                let key = digest(&SHA256, issuer.key.bits());
                                out.value(der::OCTET_STRING, key.as_ref());
                                out.unsigned(&[*serial]);
                            });
                        });
                    }
                });
            });
        });
    })
}

// CVE-2024-2660: an answer was believed that was about another issuer or serial number.
#[test]
fn a_question_is_about_an_issuer_by_name_and_by_key() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let made = root(&key, Extensions::default());
    let other = root(
        &PrivateKey::generate(KeyKind::P256).unwrap(),
        Extensions::default(),
    );
    let asked = OcspRequest::parse(&question(&made, &[5, 6])).unwrap();
    assert_eq!(asked.ids.len(), 2);
    assert_eq!(asked.ids[1].serial, [6]);
    assert!(asked.ids[0].is_of(&made));
    assert!(
        !asked.ids[0].is_of(&other),
        "the name is the same, the key is not"
    );
    assert_eq!(
        OcspRequest::parse(&question(&made, &[1; 9])),
        Err(OcspError::Malformed)
    );
    assert_eq!(
        OcspRequest::parse(&question(&made, &[])),
        Err(OcspError::Malformed)
    );
    assert_eq!(
        OcspRequest::parse(&[0; OCSP_BYTES_MAX + 1]),
        Err(OcspError::Malformed)
    );
    let responder = OcspResponder {
        issuer: &made,
        key: &key,
        scheme: key.kind().scheme(0, false),
        now: at(1_800_000_000),
        next_update: Some(at(1_800_000_000).plus(Duration::from_secs(60))),
    };
    let answers: Vec<_> = asked
        .ids
        .iter()
        .map(|id| Answered {
            id,
            status: CertStatus::Good,
        })
        .collect();
    let answer = sign_ocsp(&responder, &answers, None).unwrap();
    let mut outer = Reader::new(&answer);
    let mut parts = outer.nested(der::SEQUENCE).unwrap();
    assert_eq!(parts.value(der::ENUMERATED), Ok(&[0][..]));
}
