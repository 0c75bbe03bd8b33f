use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn shown(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_dependency_without_a_row_and_a_row_without_a_dependency_are_found() {
    let text =
        "# Dependencies\n\n| crate | why |\n|---|---|\n| `serde` | words |\n| `old` | gone |\n";
    assert_eq!(
        shown(&dependencies(text, &names(&["new", "serde"]))),
        [
            "docs/dependencies.md: `new` has no row",
            "docs/dependencies.md: `old` is no dependency any more"
        ]
    );
    assert_eq!(dependencies(text, &names(&["old", "serde"])), []);
}

const CLI: &str = r"
pub struct Cli { pub verb: Verb }
pub enum Verb {
    /// Begin a cluster
    Up(Up),
    #[command(subcommand)]
    LabPart(LabPart),
    Status { #[arg(long)] json: bool },
}
pub enum Other { No }
";

#[test]
fn the_verbs_of_the_program_are_its_variants() {
    assert_eq!(program_verbs(CLI), names(&["lab-part", "status", "up"]));
    assert_eq!(program_verbs("enum Other { A }"), names(&[]));
}

#[test]
fn a_command_in_a_block_of_code_must_exist() {
    let text = "bastide nonsense\n```sh\n$ sudo bastide up --site a\nbastide --help\nbastide fly\n\
                cargo xtask demo\ncargo xtask dance\nls\n```\ncargo xtask prose\n";
    let findings = commands(
        "README.md",
        text,
        &BTreeSet::from(["demo"]),
        &program_verbs(CLI),
    );
    assert_eq!(
        shown(&findings),
        [
            "README.md:5: there is no command `bastide fly`",
            "README.md:7: there is no command `cargo xtask dance`"
        ]
    );
}

fn files() -> Vec<String> {
    ["docs/a.md", DESIGNS, "docs/design/001-one.md"]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn a_link_that_leads_to_nothing_is_found() {
    let text =
        "[a](../a.md) and [b](../b.md#x),\n[c](001-one.md), [d](..), [e](https://x), [f](#g)";
    assert_eq!(
        shown(&links(DESIGNS, text, &files())),
        ["docs/design/README.md:1: the link leads to `docs/b.md`, which is not there"]
    );
}

#[test]
fn a_design_note_that_is_not_listed_is_found() {
    assert_eq!(designs("| [1](001-one.md) |", &files()), []);
    assert_eq!(
        shown(&designs("| 001-one.md |", &files())),
        ["docs/design/README.md: `docs/design/001-one.md` is not listed"]
    );
}
