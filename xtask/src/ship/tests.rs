use super::*;
use crate::test::FEATURES;
use crate::workspace::output;

/// An ELF file of one program header and, behind it, one entry of a dynamic section.
fn elf(kind: u8, tag: u8) -> Vec<u8> {
    let mut file = vec![0; 0x40 + 0x38 + 16];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x20] = 0x40;
    file[0x36] = 0x38;
    file[0x38] = 1;
    file[0x40] = kind;
    file[0x40 + 0x08] = 0x40 + 0x38;
    file[0x40 + 0x20] = 16;
    file[0x40 + 0x38] = tag;
    file
}

#[test]
fn a_program_that_names_a_loader_or_a_library_is_not_static() {
    assert!(is_static(&elf(1, 1)));
    assert!(is_static(&elf(2, 5)));
    assert!(!is_static(&elf(2, 1)));
    assert!(!is_static(&elf(3, 0)));
}

#[test]
fn what_is_no_whole_elf_file_is_not_static() {
    let file = elf(2, 5);
    assert!(!is_static(&file[..file.len() - 1]));
    assert!(!is_static(&file[..0x30]));
    assert!(!is_static(b"#!/bin/sh\n"));
}

#[test]
fn this_very_test_is_a_dynamic_program_where_the_host_is_glibc() {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(is_static(&own), cfg!(target_env = "musl"));
}

/// What a build with these words is made of: packages with their features.
fn packages(words: &[&str]) -> String {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--offline", "--edges", "normal,build"]);
    tree.args(["--prefix", "none", "--format", "{p} [{f}]"]);
    output(tree.args(PROGRAM).args(words)).unwrap()
}

#[test]
fn the_program_that_is_shipped_has_no_clock_that_tests_set() {
    let shipped = packages(&[]);
    assert!(shipped.contains("bastide-linux "), "{shipped}");
    assert!(!shipped.contains("clock-shift"), "{shipped}");
    assert!(
        packages(&FEATURES).contains("[clock-shift]"),
        "the tests' own has one"
    );
}

#[test]
fn a_program_that_knows_the_tests_variable_is_not_shipped() {
    assert!(obeys_tests(b"\x7fELF...BASTIDE_TEST_CLOCK..."));
    assert!(!obeys_tests(b"\x7fELF...BASTIDE_TEST_CLOC"));
}
