use super::*;

fn constraint(text: &str, expect: Option<&str>) {
    let got = text.parse::<Constraint>().ok();
    assert_eq!(got.as_ref().map(Constraint::as_str), expect, "{text:?}");
}

#[test]
fn a_constraint_has_one_spelling() {
    constraint("node.labels.disk == ssd", Some("node.labels.disk==ssd"));
    constraint("node.role!=manager", Some("node.role!=manager"));
    constraint("node.role = manager", None);
    constraint("node.labels. == x", None);
    constraint("labels.disk == ssd", None);
    constraint("node.labels.disk ==", None);
    constraint("node.labels.a == b == c", None);
}

#[test]
fn a_path_is_not_the_name_of_a_volume() {
    assert!("data".parse::<VolumeName>().is_ok());
    assert!("data_1.x-y".parse::<VolumeName>().is_ok());
    for path in ["", "/data", "./data", "..", ".data", "a/b", "~/data", "a b"] {
        assert!(path.parse::<VolumeName>().is_err(), "{path:?}");
    }
}
