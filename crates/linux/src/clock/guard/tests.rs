use std::path::Path;
use std::process::{Command, Output};

/// Compiles the guard alone, as a crate with these words would be.
fn compile(words: &[&str]) -> std::io::Result<Output> {
    let rustc = option_env!("RUSTC").unwrap_or("rustc");
    let guard = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock/guard.rs");
    // Not `/dev/null`: the compiler renames what it has written, and root may replace a device.
    let made = format!("bastide-guard-{}.rmeta", std::process::id());
    let made = std::env::temp_dir().join(made);
    let mut command = Command::new(rustc);
    command.args(["--crate-type", "lib", "--emit=metadata", "-o"]);
    let output = command.arg(&made).args(words).arg(guard).output();
    let _ = std::fs::remove_file(&made);
    output
}

#[test]
fn a_build_without_debug_assertions_cannot_have_a_clock_that_tests_set() {
    let feature = ["--cfg", "feature=\"clock-shift\""];
    let release = ["-C", "debug-assertions=off"];
    let Ok(refused) = compile(&[&feature[..], &release].concat()) else {
        eprintln!("skipped: rustc is missing");
        return;
    };
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("`clock-shift` is for tests"), "{said}");

    for allowed in [
        &release[..],
        &[&feature[..], &["-C", "debug-assertions=on"]].concat(),
    ] {
        let output = compile(allowed).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{allowed:?}: {said}");
    }
}
