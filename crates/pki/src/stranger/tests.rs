use std::process::Command;

use super::*;

/// Runs openssl in a folder; `false` if there is none on this machine.
fn openssl(folder: &std::path::Path, line: &str) -> bool {
    let ran = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(folder)
        .output();
    match ran {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {line}: {said}");
            true
        }
        Err(_) => false,
    }
}

fn now() -> UnixTime {
    bastide_linux::clock::Clock::leading(None).now()
}

struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn certificate(&self, name: &str) -> Stranger {
        Stranger::from_pem(&self.read(name)).unwrap().remove(0)
    }
}

const LEAF: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n\
    subjectAltName=DNS:ci.example,email:ci@example.org,URI:spiffe://example/ci\n\
    1.2.3.4=ASN1:UTF8String:blue\n";

/// An authority, one below it, and a client's certificate of the latter, all made by openssl.
fn made() -> Option<Made> {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    if !openssl(
        at,
        &format!("req -x509 {ec} -keyout ca.key -out ca.pem -days 2 -subj /CN=root"),
    ) {
        println!("skipped: openssl is missing");
        return None;
    }
    std::fs::write(
        at.join("below.ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\n",
    )
    .unwrap();
    std::fs::write(at.join("leaf.ext"), LEAF).unwrap();
    for (name, subject, issuer, serial) in [
        ("below", "/CN=below", "ca", "0x1000"),
        (
            "leaf",
            "/OU=build/OU=night/CN=ci",
            "below",
            "0x00ff00ff00ff00ff00ff",
        ),
    ] {
        openssl(
            at,
            &format!("req -new {ec} -keyout {name}.key -out {name}.csr -subj {subject}"),
        );
        openssl(
            at,
            &format!(
                "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -days 1 \
                 -set_serial {serial} -extfile {name}.ext -out {name}.pem"
            ),
        );
    }
    Some(Made { folder })
}

#[test]
fn a_certificate_of_openssl_is_read_whole() {
    let Some(made) = made() else { return };
    let leaf = made.certificate("leaf.pem");
    assert_eq!(leaf.common_name, "ci");
    assert_eq!(leaf.organizational_units, ["build", "night"]);
    assert_eq!(leaf.dns, ["ci.example"]);
    assert_eq!(leaf.emails, ["ci@example.org"]);
    assert_eq!(leaf.uris, ["spiffe://example/ci"]);
    assert!(!leaf.is_authority && leaf.is_for_clients);
    assert_eq!(decimal(&leaf.serial), "4703991516010230251775");
    let (_, own) = leaf
        .extensions
        .iter()
        .find(|(oid, _)| oid == "1.2.3.4")
        .unwrap();
    assert_eq!(string_content(own), Some("blue"));
    assert!(made.certificate("ca.pem").is_authority);
    assert!(leaf.is_good_at(now()));
    assert!(!leaf.is_good_at(now().plus(Duration::from_secs(2 * 86_400))));
}

#[test]
fn a_chain_holds_only_by_way_of_authorities_and_in_their_time() {
    let Some(made) = made() else { return };
    let [leaf, below, root] = ["leaf.pem", "below.pem", "ca.pem"].map(|it| made.certificate(it));
    let between = [below.der().to_vec()];
    let roots = [root.clone()];
    let serials = leaf.chains_to(&roots, &between, now()).unwrap();
    assert_eq!(
        serials,
        [
            leaf.serial.clone(),
            below.serial.clone(),
            root.serial.clone()
        ]
    );
    // Without the one between there is no chain, unless that one is trusted itself.
    assert_eq!(leaf.chains_to(&roots, &[], now()), None);
    assert!(
        leaf.chains_to(std::slice::from_ref(&below), &[], now())
            .is_some()
    );
    // A certificate that is no authority's vouches for none, not even for itself.
    assert_eq!(
        leaf.chains_to(std::slice::from_ref(&leaf), &[], now()),
        None
    );
    let later = now().plus(Duration::from_secs(86_400 + 3_600));
    assert_eq!(leaf.chains_to(&roots, &between, later), None);
    // The authority's own time counts too, which path building by itself does not look at.
    let ended = Stranger {
        ends: now().plus(Duration::from_secs(0)),
        ..root
    };
    let after = now().plus(Duration::from_secs(60));
    assert_eq!(leaf.chains_to(&[ended], &between, after), None);
}

#[test]
fn a_leaf_with_an_authoritys_key_and_name_vouches_for_none() {
    // CVE-2025-6037 is of this kind: a certificate that is no authority's was trusted as if it were.
    let Some(made) = made() else { return };
    let at = made.folder.path();
    std::fs::write(at.join("twin.ext"), "basicConstraints=critical,CA:FALSE\n").unwrap();
    openssl(at, "req -new -key ca.key -out twin.csr -subj /CN=root");
    openssl(
        at,
        "x509 -req -in twin.csr -CA ca.pem -CAkey ca.key -days 1 -extfile twin.ext -out twin.pem",
    );
    let [leaf, below, twin] = ["leaf.pem", "below.pem", "twin.pem"].map(|it| made.certificate(it));
    let between = [below.der().to_vec()];
    assert_eq!(leaf.chains_to(&[twin], &between, now()), None);
    assert!(
        leaf.chains_to(&[made.certificate("ca.pem")], &between, now())
            .is_some()
    );
}

#[test]
fn a_certificate_for_servers_is_none_of_a_client() {
    let Some(made) = made() else { return };
    let at = made.folder.path();
    std::fs::write(at.join("server.ext"), "extendedKeyUsage=serverAuth\n").unwrap();
    openssl(
        at,
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 1 -extfile server.ext -out server.pem",
    );
    let server = made.certificate("server.pem");
    assert!(!server.is_for_clients);
    assert_eq!(
        server.chains_to(&[made.certificate("ca.pem")], &[], now()),
        None
    );
}

#[test]
fn a_list_of_openssl_says_which_serials_it_revokes() {
    let Some(made) = made() else { return };
    let at = made.folder.path();
    std::fs::write(
        at.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=db\ncrlnumber=num\ndefault_md=sha256\n\
         default_crl_days=1\n",
    )
    .unwrap();
    std::fs::write(at.join("db"), "").unwrap();
    std::fs::write(at.join("num"), "01").unwrap();
    for line in [
        "ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke below.pem",
        "ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem",
    ] {
        openssl(at, line);
    }
    let revoked = revoked_serials(&made.read("crl.pem")).unwrap();
    assert_eq!(revoked, [made.certificate("below.pem").serial]);
    for wrong in [
        "",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ] {
        assert!(revoked_serials(wrong).is_err());
    }
}

#[test]
fn numbers_are_told_in_decimal() {
    for (number, expect) in [
        (&[][..], "0"),
        (&[0], "0"),
        (&[1, 0], "256"),
        (&[0xff; 8], "18446744073709551615"),
        (&[0x3b, 0x9a, 0xca, 0x00], "1000000000"),
        (
            &[0xff; 20],
            "1461501637330902918203684832716283019655932542975",
        ),
    ] {
        assert_eq!(decimal(number), expect);
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    for wrong in [&[][..], &[0x30], &[0x30, 0x80, 0, 0], &[0xff; 64]] {
        assert_eq!(Stranger::parse(wrong), Err(StrangerError::Format));
        assert_eq!(string_content(wrong), None);
    }
    assert_eq!(
        Stranger::parse(&vec![0; STRANGER_BYTES_MAX + 1]),
        Err(StrangerError::TooLarge)
    );
    assert_eq!(Stranger::from_pem("no text"), Err(StrangerError::Nothing));
    let Some(made) = made() else { return };
    let mut longer = made.certificate("leaf.pem").der().to_vec();
    longer.push(0);
    assert_eq!(Stranger::parse(&longer), Err(StrangerError::Format));
}
