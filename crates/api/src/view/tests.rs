use super::*;

fn entries(pairs: &[(&str, &str)]) -> ViewEntries {
    let entries = pairs
        .iter()
        .map(|&(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    ViewEntries {
        revision: Revision(7),
        entries,
    }
}

#[test]
fn moving_a_byte_between_key_and_value_changes_what_is_signed() {
    let cluster = ClusterId::from_bytes([1; 16]);
    let one = entries(&[("ab", "c")]).signed_bytes(cluster);
    assert_ne!(one, entries(&[("a", "bc")]).signed_bytes(cluster));
    assert_ne!(
        one,
        entries(&[("ab", "c")]).signed_bytes(ClusterId::from_bytes([2; 16]))
    );
    let later = ViewEntries {
        revision: Revision(8),
        ..entries(&[("ab", "c")])
    };
    assert_ne!(one, later.signed_bytes(cluster));
}

#[test]
fn keys_survive_printing_and_unknown_kinds_are_passed_over() {
    for text in [
        "cluster",
        "nodes/n-00000000000000000000000000",
        "stacks/hello",
    ] {
        assert_eq!(EntryKey::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(EntryKey::parse("stacks/Not A Label"), None);
    assert_eq!(EntryKey::parse("moons/europa"), None);
}

#[test]
fn a_view_without_its_cluster_is_refused() {
    assert!(matches!(
        View::parse(&entries(&[])),
        Err(ViewError::NoCluster)
    ));
    assert!(matches!(
        View::parse(&entries(&[("cluster", "{}")])),
        Err(ViewError::Entry { .. })
    ));
}
