//! Whatever is asked of whatever role: what is issued is what the role allows, by an obvious reading.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Names that roles and requests are drawn of: so few that they meet.
const NAMES: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "*.example.com",
    "*.a.example.com",
    "aexample.com",
    "example.com.evil.org",
    "web-1.example.com",
    "localhost",
    "a.localhost",
    "other",
    "A.EXAMPLE.com",
    "me@example.com",
    "me@a.example.com",
];

const DOMAINS: &[&str] = &[
    "example.com",
    "a.example.com",
    "web-*.example.com",
    "other",
    "*",
];

#[derive(Debug, Clone)]
struct Case {
    role: Value,
    asked: Value,
    names: Vec<&'static str>,
    addresses: bool,
    ttl: u64,
    is_request: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let flags = proptest::collection::vec(any::<bool>(), 9);
    let domains = subsequence(DOMAINS, 0..=DOMAINS.len());
    let names = subsequence(NAMES, 1..4).prop_shuffle();
    let times = (
        select(&[0_u64, 60, 3600]),
        select(&[0_u64, 1800, 7200]),
        select(&[0, 30, 9000]),
    );
    (flags, domains, names, times, any::<bool>(), any::<bool>()).prop_map(
        |(flags, domains, names, (ttl, max, asked_ttl), addresses, is_request)| {
            let ttl = if max == 0 { ttl } else { ttl.min(max) };
            let role = json!({
                "allowed_domains": domains,
                "allow_bare_domains": flags[0],
                "allow_subdomains": flags[1],
                "allow_glob_domains": flags[2],
                "allow_wildcard_certificates": flags[3],
                "allow_any_name": flags[4] && flags[5],
                "allow_localhost": flags[5],
                "allow_ip_sans": flags[6],
                "email_protection_flag": flags[7],
                "key_type": if is_request { "any" } else { "ed25519" },
                "require_cn": false,
                "ttl": ttl,
                "max_ttl": max,
                "no_store": true,
            });
            let mut asked = json!({ "ttl": asked_ttl, "exclude_cn_from_sans": !flags[8] });
            if flags[8] {
                asked["common_name"] = json!(names[0]);
                asked["alt_names"] = json!(names[1..]);
            } else {
                asked["alt_names"] = json!(names);
            }
            if addresses {
                asked["ip_sans"] = json!("192.0.2.1");
            }
            let longest = if max == 0 { 87_600 * 3600 } else { max };
            let ttl = match (asked_ttl, ttl) {
                (0, 0) => longest.min(768 * 3600),
                (0, ttl) => ttl,
                (asked, _) => asked.min(longest),
            };
            Case {
                role,
                asked,
                names,
                addresses,
                ttl,
                is_request,
            }
        },
    )
}

/// Whether a role allows a name, as one would say it to somebody.
fn obviously_allows(role: &Value, name: &str) -> bool {
    let flag = |name: &str| role[name] == true;
    let name = name.to_lowercase();
    let host = name.rsplit('@').next().unwrap_or_default().to_owned();
    let is_mail = name.contains('@');
    let is_wild = name.starts_with("*.");
    if (is_mail && !flag("email_protection_flag"))
        || (is_wild && !flag("allow_wildcard_certificates"))
    {
        return false;
    }
    let below = |domain: &str| host.ends_with(&format!(".{domain}"));
    let under = |domain: &str| flag("allow_subdomains") && below(domain);
    if flag("allow_any_name") {
        return true;
    }
    let is_local = host == "localhost" || under("localhost");
    if flag("allow_localhost") && is_local {
        return true;
    }
    role["allowed_domains"]
        .as_array()
        .unwrap()
        .iter()
        .any(|domain| {
            let domain = domain.as_str().unwrap();
            let is_bare = flag("allow_bare_domains") && host == domain;
            let is_glob = flag("allow_glob_domains")
                && match domain.split_once('*') {
                    Some((before, after)) => {
                        name.len() >= before.len() + after.len()
                            && name.starts_with(before)
                            && name.ends_with(after)
                    }
                    None => false,
                };
            is_bare || is_glob || (flag("allow_subdomains") && below(domain))
        })
}

fn request(case: &Case) -> Value {
    let mut names: Vec<San> = Vec::new();
    for name in &case.names {
        names.push(if name.contains('@') {
            San::Email((*name).to_owned())
        } else {
            dns(name)
        });
    }
    if case.addresses {
        names.push(San::Ip("192.0.2.1".parse().unwrap()));
    }
    let extensions = Extensions {
        names: &names,
        basic_constraints: Some((true, None)),
        key_usage: key_usage_bit("CertSign"),
        ..Extensions::default()
    };
    json!({ "csr": csr_with(&Name::default(), &extensions), "ttl": case.asked["ttl"] })
}

#[test]
fn what_is_issued_is_exactly_what_its_role_allows() {
    let trial = RefCell::new(trial());
    let mut issued = [0, 0];
    let counts = RefCell::new(&mut issued);
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&cases(), |case| {
        let mut trial = trial.borrow_mut();
        trial.write("pki/roles/drawn", case.role.clone());
        let made = if case.is_request {
            trial.root(Update, "pki/sign/drawn", request(&case))
        } else {
            trial.root(Update, "pki/issue/drawn", case.asked.clone())
        };
        let allowed = case
            .names
            .iter()
            .all(|name| obviously_allows(&case.role, name))
            && (!case.addresses || case.role["allow_ip_sans"] == true);
        prop_assert_eq!(made.is_ok(), allowed, "{:?}", made);
        counts.borrow_mut()[usize::from(allowed)] += 1;
        let Ok(made) = made else { return Ok(()) };
        let made = certificate(&made);
        for name in made.names.iter().flatten() {
            let is_asked = match name {
                San::Dns(name) | San::Email(name) => case.names.contains(&name.as_str()),
                San::Ip(_) => case.addresses,
                San::Uri(_) | San::Other(..) => false,
            };
            prop_assert!(is_asked, "{:?}", name);
        }
        let count = case.names.len() + usize::from(case.addresses);
        prop_assert_eq!(made.names.as_ref().map(Vec::len), Some(count));
        prop_assert_eq!(made.authority, None);
        prop_assert_eq!(made.key_usage.unwrap() & key_usage_bit("CertSign"), 0);
        prop_assert_eq!(made.not_after.as_secs(), trial.now.as_secs() + case.ttl);
        prop_assert_eq!(made.serial.len(), 20);
        prop_assert!(made.serial[0] < 0x80);
        Ok(())
    });
    run.unwrap();
    let [refused, issued] = issued;
    assert!(
        20 < issued && 20 < refused,
        "both happen: {issued} issued, {refused} refused"
    );
}
