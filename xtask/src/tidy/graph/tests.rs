use super::*;

fn check(name: &str, licence: Option<&str>, source: Origin) -> Vec<String> {
    judge(&[Fact {
        name,
        licence,
        source,
    }])
    .iter()
    .map(ToString::to_string)
    .collect()
}

#[test]
fn a_package_that_keeps_the_rules_passes() {
    assert_eq!(
        check("serde", Some("MIT OR Apache-2.0"), Origin::Registry),
        [""; 0]
    );
    assert_eq!(
        check("bastide-api", Some("Apache-2.0"), Origin::Own),
        [""; 0]
    );
}

#[test]
fn a_second_cryptographic_provider_is_found() {
    assert_eq!(
        check("ring", Some("Apache-2.0 AND ISC"), Origin::Registry),
        ["Cargo.lock: `ring` is built, which is banned: aws-lc-rs has what it has"]
    );
}

#[test]
fn a_package_without_a_good_licence_or_source_is_found() {
    assert_eq!(
        check("rustables", Some("GPL-3.0"), Origin::Registry),
        ["Cargo.lock: `rustables` has the licence `GPL-3.0`"]
    );
    assert_eq!(
        check("odd", None, Origin::Registry),
        ["Cargo.lock: `odd` says no licence"]
    );
    assert_eq!(
        check("fork", Some("MIT"), Origin::Other),
        ["Cargo.lock: `fork` does not come from the registry"]
    );
}
