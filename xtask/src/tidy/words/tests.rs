use super::*;

#[test]
fn a_path_of_one_machine_is_found() {
    let text = format!("fine\nsee `/{}/notes`\n", "work");
    let findings = check("docs/a.md", &text);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0]
            .to_string()
            .starts_with("docs/a.md:2: a path of one machine")
    );
}

#[test]
fn a_registrys_host_is_found() {
    let text = format!("sparse+https://index.{}.io/", "crates");
    assert_eq!(check("Cargo.toml", &text).len(), 1);
}

#[test]
fn paths_that_every_machine_has_are_fine() {
    let text = format!("/var/lib/bastide overlay/{}/ network/", "work");
    assert_eq!(check("docs/a.md", &text), []);
}
