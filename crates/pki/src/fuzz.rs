//! What is fuzzed in this crate: requests and certificates of others, and the text of signatures.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
mod x509;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use bastide_api::{Revision, Secret, ViewEntries};
use data_encoding::BASE64;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::fixture::{authority, cluster, now};
use crate::log::{Chain, Checkpoint, LogKey, LogSigner};
use crate::peer::spiffe_id;
use crate::ssh::{PrivateKey, PublicKey, SshSigner, check_krl, read_certificate};
use crate::{
    Authority, Claim, PEM_BYTES_MAX, ProvenKey, REVOKED_MAX, Roots, Stranger, ViewSigner,
    certificate_chain, certificate_lifetime, decimal, pem_public_key, revoked_serials,
    string_content, verify_view,
};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("certificate_request", certificate_request),
    ("certificate", certificate),
    ("stranger", stranger),
    ("certificate_signed", certificate_signed),
    ("view_signature", view_signature),
    ("ssh", ssh),
    ("audit_log", audit_log),
    ("x509_request", x509::request),
    ("x509_bundle", x509::bundle),
    ("ocsp_request", x509::ocsp),
];

struct Issuer {
    authority: Authority,
    key: EcdsaKeyPair,
    roots: Roots,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let authority = authority();
    let pair = KeyPair::from_pem(authority.key_pem().expose()).expect("an authority's own key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.serialized_der());
    let roots = Roots::from_pem(authority.certificate_pem()).expect("an authority's own output");
    Issuer {
        authority,
        key: key.expect("an authority's own key"),
        roots,
    }
});

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Notes, keys and lines of the audit log: whatever is believed is what was signed.
fn audit_log(bytes: &[u8]) {
    let signer = LogSigner::from_seed("bastide/fuzz/audit", &Secret::new([7; 32]));
    let text = String::from_utf8_lossy(bytes);
    if let Ok(key) = text.parse::<LogKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(checkpoint) = Checkpoint::read(&text, &signer.key()) {
        let again = Checkpoint::read(&checkpoint.sign(&signer), &signer.key());
        assert_eq!(again, Ok(checkpoint));
    }
    // What this key signs is read back, or is of another form: nothing in between.
    let signed = signer.sign(&text);
    if let Ok(checkpoint) = Checkpoint::read(&signed, &signer.key()) {
        assert!(text.contains(&checkpoint.size.to_string()));
    }
    let mut chain = Chain::new(Vec::new());
    bytes
        .split(|&byte| byte == b'\n')
        .for_each(|line| chain.take(line));
    let _ = chain.end();
}

/// OpenSSH's formats: whatever is read can be written, and is read again as the same.
fn ssh(bytes: &[u8]) {
    if let Ok(facts) = check_krl(bytes) {
        assert!(bytes.len() >= 44, "a list has a head: {facts:?}");
    }
    if let Ok(key) = PublicKey::from_blob(bytes.to_vec()) {
        assert_eq!(PublicKey::parse(&key.to_line()), Ok(key));
    }
    if let Ok(key) = PrivateKey::from_der(bytes) {
        again(&key);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(PublicKey::parse(&key.to_line()), Ok(key));
    }
    if let Some(signed) = read_certificate(text) {
        assert_eq!(
            PublicKey::parse(&signed.subject.to_line()),
            Ok(signed.subject)
        );
    }
    if let Ok(key) = PrivateKey::parse(text) {
        again(&key);
    }
}

fn again(key: &PrivateKey) {
    // What is read need not be a key of which the parts fit; what signs is.
    if SshSigner::new(key).is_ok() {
        let written = key
            .to_openssh("", 7)
            .expect("a key that signs can be written");
        let read = PrivateKey::parse(written.expose()).expect("our own output");
        assert_eq!(read.public().ok(), key.public().ok());
    }
}

/// A request as text, and as DER inside PEM. Whatever it says of names, the certificate for its key
/// says what we say.
fn certificate_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for pem in [text.into_owned(), pem("CERTIFICATE REQUEST", bytes)] {
        let Ok(key) = ProvenKey::from_request(&pem) else {
            continue;
        };
        assert!(pem.len() <= PEM_BYTES_MAX);
        assert_eq!(ProvenKey::from_request(&pem), Ok(key.clone()));
        let node = crate::fixture::node();
        let validity = crate::fixture::for_a_day();
        let issued = ISSUER.authority.sign_node(&key, node, validity, [4; 16]);
        let verified = ISSUER.roots.verify(&issued.der, Claim::NodeClient, now());
        assert!(verified.is_ok_and(|found| found.node() == node));
    }
}

/// Certificates that nobody signed for us: never believed, as text or as DER.
fn certificate(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for pem in [text.into_owned(), pem("CERTIFICATE", bytes)] {
        if let Ok(roots) = Roots::from_pem(&pem) {
            assert!(
                !roots.has_pin(ISSUER.authority.pin()),
                "our key was guessed"
            );
        }
        if let Some((begins, ends)) = certificate_lifetime(&pem) {
            assert_eq!(certificate_lifetime(&pem), Some((begins, ends)));
        }
        let _ = certificate_chain(&pem);
    }
    let der = CertificateDer::from(bytes);
    assert!(Roots::pinned(std::slice::from_ref(&der), ISSUER.authority.pin()).is_err());
    for claim in [
        Claim::NodeClient,
        Claim::NodeServer,
        Claim::ControllerServer,
    ] {
        assert!(ISSUER.roots.verify(&der, claim, now()).is_err());
    }
}

/// Certificates that our own authority signed, whatever they say: what is believed has one name of
/// this cluster, and is no authority.
fn certificate_signed(bytes: &[u8]) {
    let signature = ISSUER
        .key
        .sign(&SystemRandom::new(), bytes)
        .expect("P-256 signs any bytes");
    // AlgorithmIdentifier of ECDSA with SHA-256 (RFC 5758, section 3.2).
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = [&[0], signature.as_ref()].concat();
    let parts = [bytes, &algorithm, &tlv(3, &signature)].concat();
    let der = CertificateDer::from(tlv(0x30, &parts));
    for claim in [
        Claim::NodeClient,
        Claim::NodeServer,
        Claim::ControllerServer,
    ] {
        let Ok(found) = ISSUER.roots.verify(&der, claim, now()) else {
            continue;
        };
        let (rest, parsed) = X509Certificate::from_der(&der).expect("it was verified");
        assert!(rest.is_empty() && !parsed.is_ca());
        assert_eq!(found.cluster(), cluster());
        assert!(now() <= found.expires());
        let id = spiffe_id(found.cluster(), found.role(), found.node());
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = format!("{:?}", names.expect("it has a name").value.general_names);
        assert_eq!(names.matches("spiffe:").count(), 1);
        assert!(names.contains(&id) && !names.contains("DNSName"));
    }
}

/// A value of DER with its tag and length.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap_or_default().to_be_bytes();
    let head = match value.len() {
        0..=127 => vec![tag, length[3]],
        128..=255 => vec![tag, 0x81, length[3]],
        256..=65_535 => vec![tag, 0x82, length[2], length[3]],
        _ => [&[tag, 0x84][..], &length].concat(),
    };
    [&head, value].concat()
}

/// A signature as text: of 64 bytes, only the right one is taken.
fn view_signature(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let signer = ViewSigner::from_seed(&Secret::new([5; 32]));
    let entries = ViewEntries {
        revision: Revision(1),
        entries: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    let right = signer.sign(&entries, cluster());
    let taken = verify_view(entries, cluster(), &signer.public_key(), &text);
    assert_eq!(taken.is_ok(), text == right);
}

/// A certificate of a stranger, in DER or in PEM, and a revocation list.
fn stranger(bytes: &[u8]) {
    let read = Stranger::parse(bytes);
    if let Ok(read) = &read {
        assert_eq!(read.der(), bytes);
        assert!(!read.serial.is_empty() || bytes.is_empty());
        let _ = decimal(&read.serial);
        for (_, content) in &read.extensions {
            let _ = string_content(content);
        }
        // It vouches for itself at most if it is an authority's, and for nobody by itself.
        let trusted = std::slice::from_ref(read);
        let chain = read.chains_to(trusted, &[bytes.to_vec()], read.begins);
        assert!(chain.is_none() || read.is_authority);
    }
    let _ = string_content(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Stranger::from_pem(text);
        let _ = pem_public_key(text);
        if let Ok(serials) = revoked_serials(text) {
            assert!(serials.len() <= REVOKED_MAX);
        }
    }
}
