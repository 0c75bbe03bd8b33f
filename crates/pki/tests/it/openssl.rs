//! The command line of OpenSSL against our certificates and requests, both ways.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bastide_api::{ClusterId, NodeId, UnixTime};
use bastide_pki::{Authority, Identity, ProvenKey, Validity};

fn openssl(folder: &Path, arguments: &str) -> Output {
    Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split(' '))
        .output()
        .expect("openssl starts")
}

fn is_missing() -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        eprintln!("skipped: openssl is missing");
    }
    missing
}

fn now() -> UnixTime {
    bastide_linux::clock::wall()
}

fn told(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

/// Writes an authority, a node's certificate and a controller's into `folder`.
fn made(folder: &Path) {
    let authority = Authority::create(ClusterId::from_bytes([1; 16]), now(), [9; 16]);
    let node = NodeId::from_bytes([2; 16]);
    let key = ProvenKey::from_request(&Identity::generate().csr_pem()).unwrap();
    let validity = Validity {
        now: now(),
        life: Duration::from_secs(86_400),
    };
    fs::write(folder.join("ca.pem"), authority.certificate_pem()).unwrap();
    let issued = authority.sign_node(&key, node, validity, [3; 16]);
    fs::write(folder.join("node.pem"), issued.pem).unwrap();
    let issued = authority.sign_controller(&key, node, &[[127, 0, 0, 1].into()], validity, [4; 16]);
    fs::write(folder.join("controller.pem"), issued.pem).unwrap();
}

#[test]
fn openssl_verifies_certificates_strictly_for_their_purpose_and_no_other() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    made(folder.path());
    let verify = |purpose: &str, file: &str| {
        let line = format!("verify -x509_strict -CAfile ca.pem -purpose {purpose} {file}.pem");
        openssl(folder.path(), &line)
    };
    for (purpose, file) in [
        ("sslclient", "node"),
        ("sslserver", "node"),
        ("sslserver", "controller"),
    ] {
        let output = verify(purpose, file);
        assert!(
            output.status.success(),
            "{purpose} {file}: {}",
            told(&output)
        );
    }
    assert!(!verify("sslclient", "controller").status.success());
    let named = openssl(
        folder.path(),
        "verify -x509_strict -CAfile ca.pem -verify_ip 127.0.0.1 controller.pem",
    );
    assert!(named.status.success(), "{}", told(&named));
    let own = openssl(folder.path(), "verify -x509_strict -CAfile ca.pem ca.pem");
    assert!(own.status.success(), "{}", told(&own));
}

#[test]
fn openssl_reads_the_names_that_we_wrote() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    made(folder.path());
    let text = told(&openssl(folder.path(), "x509 -in node.pem -noout -text"));
    let cluster = ClusterId::from_bytes([1; 16]);
    let node = NodeId::from_bytes([2; 16]);
    for expected in [
        format!("URI:spiffe://{cluster}/node/{node}"),
        "CA:FALSE".to_owned(),
        "TLS Web Client Authentication".to_owned(),
        "Digital Signature".to_owned(),
        "43:03:03:03:03:03:03:03:03:03:03:03:03:03:03:03".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected} is missing in {text}");
    }
}

#[test]
fn openssl_agrees_with_our_requests_and_we_with_its() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("ours.csr"),
        Identity::generate().csr_pem(),
    )
    .unwrap();
    let output = openssl(folder.path(), "req -in ours.csr -verify -noout");
    assert!(output.status.success(), "{}", told(&output));
    let output = openssl(
        folder.path(),
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
         -out theirs.csr -subj /CN=anything",
    );
    assert!(output.status.success(), "{}", told(&output));
    let theirs = fs::read_to_string(folder.path().join("theirs.csr")).unwrap();
    assert!(ProvenKey::from_request(&theirs).is_ok());
}
