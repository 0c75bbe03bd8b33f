use std::time::Duration;

use bastide_pki::x509::{
    Attribute, Bundle, Certificate, Extensions, KeyKind, Name, PrivateKey, San, key_usage_bit, pem,
    sign_request,
};
use serde_json::{Value, json};

use crate::core::request::Operation::{Delete, List, Patch, Read, Update};
use crate::core::trial::{As, Trial, text};

mod authorities;
mod constraints;
mod lists;
mod open;
mod properties;

/// An engine at `pki/` with a root on P-256 of ten years, named `root`.
fn trial() -> Trial {
    let mut trial = Trial::new();
    let mount = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
    trial.write("sys/mounts/pki", mount);
    trial.write("pki/root/generate/internal", root());
    trial
}

fn root() -> Value {
    json!({
        "common_name": "trial root", "key_type": "ec", "ttl": "87600h", "issuer_name": "root",
    })
}

/// A role for `example.com` and what is below it.
fn role() -> Value {
    json!({
        "allowed_domains": ["example.com"], "allow_subdomains": true, "key_type": "ec",
        "max_ttl": "72h",
    })
}

fn certificate(data: &Value) -> Certificate {
    let text = data["certificate"].as_str().unwrap();
    Bundle::parse(text).unwrap().certificates.remove(0)
}

fn refused(trial: &mut Trial, path: &str, data: Value) -> String {
    text(trial.root(Update, path, data).unwrap_err())
}

/// A request for a key on P-256 that asks for these names.
fn csr(common_name: &str, names: &[San]) -> String {
    let mut name = Name::default();
    name.push(Attribute::CommonName, common_name);
    let extensions = Extensions {
        names,
        ..Extensions::default()
    };
    csr_with(&name, &extensions)
}

fn csr_with(name: &Name, extensions: &Extensions<'_>) -> String {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let scheme = key.kind().scheme(0, false);
    let der = sign_request(&name.to_der(), extensions, &key, scheme).unwrap();
    pem("CERTIFICATE REQUEST", &der)
}

fn dns(name: &str) -> San {
    San::Dns(name.to_owned())
}

#[test]
fn periods_of_lists_read_as_they_were_written() {
    let mut trial = trial();
    let read = |trial: &mut Trial| trial.root(Read, "pki/config/crl", json!({})).unwrap();
    let first = read(&mut trial);
    assert_eq!(
        (&first["expiry"], &first["delta_rebuild_interval"]),
        (&json!("72h"), &json!("15m"))
    );
    for text in ["24h", "1h30m", "90s", "1h0m1s", "30m", "10h10m10s"] {
        trial.write("pki/config/crl", json!({ "expiry": text }));
        let expect = if text == "90s" { "1m30s" } else { text };
        assert_eq!(read(&mut trial)["expiry"], expect);
    }
    trial.write("pki/config/crl", json!({ "ocsp_expiry": 0 }));
    assert_eq!(read(&mut trial)["ocsp_expiry"], "0s");
}

#[test]
fn an_issued_pair_says_what_the_role_says_and_is_signed_by_its_issuer() {
    let mut trial = trial();
    trial.write(
        "pki/config/urls",
        json!({
            "issuing_certificates": "http://ca.example/v1/pki/ca",
            "crl_distribution_points": "http://ca.example/v1/pki/crl",
            "ocsp_servers": "http://ca.example/v1/pki/ocsp",
        }),
    );
    trial.write("pki/roles/web", role());
    let asked = json!({
        "common_name": "a.example.com", "alt_names": "b.example.com", "ip_sans": "10.1.2.3",
        "ttl": "72h",
    });
    let data = trial.write("pki/issue/web", asked);
    let made = certificate(&data);
    let issuer = Bundle::parse(data["issuing_ca"].as_str().unwrap()).unwrap();
    assert!(made.is_signed_by(&issuer.certificates[0]));
    assert_eq!(made.authority, None);
    let wanted = ["DigitalSignature", "KeyAgreement", "KeyEncipherment"];
    let wanted = wanted.iter().fold(0, |bits, it| bits | key_usage_bit(it));
    assert_eq!(made.key_usage, Some(wanted));
    let address = San::Ip("10.1.2.3".parse().unwrap());
    let names = made.names.clone().unwrap();
    for name in [dns("a.example.com"), dns("b.example.com"), address] {
        assert!(names.contains(&name), "{name:?} is missing in {names:?}");
    }
    assert_eq!(made.not_before.as_secs(), trial.now.as_secs() - 30);
    assert_eq!(made.not_after.as_secs(), trial.now.as_secs() + 72 * 3600);
    assert_eq!(data["expiration"], made.not_after.as_secs());
    assert_eq!(data["private_key_type"], "ec");
    let key = Bundle::parse(data["private_key"].as_str().unwrap()).unwrap();
    assert_eq!(key.keys[0].public(), &made.key);
    assert_eq!(made.serial.len(), 20);
    let serial = data["serial_number"].as_str().unwrap();
    let path = format!("pki/cert/{serial}");
    let kept = trial.root(Read, &path, json!({})).unwrap();
    assert_eq!(kept["certificate"], data["certificate"]);
    assert_eq!(kept["revocation_time"], 0);
    let listed = trial.root(List, "pki/certs", json!({})).unwrap();
    assert!(listed["keys"].as_array().unwrap().contains(&json!(serial)));
}

#[test]
fn what_is_not_to_be_stored_is_not() {
    let mut trial = trial();
    let mut role = role();
    role["no_store"] = json!(true);
    role["generate_lease"] = json!(true);
    let shown = trial.write("pki/roles/web", role);
    assert_eq!(shown["generate_lease"], false);
    let before = trial.root(List, "pki/certs", json!({})).unwrap();
    trial.write("pki/issue/web", json!({ "common_name": "a.example.com" }));
    assert_eq!(trial.root(List, "pki/certs", json!({})).unwrap(), before);
}

#[test]
fn each_kind_of_key_signs_and_is_signed() {
    for (family, bits) in [
        ("ec", 256),
        ("ec", 384),
        ("ec", 521),
        ("ed25519", 0),
        ("rsa", 2048),
    ] {
        let mut trial = Trial::new();
        trial.write("sys/mounts/pki", json!({ "type": "pki" }));
        let root = json!({
            "common_name": "root", "key_type": family, "key_bits": bits,
            "private_key_format": "pkcs8",
        });
        let root = trial.write("pki/root/generate/exported", root);
        assert!(certificate(&root).is_self_signed(), "{family} {bits}");
        assert_eq!(root["private_key_type"], family);
        let key = Bundle::parse(root["private_key"].as_str().unwrap()).unwrap();
        assert_eq!(key.keys[0].kind().family(), family);
        trial.write(
            "pki/roles/any",
            json!({
                "allow_any_name": true, "key_type": family, "key_bits": bits, "use_pss": true,
                "signature_bits": 384,
            }),
        );
        let leaf = trial.write("pki/issue/any", json!({ "common_name": "a.example" }));
        let leaf = certificate(&leaf);
        assert!(leaf.is_signed_by(&certificate(&root)), "{family} {bits}");
        assert_eq!(leaf.key.kind().family(), family);
    }
}

#[test]
fn a_role_without_an_issuer_and_an_unknown_role_are_told_apart() {
    let mut trial = Trial::new();
    trial.write("sys/mounts/pki", json!({ "type": "pki" }));
    trial.write("pki/roles/web", role());
    let asked = json!({ "common_name": "a.example.com" });
    let no_issuer = refused(&mut trial, "pki/issue/web", asked.clone());
    assert!(no_issuer.contains("no default issuer currently configured"));
    assert_eq!(
        refused(&mut trial, "pki/issue/other", asked),
        "unknown role: other"
    );
}

#[test]
fn a_certificate_does_not_outlive_its_issuer_unless_the_operator_says_so() {
    let mut trial = trial();
    trial.write(
        "pki/root/generate/internal",
        json!({
            "common_name": "short", "key_type": "ec", "ttl": "1h", "issuer_name": "short",
        }),
    );
    let mut role = role();
    role["issuer_ref"] = json!("short");
    trial.write("pki/roles/web", role);
    let asked = json!({ "common_name": "a.example.com", "ttl": "2h" });
    let told = refused(&mut trial, "pki/issue/web", asked.clone());
    assert!(
        told.starts_with("cannot satisfy request, as TTL would result in notAfter of ")
            && told.contains("that is beyond the expiration of the CA certificate at "),
        "{told}"
    );
    trial.write(
        "pki/issuer/short",
        json!({ "leaf_not_after_behavior": "truncate" }),
    );
    let cut = certificate(&trial.write("pki/issue/web", asked.clone()));
    assert_eq!(cut.not_after.as_secs(), trial.now.as_secs() + 3600);
    trial.write(
        "pki/issuer/short",
        json!({ "leaf_not_after_behavior": "permit" }),
    );
    let whole = certificate(&trial.write("pki/issue/web", asked.clone()));
    assert_eq!(whole.not_after.as_secs(), trial.now.as_secs() + 7200);
    trial.write(
        "pki/issuer/short",
        json!({ "leaf_not_after_behavior": "truncate" }),
    );
    trial.pass(3601);
    // An issuer that has ended is not cut to: nothing would be left.
    let ended = refused(&mut trial, "pki/issue/web", asked);
    assert!(
        ended.contains("beyond the expiration of the CA certificate"),
        "{ended}"
    );
}

#[test]
fn a_life_of_zero_is_the_usual_one_and_never_endless() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let made = trial.write(
        "pki/issue/web",
        json!({ "common_name": "a.example.com", "ttl": 0 }),
    );
    let life = certificate(&made).not_after.since(trial.now);
    assert!(Duration::from_secs(72 * 3600 - 1) <= life && life <= Duration::from_secs(72 * 3600));
    let asked = json!({ "common_name": "a.example.com", "ttl": "10ms" });
    assert!(refused(&mut trial, "pki/issue/web", asked).contains("would end at once"));
    let asked = json!({ "common_name": "a.example.com", "not_after": "9999-12-31T23:59:59Z" });
    let made = trial.ask(As::Root, Update, "pki/issue/web", asked).unwrap();
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    let ends = certificate(&Value::Object(made.data.unwrap())).not_after;
    assert_eq!(ends.as_secs(), trial.now.as_secs() + 72 * 3600);
    let asked = json!({
        "common_name": "a.example.com", "not_after": "2030-01-01T00:00:00Z", "ttl": "1h",
    });
    assert!(refused(&mut trial, "pki/issue/web", asked).contains("Both should not be provided"));
}

#[test]
fn a_longer_life_than_the_roles_is_cut_and_told() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let asked = json!({ "common_name": "a.example.com", "ttl": "1000h" });
    let made = trial.ask(As::Root, Update, "pki/issue/web", asked).unwrap();
    let told = &made.warnings[0];
    assert!(
        told.contains("is longer than permitted maxTTL \"72h0m0s\""),
        "{told}"
    );
}

// GHSA-g892: what a request names was not held against the role, when it was an address.
#[test]
fn names_in_a_request_are_judged_like_names_in_fields() {
    let mut trial = trial();
    let mut role = role();
    role["allow_ip_sans"] = json!(false);
    trial.write("pki/roles/web", role);
    let good = csr("a.example.com", &[dns("b.example.com")]);
    let made = certificate(&trial.write("pki/sign/web", json!({ "csr": good })));
    assert!(made.names.unwrap().contains(&dns("b.example.com")));
    let bad = [
        (
            San::Ip("10.0.0.1".parse().unwrap()),
            "IP Subject Alternative Names are not allowed",
        ),
        (
            dns("b.example.org"),
            "subject alternate name b.example.org not allowed by this role",
        ),
        (
            San::Email("a@example.com".to_owned()),
            "email address a@example.com not allowed",
        ),
        (
            San::Uri("spiffe://a/b".to_owned()),
            "URI Subject Alternative Names are not allowed",
        ),
        (
            San::Other(
                "1.3.6.1.4.1.311.20.2.3".parse().unwrap(),
                "admin".to_owned(),
            ),
            "other SAN OID 1.3.6.1.4.1.311.20.2.3 not allowed by this role",
        ),
    ];
    for (name, why) in bad {
        let csr = csr("a.example.com", &[name]);
        let told = refused(&mut trial, "pki/sign/web", json!({ "csr": csr }));
        assert!(told.starts_with(why), "{told}");
    }
    let csr = csr("a.example.org", &[]);
    let told = refused(&mut trial, "pki/sign/web", json!({ "csr": csr }));
    assert_eq!(told, "common name a.example.org not allowed by this role");
}

#[test]
fn a_request_cannot_make_itself_an_authority() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let mut name = Name::default();
    name.push(Attribute::CommonName, "a.example.com");
    let extensions = Extensions {
        basic_constraints: Some((true, None)),
        key_usage: key_usage_bit("CertSign"),
        ..Extensions::default()
    };
    let csr = csr_with(&name, &extensions);
    for path in ["pki/sign/web", "pki/sign-verbatim", "pki/sign-verbatim/web"] {
        let made = certificate(&trial.write(path, json!({ "csr": csr })));
        assert_eq!(made.authority, None, "{path}");
        let usage = made.key_usage.unwrap();
        assert_eq!(usage & key_usage_bit("CertSign"), 0, "{path}");
    }
}

#[test]
fn sign_verbatim_keeps_subject_and_names_and_obeys_the_roles_time() {
    let mut trial = trial();
    let mut role = role();
    role["max_ttl"] = json!("1h");
    trial.write("pki/roles/web", role);
    let names = [dns("anything.test"), San::Uri("spiffe://a/b".to_owned())];
    let csr = csr("Anything At All", &names);
    let made = trial.write("pki/sign-verbatim/web", json!({ "csr": csr, "ttl": "5h" }));
    let made = certificate(&made);
    assert_eq!(made.names.as_deref(), Some(&names[..]));
    let subject = Name::from_der(&made.subject).unwrap();
    assert_eq!(subject.last(Attribute::CommonName), Some("Anything At All"));
    assert_eq!(made.not_after.as_secs(), trial.now.as_secs() + 3600);
}

#[test]
fn a_roles_issuer_is_not_chosen_by_whoever_asks_under_the_role() {
    let mut trial = trial();
    let second = json!({
        "common_name": "second root", "key_type": "ec", "ttl": "87600h", "issuer_name": "second",
    });
    trial.write("pki/issuers/generate/root/internal", second);
    trial.write("pki/roles/web", role());
    let csr = csr("a.example.com", &[]);
    let mut issuer = |path: &str| {
        let asked = json!({ "csr": csr, "issuer_ref": "second", "common_name": "a.example.com" });
        let made = certificate(&trial.write(path, asked));
        let name = Name::from_der(&made.issuer).unwrap();
        name.last(Attribute::CommonName).unwrap().to_owned()
    };
    for path in ["pki/sign/web", "pki/issue/web", "pki/sign-verbatim/web"] {
        assert_eq!(issuer(path), "trial root", "{path}");
    }
    // Where no role says it, the request may, and on the issuer's own path.
    for path in ["pki/sign-verbatim", "pki/issuer/second/sign-verbatim/web"] {
        assert_eq!(issuer(path), "second root", "{path}");
    }
}

#[test]
fn a_roles_end_is_the_end_of_all_its_certificates() {
    let mut trial = trial();
    let mut role = role();
    let at = |trial: &Trial, hours: u64| {
        let at = trial.now.plus(Duration::from_secs(hours * 3600));
        super::lifetime::go_time(at)
    };
    role["not_after"] = at(&trial, 10).into();
    trial.write("pki/roles/web", role);
    let end = trial.now.as_secs() + 10 * 3600;
    let csr = csr("a.example.com", &[]);
    for path in ["pki/issue/web", "pki/sign/web", "pki/sign-verbatim/web"] {
        let asked = |more: (&str, Value)| {
            let mut asked = json!({ "common_name": "a.example.com", "csr": csr });
            asked[more.0] = more.1;
            asked
        };
        let why = refused(&mut trial, path, asked(("ttl", json!("48h"))));
        assert!(why.starts_with("Either ttl or not_after"), "{path}: {why}");
        for (wanted, ends) in [(48, end), (5, end - 5 * 3600)] {
            let wanted = at(&trial, wanted);
            let made = trial.write(path, asked(("not_after", wanted.into())));
            assert_eq!(certificate(&made).not_after.as_secs(), ends, "{path}");
        }
        let made = trial.write(path, asked(("format", json!("pem"))));
        assert_eq!(certificate(&made).not_after.as_secs(), end, "{path}");
    }
}

#[test]
fn a_request_that_is_damaged_or_signed_by_another_key_is_refused() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let csr = csr("a.example.com", &[]);
    let der = |text: &str| {
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        data_encoding::BASE64.decode(body.as_bytes()).unwrap()
    };
    let mut damaged = der(&csr);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let damaged = pem("CERTIFICATE REQUEST", &damaged);
    let told = refused(&mut trial, "pki/sign/web", json!({ "csr": damaged }));
    assert!(told.contains("not signed by its own key"), "{told}");
    let told = refused(&mut trial, "pki/sign/web", json!({ "csr": "nonsense" }));
    assert!(told.contains("csr contains no data"), "{told}");
    assert!(
        trial
            .root(Update, "pki/sign/web", json!({ "csr": csr }))
            .is_ok()
    );
}

#[test]
fn a_role_refuses_keys_of_another_kind() {
    let mut trial = trial();
    let mut role = role();
    role["key_type"] = json!("rsa");
    trial.write("pki/roles/rsa", role.clone());
    role["key_type"] = json!("any");
    trial.write("pki/roles/any", role);
    let csr = csr("a.example.com", &[]);
    let told = refused(&mut trial, "pki/sign/rsa", json!({ "csr": csr }));
    assert_eq!(told, "role requires keys of type rsa");
    trial.write("pki/sign/any", json!({ "csr": csr }));
    let told = refused(
        &mut trial,
        "pki/issue/any",
        json!({ "common_name": "a.example.com" }),
    );
    assert!(
        told.contains("key type \"any\" not allowed for issuing"),
        "{told}"
    );
}

#[test]
fn a_lease_that_ends_early_revokes_its_certificate() {
    let mut trial = trial();
    let mut role = role();
    role["generate_lease"] = json!(true);
    trial.write("pki/roles/web", role);
    let asked = json!({ "common_name": "a.example.com", "ttl": "1h" });
    let made = trial.ask(As::Root, Update, "pki/issue/web", asked).unwrap();
    assert_eq!((made.renewable, made.lease_duration), (false, 3600));
    let serial = made.data.unwrap()["serial_number"]
        .as_str()
        .unwrap()
        .to_owned();
    trial.write("sys/leases/revoke", json!({ "lease_id": made.lease_id }));
    let path = format!("pki/cert/{serial}");
    let kept = trial.root(Read, &path, json!({})).unwrap();
    assert_eq!(kept["revocation_time"], trial.now.as_secs());
}

#[test]
fn roles_are_kept_whole_patched_in_part_and_listed() {
    let mut trial = trial();
    let shown = trial.write("pki/roles/web", role());
    assert_eq!(shown["max_ttl"], 72 * 3600);
    assert_eq!(shown["allowed_domains"], json!(["example.com"]));
    assert_eq!(trial.root(Read, "pki/roles/web", json!({})).unwrap(), shown);
    trial
        .root(Patch, "pki/roles/web", json!({ "ttl": "1h" }))
        .unwrap();
    let patched = trial.root(Read, "pki/roles/web", json!({})).unwrap();
    assert_eq!(
        (&patched["ttl"], &patched["max_ttl"]),
        (&json!(3600), &json!(72 * 3600))
    );
    // A write without a field returns it to what it is without.
    trial.write("pki/roles/web", json!({ "allow_any_name": true }));
    let whole = trial.root(Read, "pki/roles/web", json!({})).unwrap();
    assert_eq!(
        (&whole["ttl"], &whole["key_type"]),
        (&json!(0), &json!("rsa"))
    );
    let listed = trial.root(List, "pki/roles", json!({})).unwrap();
    assert_eq!(listed["keys"], json!(["web"]));
    trial.root(Delete, "pki/roles/web", json!({})).unwrap();
    assert!(trial.root(Read, "pki/roles/web", json!({})).is_err());
    for wrong in [
        json!({ "ttl": "2h", "max_ttl": "1h" }),
        json!({ "key_type": "dsa" }),
        json!({ "key_type": "rsa", "key_bits": 1024 }),
        json!({ "key_usage": "Nonsense" }),
        json!({ "cn_validations": "nonsense" }),
        json!({ "not_after": "tomorrow" }),
        json!({ "ext_key_usage_oids": "1.2.x" }),
        json!({ "ttl": "10ms" }),
    ] {
        assert!(
            trial.root(Update, "pki/roles/bad", wrong.clone()).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn formats_are_pem_der_and_all_in_one() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let mut ask = |format: &str| {
        let asked = json!({ "common_name": "a.example.com", "format": format });
        trial.root(Update, "pki/issue/web", asked)
    };
    let der = ask("der").unwrap();
    let text = der["certificate"].as_str().unwrap();
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
    assert!(Certificate::parse(&bytes).is_ok());
    let bundle = ask("pem_bundle").unwrap();
    let all = Bundle::parse(bundle["certificate"].as_str().unwrap()).unwrap();
    assert_eq!((all.keys.len(), all.certificates.len()), (1, 2));
    assert!(ask("nonsense").is_err());
}

#[test]
fn a_subject_without_a_common_name_makes_its_names_critical() {
    let mut trial = trial();
    let mut role = role();
    role["require_cn"] = json!(false);
    trial.write("pki/roles/web", role);
    let made = trial.write("pki/issue/web", json!({ "alt_names": "a.example.com" }));
    let made = certificate(&made);
    let names = made
        .extensions
        .iter()
        .find(|(oid, ..)| oid.to_string() == "2.5.29.17");
    assert!(names.unwrap().1);
    assert!(refused(&mut trial, "pki/issue/web", json!({})).contains("needs a common name"));
}
