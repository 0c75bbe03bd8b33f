use super::*;

#[test]
fn a_path_of_one_machine_is_found() {
    let text = format!("fine\n/{}/me/notes\n", "home");
    let findings = check("docs/a.md", &text);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0]
            .to_string()
            .starts_with("docs/a.md:2: a path of one machine")
    );
}

#[test]
fn paths_that_every_machine_has_are_fine() {
    assert_eq!(
        check("docs/a.md", "/var/lib/bastide /etc/homestead/network/"),
        []
    );
}
