use std::collections::BTreeMap;

use bastide_pki::ssh::{Certificate, PrivateKey, Revoked, RsaHash, SshSigner};

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::ed25519([seed; 32])
}

fn certificate(authority: u8, subject: u8, kind: CertificateKind) -> String {
    let says = Certificate {
        serial: 1,
        kind,
        key_id: "host".to_owned(),
        principals: vec!["atlas".to_owned()],
        valid_after: 1_000,
        valid_before: 2_000,
        critical_options: BTreeMap::new(),
        extensions: BTreeMap::new(),
    };
    let signer = SshSigner::new(&key(authority)).unwrap();
    let subject = key(subject).public().unwrap();
    says.sign(&subject, &signer, RsaHash::Sha512, &[0; 32])
        .unwrap()
}

fn answer() -> Answer {
    Answer {
        authority: key(1).public().unwrap().to_line(),
        name: "atlas".to_owned(),
        id: "0".to_owned(),
        certificates: vec![certificate(1, 2, CertificateKind::Host)],
        krl_version: "1".to_owned(),
        krl: Some(BASE64.encode(&Revoked::default().encode())),
    }
}

#[test]
fn only_an_answer_that_fits_this_host_is_written() {
    let keys = [key(2).public().unwrap()];
    let good = check(&answer(), &keys).unwrap();
    assert_eq!(good.krl, Some(Revoked::default().encode()));
    let mut wrong = answer();
    wrong.authority = "ssh-ed25519 AAAA".to_owned();
    assert_eq!(check(&wrong, &keys), Err(Unfit::Authority));
    for certificates in [
        vec![],
        vec![certificate(1, 3, CertificateKind::Host)],
        vec![certificate(3, 2, CertificateKind::Host)],
        vec![certificate(1, 2, CertificateKind::User)],
        vec![format!(
            "{}\nssh-ed25519 AAAA",
            certificate(1, 2, CertificateKind::Host)
        )],
    ] {
        let wrong = Answer {
            certificates,
            ..answer()
        };
        assert_eq!(check(&wrong, &keys), Err(Unfit::Certificate));
    }
    let cut = Revoked::default().encode();
    for krl in [
        "%".to_owned(),
        BASE64.encode(&cut[..cut.len() - 1]),
        String::new(),
    ] {
        let wrong = Answer {
            krl: Some(krl),
            ..answer()
        };
        assert_eq!(check(&wrong, &keys), Err(Unfit::Krl));
    }
}

#[test]
fn a_host_is_certified_anew_at_half_of_its_certificates_life() {
    let keys = [key(2).public().unwrap()];
    let authority = key(1).public().unwrap().to_line();
    let line = certificate(1, 2, CertificateKind::Host);
    let held = || vec![read_certificate(&line)];
    let at = |secs: u64| UnixTime::from_millis(secs * 1000);
    assert!(!is_due(&keys, &held(), &authority, at(1_499)));
    assert!(is_due(&keys, &held(), &authority, at(1_500)));
    assert!(
        is_due(&keys, &[None], &authority, at(1_001)),
        "none is held"
    );
    assert!(is_due(&keys, &[], &authority, at(1_001)), "a key is new");
    let other = [key(3).public().unwrap()];
    assert!(
        is_due(&other, &held(), &authority, at(1_001)),
        "the key was made anew"
    );
    let second = key(4).public().unwrap().to_line();
    assert!(
        is_due(&keys, &held(), &second, at(1_001)),
        "the authority is another"
    );
}
