//! Judged beside OpenSSL: what is allowed here it accepts, and what is refused it refuses, but for cases
//! that are named one by one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use bastide_api::UnixTime;
use bastide_pki::x509::der::{self, Writer};
use bastide_pki::x509::{
    Certificate, Extensions, KeyKind, PrivateKey, Template, key_usage_bit, pem, sign_certificate,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};

use super::*;

const NOW_SECS: u64 = 1_800_000_000;

/// Whom a certificate is for.
#[derive(Debug, Clone, Default)]
struct Wanted {
    organization: &'static str,
    common_name: &'static str,
    email: &'static str,
    names: Vec<San>,
}

impl Wanted {
    fn subject(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.nest(der::SEQUENCE, |out| {
            for (oid, tag, text) in [
                (&[0x55, 4, 6][..], der::PRINTABLE_STRING, "DE"),
                (&[0x55, 4, 10], der::UTF8_STRING, self.organization),
                (known::COMMON_NAME, der::UTF8_STRING, self.common_name),
                (known::EMAIL_ADDRESS, der::IA5_STRING, self.email),
            ] {
                if !text.is_empty() {
                    attribute(out, oid, tag, text.as_bytes());
                }
            }
        });
        out.into_bytes()
    }
}

fn attribute(out: &mut Writer, oid: &[u8], tag: u8, text: &[u8]) {
    out.nest(der::SET, |out| {
        out.nest(der::SEQUENCE, |out| {
            out.value(der::OID, oid);
            out.value(tag, text);
        });
    });
}

/// A subtree, written as `dns:`, `email:`, `uri:`, `ip:` or `dir:` and its base.
fn tree(text: &str) -> Subtree {
    let (kind, base) = text.split_once(':').unwrap();
    match kind {
        "dns" => Subtree::Dns(base.to_owned()),
        "email" => Subtree::Email(base.to_owned()),
        "uri" => Subtree::Uri(base.to_owned()),
        "ip" => {
            let network: IpNet = base.parse().unwrap();
            Subtree::Ip(network.network(), network.prefix_len())
        }
        "dir" => {
            let mut out = Writer::default();
            out.nest(der::SEQUENCE, |out| {
                attribute(out, &[0x55, 4, 6], der::PRINTABLE_STRING, b"de");
                if !base.is_empty() {
                    attribute(out, &[0x55, 4, 10], der::T61_STRING, base.as_bytes());
                }
            });
            Subtree::Directory(out.into_bytes())
        }
        _ => panic!("{kind}"),
    }
}

fn constraints(permitted: &[&str], excluded: &[&str]) -> Constraints {
    let trees = |list: &[&str]| list.iter().map(|text| tree(text)).collect();
    Constraints {
        permitted: trees(permitted),
        excluded: trees(excluded),
    }
}

/// A name, written as `dns:`, `email:`, `uri:`, `ip:`, or the subject's `cn:`, `mail:` and `org:`.
fn wanted(texts: &[&'static str]) -> Wanted {
    let mut wanted = Wanted::default();
    for text in texts {
        let (kind, name) = text.split_once(':').unwrap();
        match kind {
            "dns" => wanted.names.push(San::Dns(name.to_owned())),
            "email" => wanted.names.push(San::Email(name.to_owned())),
            "uri" => wanted.names.push(San::Uri(name.to_owned())),
            "ip" => wanted.names.push(San::Ip(name.parse().unwrap())),
            "smtp" => {
                let oid = Oid::from_content(known::SMTP_UTF8_MAILBOX);
                wanted.names.push(San::Other(oid, name.to_owned()));
            }
            "cn" => wanted.common_name = name,
            "mail" => wanted.email = name,
            "org" => wanted.organization = name,
            _ => panic!("no such kind: {kind}"),
        }
    }
    wanted
}

/// A root and an intermediate, each with constraints, that sign whatever they are told to.
struct Authorities {
    key: PrivateKey,
    root: Constraints,
    below: Constraints,
}

impl Authorities {
    fn new(root: Constraints, below: Constraints) -> Self {
        Self {
            key: PrivateKey::generate(KeyKind::P256).unwrap(),
            root,
            below,
        }
    }

    fn judge(&self, wanted: &Wanted) -> Result<(), String> {
        let bounds = [("below", &self.below), ("root", &self.root)].map(|(issuer, constraints)| {
            let constraints = Some(constraints.clone());
            Bound {
                issuer: issuer.to_owned(),
                constraints,
            }
        });
        judge(&bounds, &wanted.subject(), &wanted.names).map_err(crate::core::trial::text)
    }

    fn sign(&self, subject: &[u8], issuer: &[u8], extensions: Extensions<'_>) -> Vec<u8> {
        let id = self.key.public().id();
        let template = Template {
            serial: &[7],
            issuer,
            subject,
            not_before: UnixTime::from_millis(NOW_SECS * 1000),
            not_after: UnixTime::from_millis((NOW_SECS + 3600) * 1000),
            spki: self.key.public().spki(),
            extensions: Extensions {
                subject_key_id: &id,
                authority_key_id: &id,
                ..extensions
            },
        };
        sign_certificate(&template, &self.key, self.key.kind().scheme(0, false)).unwrap()
    }

    /// What OpenSSL says of certificates for these; `None` without OpenSSL.
    fn ask_openssl(&self, all: &[Wanted]) -> Option<Vec<Result<(), String>>> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, der: &[u8]| {
            std::fs::write(folder.path().join(name), pem("CERTIFICATE", der)).unwrap();
        };
        let named = |text: &'static str| {
            let mut name = wanted(&["org:Example"]);
            name.common_name = text;
            name.subject()
        };
        let (root, below) = (named("root"), named("below"));
        for (file, issuer, subject, own) in [
            ("root.pem", &root, &root, &self.root),
            ("below.pem", &root, &below, &self.below),
        ] {
            let extensions = Extensions {
                basic_constraints: Some((true, None)),
                key_usage: key_usage_bit("CertSign"),
                constraints: (*own != Constraints::default()).then_some(own),
                ..Extensions::default()
            };
            let der = self.sign(subject, issuer, extensions);
            let read = Certificate::parse(&der).unwrap().constraints().unwrap();
            assert_eq!(read.unwrap_or_default(), *own);
            write(file, &der);
        }
        let mut files = Vec::new();
        for (at, wanted) in all.iter().enumerate() {
            let extensions = Extensions {
                names: &wanted.names,
                ..Extensions::default()
            };
            let file = format!("{at}.pem");
            write(&file, &self.sign(&wanted.subject(), &below, extensions));
            files.push(file);
        }
        verdicts(folder.path(), &files)
    }
}

fn verdicts(folder: &Path, files: &[String]) -> Option<Vec<Result<(), String>>> {
    let at = (NOW_SECS + 60).to_string();
    let ran = Command::new("openssl")
        .current_dir(folder)
        .args(["verify", "-attime", &at, "-CAfile", "root.pem"])
        .args(["-untrusted", "below.pem"])
        .args(files)
        .output()
        .ok()?;
    let good = String::from_utf8_lossy(&ran.stdout).into_owned();
    let bad = String::from_utf8_lossy(&ran.stderr).into_owned();
    let verdict = |file: &String| {
        if good.lines().any(|line| line == format!("{file}: OK")) {
            return Ok(());
        }
        assert!(
            bad.contains(&format!("error {file}: verification failed")),
            "{file}: {bad}"
        );
        Err(bad.clone())
    };
    Some(files.iter().map(verdict).collect())
}

const BASES: &[&str] = &[
    "dns:example.com",
    "dns:.example.com",
    "dns:a.example.com",
    "dns:com",
    "dns:EXAMPLE.org",
    "dns:",
    "email:ada@example.com",
    "email:example.com",
    "email:.example.com",
    "uri:a.example.com",
    "uri:.example.com",
    "ip:10.0.0.0/8",
    "ip:10.1.2.3/32",
    "ip:0.0.0.0/0",
    "ip:fd00::/8",
    "ip:fd12:8000::/17",
    "dir:",
    "dir:Example",
    "dir:example  gmbh ",
];

const NAMES: &[&str] = &[
    "dns:example.com",
    "dns:A.example.COM",
    "dns:b.a.example.com",
    "dns:notexample.com",
    "dns:example.com.test",
    "dns:x.example.org",
    "dns:localhost",
    "email:ada@example.com",
    "email:Ada@EXAMPLE.com",
    "email:ada@a.example.com",
    "email:ada@example.org",
    "uri:spiffe://a.example.com/x",
    "uri:https://A.EXAMPLE.com:8443/x",
    "uri:https://example.com",
    "uri:spiffe://other.test/a.example.com",
    "ip:10.1.2.3",
    "ip:10.2.3.4",
    "ip:192.0.2.1",
    "ip:fd12:8000::1",
    "ip:fd12::1",
    "ip:2001:db8::1",
    "cn:a.example.com",
    "cn:www.example.org",
    "cn:10.1.2.3",
    "cn:Ada Lovelace",
    "cn:example",
    "cn:-a.example.com",
    "mail:ada@example.com",
    "mail:bob@example.org",
    "mail:nobody",
    "org:Example",
    "org:EXAMPLE  GmbH",
    "org:Other",
];

#[test]
fn openssl_accepts_what_is_allowed_and_refuses_what_is_not() {
    // What a root says of directory names holds for the intermediate itself, which is not drawn.
    let of_root = |bases: Vec<&'static str>| -> Vec<&'static str> {
        let kept = bases.into_iter().filter(|base| !base.starts_with("dir:"));
        kept.collect()
    };
    let bases = || {
        let list = subsequence(BASES, 0..4);
        prop_oneof![Just(Vec::new()), list]
    };
    let sets = (bases(), bases(), bases(), bases());
    let names = proptest::collection::vec(proptest::collection::vec(select(NAMES), 1..4), 24);
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let counts = std::cell::RefCell::new([0, 0]);
    let run = runner.run(
        &(sets, names),
        |((permitted, excluded, other, further), names)| {
            let authorities = Authorities::new(
                constraints(&of_root(permitted), &of_root(excluded)),
                constraints(&other, &further),
            );
            let all: Vec<Wanted> = names.iter().map(|texts| wanted(texts)).collect();
            let Some(theirs) = authorities.ask_openssl(&all) else {
                return Ok(());
            };
            for ((texts, wanted), theirs) in names.iter().zip(&all).zip(theirs) {
                let ours = authorities.judge(wanted);
                counts.borrow_mut()[usize::from(ours.is_ok())] += 1;
                prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?}", texts, ours);
            }
            Ok(())
        },
    );
    run.unwrap();
    let [refused, allowed] = *counts.borrow();
    if refused + allowed == 0 {
        eprintln!("skipped: openssl is missing");
        return;
    }
    assert!(
        200 < refused && 200 < allowed,
        "both happen: {refused} refused, {allowed} allowed"
    );
}

/// What a name violates, under an intermediate with these constraints; and whether OpenSSL agrees.
fn check(trees: (&[&str], &[&str]), name: &'static str, expect: &str, openssl_agrees: bool) {
    let authorities = Authorities::new(Constraints::default(), constraints(trees.0, trees.1));
    let wanted = wanted(&[name]);
    let ours = authorities.judge(&wanted);
    assert_eq!(
        ours.as_ref().err().map_or("", String::as_str),
        expect,
        "{name}"
    );
    let theirs = authorities.ask_openssl(&[wanted]);
    let mut told = String::new();
    let agrees = theirs.is_none_or(|theirs| {
        write!(told, "{theirs:?}").unwrap();
        theirs[0].is_ok() == ours.is_ok()
    });
    // Without OpenSSL nothing is said about it.
    if !told.is_empty() {
        assert_eq!(agrees, openssl_agrees, "{name}: {told}");
    }
}

#[test]
fn a_refusal_says_which_name_violates_which_constraint() {
    let bound: (&[&str], &[&str]) = (
        &[
            "dns:example.com",
            "dns:example.org",
            "ip:10.0.0.0/8",
            "email:.example.com",
        ],
        &["dns:evil.example.com", "uri:.example.com"],
    );
    for (name, expect) in [
        ("dns:a.example.com", ""),
        (
            "dns:a.test",
            "DNS name \"a.test\" is not permitted by any name constraint of issuer \"below\": \
             \"example.com\", \"example.org\"",
        ),
        (
            "dns:x.evil.example.com",
            "DNS name \"x.evil.example.com\" is excluded by the name constraint \
             \"evil.example.com\" of issuer \"below\"",
        ),
        (
            "cn:www.test",
            "common name \"www.test\" is not permitted by any name constraint of issuer \"below\": \
             \"example.com\", \"example.org\"",
        ),
        (
            "ip:fd00::1",
            "IP address \"fd00::1\" is not permitted by any name constraint of issuer \"below\": \
             \"10.0.0.0/8\"",
        ),
        (
            "email:ada@example.com",
            "email address \"ada@example.com\" is not permitted by any name constraint of issuer \
             \"below\": \".example.com\"",
        ),
        (
            "mail:ada@test",
            "emailAddress \"ada@test\" of the subject is not permitted by any name constraint of \
             issuer \"below\": \".example.com\"",
        ),
        (
            "uri:https://a.example.com/",
            "URI \"https://a.example.com/\" is excluded by the name constraint \".example.com\" of \
             issuer \"below\"",
        ),
        (
            "uri:urn:a:b",
            "URI \"urn:a:b\" cannot be judged by the name constraints of issuer \"below\": it names no \
             host by a domain name alone",
        ),
        ("uri:https://a.example.org/", ""),
    ] {
        check(bound, name, expect, true);
    }
    check(
        (&["dir:Example"], &[]),
        "org:Other",
        "the subject's name is not permitted by any name constraint of issuer \"below\": \"de, Example\"",
        true,
    );
}

#[test]
fn what_others_read_differently_is_refused() {
    let excluded = |name: &str, base: &str| {
        format!("{name} is excluded by the name constraint \"{base}\" of issuer \"below\"")
    };
    // OpenSSL takes each of these.
    for (base, name, told) in [
        // A wildcard stands for what is excluded (CVE-2025-61727 in Go).
        (
            "dns:a.example.com",
            "dns:*.example.com",
            "DNS name \"*.example.com\"",
        ),
        (
            "dns:web.example.com",
            "dns:w*.example.com",
            "DNS name \"w*.example.com\"",
        ),
        (
            "dns:example.com",
            "cn:*.example.com",
            "common name \"*.example.com\"",
        ),
        (
            "dns:example.com",
            "dns:a.example.com.",
            "DNS name \"a.example.com.\"",
        ),
        (
            "dns:example.com",
            "cn:a.example.com.",
            "common name \"a.example.com.\"",
        ),
        (
            "email:example.com",
            "email:ada@example.com.",
            "email address \"ada@example.com.\"",
        ),
        (
            "email:",
            "email:ada@example.com",
            "email address \"ada@example.com\"",
        ),
        (
            "uri:a.test",
            "uri:https://a.test./x",
            "URI \"https://a.test./x\"",
        ),
        ("uri:", "uri:https://a.test/x", "URI \"https://a.test/x\""),
        (
            "ip:10.0.0.0/8",
            "ip:::ffff:10.1.2.3",
            "IP address \"::ffff:10.1.2.3\"",
        ),
    ] {
        check(
            (&[], &[base]),
            name,
            &excluded(told, base.split_once(':').unwrap().1),
            false,
        );
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let unclear = |uri: &str| {
        format!(
            "URI \"{uri}\" cannot be judged by the name constraints of issuer \"below\": it names no \
             host by a domain name alone"
        )
    };
    for uri in [
        "uri:https://10.1.2.3/",
        "uri:https://ada@a.test/",
        "uri:https://a.test/x:y",
    ] {
        check(
            (&[], &["uri:.example.com"]),
            uri,
            &unclear(&uri[4..]),
            false,
        );
    }
    check(
        (&["email:example.com"], &[]),
        "smtp:ada@example.com",
        "other name \"1.3.6.1.5.5.7.8.9;UTF8:ada@example.com\" cannot be judged by the name constraints \
         of issuer \"below\": names of this kind are not compared here",
        false,
    );
    let hidden = "uri:https://evil.test/x.example.com:";
    check(
        (&["uri:.example.com"], &[]),
        hidden,
        &unclear(&hidden[4..]),
        false,
    );
}

#[test]
fn what_openssl_refuses_for_another_reason_is_refused() {
    for (base, name, told) in [
        (
            "dns:example.com",
            "dns:a.example.com.",
            "DNS name \"a.example.com.\"",
        ),
        (
            "dns:a.example.com",
            "dns:*.example.com",
            "DNS name \"*.example.com\"",
        ),
        (
            "email:",
            "email:ada@example.com",
            "email address \"ada@example.com\"",
        ),
    ] {
        let base_alone = base.split_once(':').unwrap().1;
        let told = format!(
            "{told} is not permitted by any name constraint of issuer \"below\": \"{base_alone}\""
        );
        check((&[base], &[]), name, &told, true);
    }
}

#[test]
fn beside_a_dns_name_a_common_name_is_a_word() {
    let authorities = Authorities::new(
        constraints(&["dns:example.com"], &[]),
        Constraints::default(),
    );
    let both = wanted(&["cn:www.test", "dns:a.example.com"]);
    assert_eq!(authorities.judge(&both), Ok(()));
    assert!(
        authorities
            .judge(&wanted(&["cn:www.test", "ip:10.1.2.3"]))
            .is_err()
    );
    for theirs in authorities.ask_openssl(&[both]).into_iter().flatten() {
        theirs.unwrap();
    }
}

#[test]
fn under_constraints_that_cannot_be_read_there_is_nothing() {
    let bound = Bound {
        issuer: "odd".to_owned(),
        constraints: None,
    };
    let ada = wanted(&["dns:a.test"]);
    let told = judge(&[bound], &ada.subject(), &ada.names).map_err(crate::core::trial::text);
    assert!(
        told.unwrap_err()
            .contains("issuer \"odd\" has name constraints that cannot be read")
    );
    assert!(judge(&[], &ada.subject(), &ada.names).is_ok());
}
