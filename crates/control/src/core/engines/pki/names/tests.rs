use super::super::role::{Compiled, Role};
use super::*;

const NOBODY: Asker<'_> = Asker {
    display_name: "",
    entity: None,
};

fn check_allows(change: impl FnOnce(&mut Role), good: &[&str], bad: &[&str]) {
    let mut role = Role {
        allow_localhost: false,
        allowed_domains: vec!["example.com".to_owned()],
        ..Role::default()
    };
    change(&mut role);
    let compiled = Compiled::new(role).unwrap();
    for name in good {
        assert!(allows(&compiled, name, &NOBODY), "{name} is refused");
    }
    for name in bad {
        assert!(!allows(&compiled, name, &NOBODY), "{name} is allowed");
    }
}

#[test]
fn without_a_flag_a_domain_allows_nothing() {
    check_allows(
        |_| {},
        &[],
        &[
            "example.com",
            "a.example.com",
            "*.example.com",
            "localhost",
            "",
        ],
    );
}

#[test]
fn a_bare_domain_is_itself_alone() {
    check_allows(
        |role| role.allow_bare_domains = true,
        &["example.com", "EXAMPLE.com"],
        &[
            "a.example.com",
            "*.example.com",
            "xexample.com",
            "example.com.evil.org",
        ],
    );
}

#[test]
fn subdomains_are_below_the_domain() {
    check_allows(
        |role| role.allow_subdomains = true,
        &[
            "a.example.com",
            "a.b.example.com",
            "*.example.com",
            "*.a.example.com",
            "A.Example.COM",
        ],
        &[
            "example.com",
            "aexample.com",
            ".example.com",
            "a..example.com",
            "example.com.org",
        ],
    );
}

// CVE-2022-25243: a wildcard though subdomains are off.
#[test]
fn a_wildcard_is_a_subdomain() {
    check_allows(
        |role| role.allow_bare_domains = true,
        &["example.com"],
        &["*.example.com", "*example.com", "*"],
    );
    check_allows(
        |role| {
            role.allow_subdomains = true;
            role.allow_wildcard_certificates = false;
        },
        &["a.example.com"],
        &["*.example.com", "a*.example.com", "*.a.example.com"],
    );
}

#[test]
fn a_star_stands_once_and_first() {
    check_allows(
        |role| role.allow_any_name = true,
        &["*.example.com", "a*.example.com"],
        &[
            "*.*.example.com",
            "a.*.example.com",
            "**.example.com",
            "*",
            "*.",
        ],
    );
}

#[test]
fn globs_fit_names_that_are_hosts() {
    check_allows(
        |role| {
            role.allow_glob_domains = true;
            role.allowed_domains = vec!["web-*.example.com".to_owned()];
        },
        &[
            "web-1.example.com",
            "WEB-2.example.com",
            "web-a.b.example.com",
        ],
        &[
            "web.example.com",
            "web-1.example.org",
            "web-1 .example.com",
            "web-\n.example.com",
        ],
    );
}

#[test]
fn any_name_is_still_a_hosts_name() {
    check_allows(
        |role| role.allow_any_name = true,
        &["a", "a.b", "a_b.c"],
        &["a b", "a\0b", "-a.b", "a-.b", "a..b", "ü.example", "a/b"],
    );
    check_allows(
        |role| {
            role.allow_any_name = true;
            role.enforce_hostnames = false;
        },
        &["a b", "-a.b"],
        &["a.*.b"],
    );
}

#[test]
fn mail_needs_the_flag_for_mail() {
    check_allows(
        |role| role.allow_bare_domains = true,
        &["example.com"],
        &["me@example.com"],
    );
    check_allows(
        |role| {
            role.allow_bare_domains = true;
            role.email_protection_flag = true;
        },
        &["me@example.com"],
        &[
            "me@a.example.com",
            "@example.com",
            "a@b@example.com",
            "me@*.example.com",
        ],
    );
}

#[test]
fn localhost_is_allowed_unless_forbidden() {
    check_allows(
        |role| role.allow_localhost = true,
        &["localhost"],
        &["a.localhost"],
    );
    check_allows(
        |role| {
            role.allow_localhost = true;
            role.allow_subdomains = true;
        },
        &["localhost", "a.localhost", "*.localhost"],
        &["alocalhost"],
    );
}

// GHSA-59w7: what a template stands for must not be read as more than a name.
#[test]
fn a_template_cannot_widen_what_is_allowed() {
    let role = Role {
        allowed_domains: vec!["{{identity.entity.name}}.example.com".to_owned()],
        allowed_domains_template: true,
        allow_bare_domains: true,
        allow_glob_domains: true,
        ..Role::default()
    };
    let compiled = Compiled::new(role).unwrap();
    let mut entity = EntityFacts {
        name: "web".to_owned(),
        ..EntityFacts::default()
    };
    let mut check = |name: &str, asked: &str| {
        entity.name = name.to_owned();
        let asker = Asker {
            display_name: "",
            entity: Some(&entity),
        };
        allows(&compiled, asked, &asker)
    };
    assert!(check("web", "web.example.com"));
    assert!(!check("web", "db.example.com"));
    assert!(!check("*", "db.example.com"));
    assert!(!check("", ".example.com"));
    assert!(!check("a,b", "b.example.com"));
    assert!(!allows(&compiled, "web.example.com", &NOBODY));
}

#[test]
fn the_display_name_is_a_name_where_the_role_says_so() {
    let role = Role {
        allow_token_displayname: true,
        ..Role::default()
    };
    let compiled = Compiled::new(role).unwrap();
    let allows_for = |display_name, asked| {
        let asker = Asker {
            display_name,
            entity: None,
        };
        allows(&compiled, asked, &asker)
    };
    assert!(allows_for("web", "web"));
    assert!(!allows_for("web", "db"));
    assert!(!allows_for("*.example.com", "*.example.com"));
    assert!(!allows_for("", ""));
}

#[test]
fn a_glob_fits_from_end_to_end() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("a*", "a", true),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "abc", true),
        ("a*a", "a", false),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("*b", "ab", true),
        ("*ab*ab", "ab", false),
    ] {
        assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
    }
}

#[test]
fn uris_and_other_names_are_held_against_globs() {
    let role = Role {
        allowed_uri_sans: vec!["spiffe://cluster/ns/*".to_owned()],
        allowed_other_sans: vec!["1.3.6.1.4.1.311.20.2.3;UTF8:*@example.com".to_owned()],
        ..Role::default()
    };
    let compiled = Compiled::new(role).unwrap();
    let uri = |text: &str| check(&compiled, &[San::Uri(text.to_owned())], &NOBODY).is_ok();
    assert!(uri("spiffe://cluster/ns/web"));
    assert!(!uri("spiffe://other/ns/web"));
    assert!(!uri("spiffe://cluster/ns/a b"));
    let other = |text: &str| check(&compiled, &[other_name(text).unwrap()], &NOBODY).is_ok();
    assert!(other("1.3.6.1.4.1.311.20.2.3;UTF8:me@example.com"));
    assert!(!other("1.3.6.1.4.1.311.20.2.3;UTF8:me@example.org"));
    assert!(!other("1.3.6.1.4.1.311.20.2.4;UTF8:me@example.com"));
    assert!(other_name("1.2.3").is_err());
}
