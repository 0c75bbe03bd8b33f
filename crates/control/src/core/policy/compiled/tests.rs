use std::cell::Cell;
use std::convert::Infallible;

use super::*;
use crate::core::path::ApiPath;

fn set(text: &str) -> Set {
    Set::new(vec![Arc::new(Policy::parse(text).unwrap())])
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_set_is_made_once_for_each_version() {
    let compiled = Compiled::default();
    let made = Cell::new(0);
    let ask = |version, wanted: &[&str]| {
        let make = || {
            made.set(made.get() + 1);
            Ok::<_, Infallible>(set("path \"a\" { policy = \"read\" }"))
        };
        let found = compiled.get(version, names(wanted).iter(), make);
        assert!(found.is_ok());
        made.get()
    };
    assert_eq!(ask(1, &["a", "b"]), 1);
    assert_eq!(ask(1, &["a", "b"]), 1);
    assert_eq!(ask(1, &["a"]), 2);
    // Names that read alike when they are put together are not alike.
    assert_eq!(ask(1, &["ab"]), 3);
    assert_eq!(ask(1, &["a\nb"]), 4);
    assert_eq!(ask(2, &["a", "b"]), 5);
    // Somebody who looks at an older state gets what was then, and leaves it to nobody.
    assert_eq!(ask(1, &["a", "b"]), 6);
    assert_eq!(ask(2, &["a", "b"]), 6);
}

#[test]
fn what_is_remembered_of_policies_takes_bounded_room() {
    // CVE-2023-5954: what was made for each check stayed.
    let compiled = Compiled::default();
    let text = "path \"kv/{{identity.entity.name}}/*\" { policy = \"read\" }";
    for number in 0..SETS_MAX + 10 {
        let name = names(&[&format!("p{number}")]);
        let make = || Ok::<_, Infallible>(set(text));
        assert!(compiled.get(1, name.iter(), make).is_ok());
        let sets = compiled.0.lock().unwrap();
        assert!(sets.by_names.len() <= SETS_MAX, "{number}");
    }
    let one = set(text);
    for number in 0..FILLINGS_MAX + 10 {
        let name = format!("entity{number}");
        let _ = one.acl(|_| Some(&name));
        assert!(one.filled.lock().unwrap().len() <= FILLINGS_MAX, "{number}");
    }
}

#[test]
fn templates_are_filled_for_each_entity_apart() {
    let set = set("path \"kv/{{identity.entity.name}}/*\" { policy = \"read\" }");
    let reads = |name: Option<&str>, path: &str| {
        let acl = set.acl(|template| name.filter(|_| template == "identity.entity.name"));
        acl.capabilities(&ApiPath::parse(path).unwrap(), None) == ["list", "read"]
    };
    for _ in 0..2 {
        assert!(reads(Some("ada"), "kv/ada/x") && !reads(Some("ada"), "kv/bob/x"));
        assert!(reads(Some("bob"), "kv/bob/x") && !reads(Some("bob"), "kv/ada/x"));
        // What could widen the pattern, and what nobody knows, drops the rule.
        for wide in ["*", "+", "a/b", "ada*", ""] {
            assert!(!reads(Some(wide), "kv/ada/x"), "{wide}");
        }
        assert!(!reads(None, "kv/ada/x"));
    }
}
