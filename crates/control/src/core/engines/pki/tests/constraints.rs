//! Name constraints, over each way on which a certificate comes about. What they mean is judged in
//! `constraint/tests.rs`.

use bastide_pki::x509::{Template, sign_certificate};

use super::*;

/// Whether OpenSSL finds a leaf good under a root, at a time.
fn openssl_accepts(root: &str, leaf: &str, at: u64) -> Option<Result<(), String>> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (root, leaf) = (write("root.pem", root), write("leaf.pem", leaf));
    let ran = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &at.to_string()])
        .arg("-CAfile")
        .args([root, leaf])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    Some(if ran.status.success() {
        Ok(())
    } else {
        Err(said)
    })
}

/// The same names under the same authority, by somebody who does not look at its constraints.
fn carelessly(root: &Value, names: &[San], at: u64) -> String {
    let issuer = certificate(root);
    let key = Bundle::parse(root["private_key"].as_str().unwrap()).unwrap();
    let key = &key.keys[0];
    let template = Template {
        serial: &[7],
        issuer: &issuer.subject,
        subject: &Name::default().to_der(),
        not_before: issuer.not_before,
        not_after: bastide_api::UnixTime::from_millis((at + 3600) * 1000),
        spki: key.public().spki(),
        extensions: Extensions {
            names,
            names_are_critical: true,
            subject_key_id: &[7],
            authority_key_id: &issuer.key_id,
            ..Extensions::default()
        },
    };
    let der = sign_certificate(&template, key, key.kind().scheme(0, false)).unwrap();
    pem("CERTIFICATE", &der)
}

/// A role that minds no name.
fn any_role() -> Value {
    json!({
        "allow_any_name": true, "key_type": "any", "allowed_uri_sans": "*", "require_cn": false,
        "email_protection_flag": true, "allowed_other_sans": "*",
    })
}

#[test]
fn openssl_accepts_what_a_bound_authority_issues_and_refuses_what_it_does_not() {
    let mut trial = trial();
    let bound = json!({
        "common_name": "bound", "key_type": "ec", "ttl": "8760h", "issuer_name": "bound",
        "permitted_dns_domains": "example.com,example.org",
        "excluded_dns_domains": "evil.example.com",
        "permitted_email_addresses": "example.com",
        "permitted_ip_ranges": "10.1.2.3/8,fd00::/8",
        "excluded_ip_ranges": "10.9.0.0/16",
        "permitted_uri_domains": ".example.com",
        "exclude_cn_from_sans": true,
    });
    let root = trial.write("pki/issuers/generate/root/exported", bound);
    let mut any = any_role();
    any["key_type"] = json!("ec");
    trial.write("pki/roles/any", any);
    let at = trial.now.as_secs() + 60;
    for (field, name, is_good) in [
        ("alt_names", "a.example.com", true),
        ("alt_names", "EXAMPLE.org", true),
        ("alt_names", "*.example.org", true),
        ("alt_names", "x.evil.example.com", false),
        ("alt_names", "evil.example.com", false),
        ("alt_names", "notexample.com", false),
        ("alt_names", "example.com.test", false),
        ("alt_names", "ada@example.com", true),
        ("alt_names", "ada@example.org", false),
        ("ip_sans", "10.2.3.4", true),
        ("ip_sans", "10.9.3.4", false),
        ("ip_sans", "11.0.0.1", false),
        ("ip_sans", "fd00::1", true),
        ("ip_sans", "fe80::1", false),
        ("uri_sans", "spiffe://a.example.com/x", true),
        ("uri_sans", "spiffe://a.example.org/x", false),
    ] {
        let asked = json!({ field: name, "ttl": "1h" });
        let made = trial.root(Update, "pki/issuer/bound/issue/any", asked);
        let leaf = match made {
            Ok(made) => made["certificate"].as_str().unwrap().to_owned(),
            Err(refusal) => {
                let told = text(refusal);
                assert!(told.contains(&format!("\"{name}\" is ")), "{told}");
                assert!(told.contains("of issuer \"bound\""), "{told}");
                carelessly(&root, &[san(field, name)], at)
            }
        };
        let Some(judged) = openssl_accepts(root["certificate"].as_str().unwrap(), &leaf, at) else {
            eprintln!("skipped: openssl is missing");
            return;
        };
        match judged {
            Ok(()) => assert!(is_good, "{name}"),
            Err(why) => {
                assert!(!is_good, "{name}: {why}");
                let subtree = why.contains("permitted subtree") || why.contains("excluded subtree");
                assert!(subtree, "{name}: {why}");
            }
        }
        let leaf = Bundle::parse(&leaf).unwrap().certificates.remove(0);
        assert_eq!(
            leaf.key == certificate(&root).key,
            !is_good,
            "{name}: who issued it"
        );
    }
}

fn san(field: &str, name: &str) -> San {
    match field {
        "ip_sans" => San::Ip(name.parse().unwrap()),
        "uri_sans" => San::Uri(name.to_owned()),
        _ if name.contains('@') => San::Email(name.to_owned()),
        _ => dns(name),
    }
}

/// An engine whose root `bound` is for `example.com` alone, with a role that minds no name.
fn bound() -> (Trial, Value) {
    let mut trial = trial();
    let root = trial.write(
        "pki/root/generate/exported",
        json!({
            "common_name": "bound", "key_type": "ec", "ttl": "8760h", "issuer_name": "bound",
            "permitted_dns_domains": "example.com", "exclude_cn_from_sans": true,
        }),
    );
    trial.write("pki/roles/any", any_role());
    (trial, root)
}

fn not_permitted(name: &str, issuer: &str) -> String {
    format!(
        "{name} is not permitted by any name constraint of issuer \"{issuer}\": \"example.com\""
    )
}

#[test]
fn no_way_leads_around_an_issuers_constraints() {
    let (mut trial, _) = bound();
    let told = not_permitted("DNS name \"a.test\"", "bound");
    let names = json!({ "csr": csr("", &[dns("a.test")]) });
    for path in ["sign/any", "sign-verbatim", "sign-verbatim/any"] {
        let path = format!("pki/issuer/bound/{path}");
        if path.ends_with("sign-verbatim/any") {
            // The role says by whom.
            let mut role = any_role();
            role["issuer_ref"] = json!("bound");
            trial.write("pki/roles/any", role);
            assert_eq!(
                refused(&mut trial, "pki/sign-verbatim/any", names.clone()),
                told
            );
        } else {
            assert_eq!(refused(&mut trial, &path, names.clone()), told);
        }
    }
    let own = json!({ "csr": csr("ca", &[dns("a.test")]), "use_csr_values": true });
    let path = "pki/issuer/bound/sign-intermediate";
    assert_eq!(refused(&mut trial, path, own), told);
    let asked = json!({ "csr": csr("ca", &[]), "common_name": "ca.test" });
    let named = not_permitted("DNS name \"ca.test\"", "bound");
    assert_eq!(refused(&mut trial, path, asked), named);
    // Without an alternative name the common name stands for one.
    let asked = json!({
        "csr": csr("ca", &[]), "common_name": "ca.test", "exclude_cn_from_sans": true,
    });
    let named = not_permitted("common name \"ca.test\"", "bound");
    assert_eq!(refused(&mut trial, path, asked), named);
    let asked = json!({ "csr": csr("ca", &[]), "common_name": "an authority" });
    trial.write(path, asked);
    let theirs = json!({ "common_name": "x.test", "key_type": "ec" });
    trial.write("sys/mounts/other", json!({ "type": "pki" }));
    let theirs = trial.write("other/root/generate/internal", theirs);
    let asked = json!({ "certificate": theirs["certificate"] });
    let told = refused(&mut trial, "pki/issuer/bound/sign-self-issued", asked);
    assert_eq!(told, not_permitted("DNS name \"x.test\"", "bound"));
}

#[test]
fn the_constraints_of_each_issuer_above_hold_once_it_is_known() {
    let (mut trial, root) = bound();
    trial.write("sys/mounts/below", json!({ "type": "pki" }));
    let asked = json!({ "common_name": "the one below", "key_type": "ec" });
    let request = trial.write("below/intermediate/generate/internal", asked);
    let asked = json!({ "csr": request["csr"], "common_name": "the one below", "ttl": "8000h" });
    let signed = trial.write("pki/issuer/bound/sign-intermediate", asked);
    let alone = json!({ "certificate": signed["certificate"] });
    let set = trial.write("below/intermediate/set-signed", alone);
    let below = set["imported_issuers"][0].as_str().unwrap().to_owned();
    trial.write("below/roles/any", any_role());
    let asked = json!({ "csr": csr("", &[dns("a.test")]) });
    // Who is above is not known yet.
    trial.write("below/sign/any", asked.clone());
    let above = json!({ "pem_bundle": root["certificate"] });
    let set = trial.write("below/issuers/import/cert", above);
    let above = set["imported_issuers"][0].as_str().unwrap().to_owned();
    let told = not_permitted("DNS name \"a.test\"", &above);
    assert_eq!(refused(&mut trial, "below/sign/any", asked.clone()), told);
    // That a chain is shown without the root changes nothing for those who check it.
    let shorter = json!({ "manual_chain": "self" });
    trial.write(&format!("below/issuer/{below}"), shorter);
    assert_eq!(refused(&mut trial, "below/sign/any", asked), told);
    let good = json!({ "csr": csr("", &[dns("a.example.com")]) });
    trial.write("below/sign/any", good);
}

/// An authority with a constraint on each kind of name, of somebody else's making: certificate and key
/// in PEM. `None` without OpenSSL.
fn foreign(constraints: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = ca\n\
         [name]\nC = DE\nO = Example\nCN = theirs\n\
         [ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = keyCertSign,cRLSign\n\
         subjectKeyIdentifier = hash\nnameConstraints = {constraints}\n\
         [dir]\nC = DE\nO = Example\n"
    );
    std::fs::write(folder.path().join("ca.conf"), config).unwrap();
    let ran = std::process::Command::new("openssl")
        .current_dir(folder.path())
        .args([
            "req", "-x509", "-config", "ca.conf", "-days", "36500", "-nodes",
        ])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-keyout", "ca.key", "-out", "ca.pem"])
        .output()
        .ok()?;
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    Some(format!("{}\n{}", read("ca.key"), read("ca.pem")))
}

#[test]
fn constraints_that_somebody_else_wrote_hold_as_well() {
    let Some(theirs) = foreign(
        "critical, permitted;DNS:example.com, permitted;email:.example.com, permitted;URI:.example.com, \
         permitted;IP:10.0.0.0/255.0.0.0, permitted;dirName:dir, excluded;otherName:1.2.3.4;UTF8:x, \
         excluded;RID:1.2.3.5",
    ) else {
        eprintln!("skipped: openssl is missing");
        return;
    };
    let mut trial = trial();
    let set = trial.write("pki/issuers/import/bundle", json!({ "pem_bundle": theirs }));
    let id = set["imported_issuers"][0].as_str().unwrap().to_owned();
    let sign = format!("pki/issuer/{id}/sign/any");
    let mut role = any_role();
    (role["country"], role["organization"]) = (json!("DE"), json!("example"));
    trial.write("pki/roles/any", role.clone());
    let asked = |name: San| json!({ "csr": csr("", &[name]), "ttl": "1h" });
    let address = |text: &str| San::Ip(text.parse().unwrap());
    let other = |oid: &str| San::Other(oid.parse().unwrap(), "x".to_owned());
    for (name, is_good) in [
        (dns("a.example.com"), true),
        (dns("a.test"), false),
        (San::Email("ada@a.example.com".to_owned()), true),
        (San::Email("ada@example.com".to_owned()), false),
        (San::Uri("spiffe://a.example.com/x".to_owned()), true),
        (San::Uri("spiffe://example.com/x".to_owned()), false),
        (address("10.1.2.3"), true),
        (address("11.1.2.3"), false),
        (other("1.2.3.6"), true),
        (other("1.2.3.4"), false),
    ] {
        let made = trial.root(Update, &sign, asked(name.clone()));
        assert_eq!(made.is_ok(), is_good, "{name:?}: {made:?}");
    }
    role["organization"] = json!("Other");
    trial.write("pki/roles/any", role);
    let told = refused(&mut trial, &sign, asked(dns("a.example.com")));
    let subject = "the subject's name is not permitted by any name constraint";
    assert!(
        told.starts_with(subject) && told.ends_with(": \"DE, Example\""),
        "{told}"
    );
}

#[test]
fn under_constraints_of_a_form_that_is_not_read_nothing_is_issued() {
    let Some(theirs) = foreign("DER:3010A00E300C820A6578616D706C652E636F81") else {
        eprintln!("skipped: openssl is missing");
        return;
    };
    let mut trial = trial();
    let set = trial.write("pki/issuers/import/bundle", json!({ "pem_bundle": theirs }));
    let id = set["imported_issuers"][0].as_str().unwrap().to_owned();
    trial.write("pki/roles/any", any_role());
    let asked = json!({ "csr": csr("", &[dns("a.example.com")]) });
    let told = refused(&mut trial, &format!("pki/issuer/{id}/sign/any"), asked);
    assert!(
        told.contains("has name constraints that cannot be read here"),
        "{told}"
    );
}
