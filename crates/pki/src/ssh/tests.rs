use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Runs `ssh-keygen`; `None`, said aloud, where there is none.
fn keygen(dir: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let made = Command::new("ssh-keygen")
        .current_dir(dir)
        .args(arguments)
        .output();
    match made {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            Some((output.status.success(), text))
        }
        Err(_) => {
            eprintln!("skipped: ssh-keygen is missing");
            None
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    path
}

fn ed25519(seed: u8) -> PrivateKey {
    PrivateKey::ed25519([seed; 32])
}

fn ecdsa(kind: KeyKind, seed: u8) -> PrivateKey {
    PrivateKey::ecdsa(kind, |bytes| bytes.fill(seed)).unwrap()
}

fn template() -> Certificate {
    Certificate {
        serial: 0x1234_5678_9abc_def0,
        kind: CertificateKind::User,
        key_id: "ada login".to_owned(),
        principals: vec!["ada".to_owned(), "root@atlas".to_owned()],
        valid_after: 1_700_000_000,
        valid_before: 1_700_000_030,
        critical_options: BTreeMap::from([
            ("force-command".to_owned(), "/bin/true".to_owned()),
            ("source-address".to_owned(), "10.0.0.0/8".to_owned()),
        ]),
        extensions: BTreeMap::from([("permit-pty".to_owned(), String::new())]),
    }
}

#[test]
fn ssh_keygen_reads_certificates_of_every_kind_of_key_and_authority() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = {
        let made = keygen(
            dir.path(),
            &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "rsa"],
        );
        let Some((true, _)) = made else { return };
        PrivateKey::parse(&std::fs::read_to_string(dir.path().join("rsa")).unwrap()).unwrap()
    };
    let keys = [
        ed25519(1),
        ecdsa(KeyKind::Ecdsa256, 2),
        ecdsa(KeyKind::Ecdsa384, 3),
        ecdsa(KeyKind::Ecdsa521, 4),
        rsa,
    ];
    for (number, authority) in keys.iter().enumerate() {
        let signer = SshSigner::new(authority).unwrap();
        for subject in &keys {
            let subject = subject.public().unwrap();
            for hash in [RsaHash::Sha256, RsaHash::Sha512] {
                let line = template().sign(&subject, &signer, hash, &[9; 32]).unwrap();
                write(dir.path(), "id-cert.pub", &format!("{line}\n"));
                let (good, shown) = keygen(dir.path(), &["-L", "-f", "id-cert.pub"]).unwrap();
                assert!(good, "authority {number}: {shown}");
                for part in [
                    "Serial: 1311768467463790320",
                    "Key ID: \"ada login\"",
                    "                root@atlas\n",
                    "force-command /bin/true",
                    "source-address 10.0.0.0/8",
                    "permit-pty",
                    &subject.fingerprint(),
                    &signer.public().fingerprint(),
                ] {
                    assert!(shown.contains(part), "`{part}` is not in {shown}");
                }
                let read = read_certificate(&line).unwrap();
                assert_eq!(read.subject, subject);
                assert_eq!(read.authority, *signer.public());
                assert_eq!(read.says.principals, template().principals);
                assert_eq!(read.says.critical_options, template().critical_options);
                assert_eq!(read.says.valid_before, template().valid_before);
            }
        }
    }
}

#[test]
fn private_keys_are_written_as_ssh_keygen_reads_them_and_read_as_it_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, bits) in [
        ("ed25519", "256"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
        ("rsa", "3072"),
    ] {
        for form in ["RFC4716", "PKCS8", "PEM"] {
            let name = format!("{kind}{bits}{form}");
            let arguments = [
                "-q", "-t", kind, "-b", bits, "-N", "", "-m", form, "-f", &name,
            ];
            let Some((made, text)) = keygen(dir.path(), &arguments) else {
                return;
            };
            assert!(made, "{text}");
            let theirs = std::fs::read_to_string(dir.path().join(&name)).unwrap();
            let line = std::fs::read_to_string(dir.path().join(format!("{name}.pub"))).unwrap();
            let key = PrivateKey::parse(&theirs).unwrap_or_else(|error| panic!("{name} {error}"));
            let public = PublicKey::parse(&line).unwrap();
            assert_eq!(key.public().unwrap(), public, "{name}");
            assert_eq!(public.bits().to_string(), bits, "{name}");
            SshSigner::new(&key).unwrap_or_else(|error| panic!("{name} {error}"));
            let ours = key.to_openssh("comment", 7).unwrap();
            write(dir.path(), "ours", ours.expose());
            let (good, shown) = keygen(dir.path(), &["-y", "-f", "ours"]).unwrap();
            assert!(good, "{name}: {shown}");
            assert_eq!(PublicKey::parse(&shown).unwrap(), public, "{name}");
        }
    }
    let arguments = ["-q", "-t", "ed25519", "-N", "secret", "-f", "locked"];
    keygen(dir.path(), &arguments).unwrap();
    let locked = std::fs::read_to_string(dir.path().join("locked")).unwrap();
    assert_eq!(
        PrivateKey::parse(&locked).err(),
        Some(PrivateKeyError::Encrypted)
    );
}

#[test]
fn ssh_keygen_finds_in_a_revocation_list_what_is_revoked_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let signer = SshSigner::new(&ed25519(1)).unwrap();
    let certify = |name: &str, seed: u8, serial: u64, key_id: &str| {
        let subject = ed25519(seed).public().unwrap();
        let says = Certificate {
            serial,
            key_id: key_id.to_owned(),
            ..template()
        };
        let line = says.sign(&subject, &signer, RsaHash::Sha512, &[9; 32]);
        write(dir.path(), name, &format!("{}\n", line.unwrap()));
    };
    certify("by-serial", 2, 77, "a");
    certify("by-id", 3, 78, "gone");
    certify("by-key", 4, 79, "b");
    certify("good", 5, 80, "c");
    let revoked = Revoked {
        version: 3,
        date: 1_700_000_000,
        serials: BTreeSet::from([77, u64::MAX]),
        key_ids: BTreeSet::from(["gone".to_owned(), "away".to_owned()]),
        keys: BTreeSet::from([ed25519(4).public().unwrap().sha256(), [0; 32]]),
    };
    let list = revoked.encode();
    assert_eq!(check_krl(&list).unwrap().version, 3);
    std::fs::write(dir.path().join("krl"), &list).unwrap();
    for (name, expected) in [
        ("by-serial", "REVOKED"),
        ("by-id", "REVOKED"),
        ("by-key", "REVOKED"),
        ("good", "ok"),
    ] {
        let Some((good, shown)) = keygen(dir.path(), &["-Q", "-f", "krl", name]) else {
            return;
        };
        assert!(shown.contains(expected), "{name}: {shown}");
        assert_eq!(good, expected == "ok", "{name}: {shown}");
    }
    std::fs::write(dir.path().join("krl"), Revoked::default().encode()).unwrap();
    let (good, shown) = keygen(dir.path(), &["-Q", "-f", "krl", "by-serial"]).unwrap();
    assert!(good, "an empty list revokes nothing: {shown}");
}

#[test]
fn lists_of_ssh_keygen_are_taken_and_every_shortened_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let public = ed25519(2).public().unwrap();
    write(dir.path(), "key.pub", &format!("{}\n", public.to_line()));
    let spec = "serial: 5-900\nserial: 1000\nid: somebody\n";
    write(dir.path(), "spec", spec);
    write(
        dir.path(),
        "ca.pub",
        &ed25519(1).public().unwrap().to_line(),
    );
    let arguments = [
        "-k", "-f", "krl", "-s", "ca.pub", "-z", "12", "spec", "key.pub",
    ];
    let theirs = match keygen(dir.path(), &arguments) {
        Some((true, _)) => std::fs::read(dir.path().join("krl")).unwrap(),
        Some((false, shown)) => panic!("{shown}"),
        None => return,
    };
    assert_eq!(check_krl(&theirs).unwrap().version, 12);
    let whole = (0..theirs.len()).filter(|end| check_krl(&theirs[..*end]).is_ok());
    // Cut between two sections it is a list still, of less.
    let whole: Vec<_> = whole.collect();
    for end in whole {
        std::fs::write(dir.path().join("cut"), &theirs[..end]).unwrap();
        let (_, shown) = keygen(dir.path(), &["-Q", "-l", "-f", "cut"]).unwrap();
        assert!(shown.contains("KRL version 12"), "cut at {end}: {shown}");
    }
}

#[test]
fn a_certificate_without_principals_is_never_made() {
    // CVE-2024-7594.
    let signer = SshSigner::new(&ed25519(1)).unwrap();
    let subject = ed25519(2).public().unwrap();
    for principals in [vec![], vec![String::new()]] {
        let says = Certificate {
            principals,
            ..template()
        };
        let made = says.sign(&subject, &signer, RsaHash::Sha512, &[9; 32]);
        assert_eq!(made.err(), Some(CertificateError::NoPrincipals));
    }
}

#[test]
fn hostile_keys_are_refused_by_name() {
    let good = ed25519(1).public().unwrap().to_line();
    let data = good.split(' ').nth(1).unwrap();
    for (text, expected) in [
        (String::new(), PublicKeyError::NoLine),
        ("ssh-ed25519".to_owned(), PublicKeyError::NoLine),
        (format!("ssh-rsa {data}"), PublicKeyError::Damaged),
        (format!("{good}\n{good}"), PublicKeyError::NoLine),
        (format!("command=\"x\" {good}"), PublicKeyError::NoLine),
        (
            format!("ssh-ed25519 {}", &data[..20]),
            PublicKeyError::Damaged,
        ),
        ("x".repeat(9000), PublicKeyError::TooLong),
    ] {
        assert_eq!(PublicKey::parse(&text).err(), Some(expected), "{text:.60}");
    }
    assert!(PublicKey::parse(&format!("  {good} a comment\r\n")).is_ok());
    let signer = SshSigner::new(&ed25519(1)).unwrap();
    let subject = ed25519(2).public().unwrap();
    let line = template()
        .sign(&subject, &signer, RsaHash::Sha512, &[9; 32])
        .unwrap();
    assert_eq!(PublicKey::parse(&line).err(), Some(PublicKeyError::Kind));
}
