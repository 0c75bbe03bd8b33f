//! Building the programs that the verbs run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::workspace::{cargo, find_program, musl_target, must, output, root, target_dir};
use crate::{say, test};

/// How `bastide` is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As the tests build it: half of the processor time of the other one, from nothing.
    Quick,
    /// Optimised, for what is measured.
    Optimised,
}

/// Builds `bastide` and returns where it is.
pub fn bastide(build_as: Build) -> anyhow::Result<PathBuf> {
    let (profile, folder) = match build_as {
        Build::Quick => ("dev", "debug"),
        Build::Optimised => ("ci", "ci"),
    };
    say::note("building bastide (the first time takes some minutes)");
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "bastide"]);
    build.args(["--profile", profile]);
    if build_as == Build::Quick {
        build.args(test::FEATURES);
    }
    must(&mut build)?;
    Ok(target_dir().join(folder).join("bastide"))
}

/// Builds the static program of `examples/hello` and returns where it is.
pub fn hello() -> anyhow::Result<PathBuf> {
    let target = musl_target();
    ensure_target(&target)?;
    say::note("building examples/hello, a static program");
    let folder = target_dir().join("hello");
    must(
        cargo()
            .args(["build", "--release", "--locked", "--target", &target])
            .arg("--manifest-path")
            .arg(root().join("examples/hello/Cargo.toml"))
            .arg("--target-dir")
            .arg(&folder),
    )?;
    Ok(folder.join(target).join("release/hello"))
}

/// Sees to it that programs can be built for `target`.
pub fn ensure_target(target: &str) -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut print = Command::new(rustc);
    print
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", target]);
    let library = PathBuf::from(output(&mut print)?.trim());
    if library.join("self-contained").is_dir() {
        return Ok(());
    }
    ensure!(
        find_program("rustup").is_some(),
        "Rust's standard library for {target} is missing, and there is no rustup to add it"
    );
    say::note(&format!("adding Rust's standard library for {target}"));
    must(
        Command::new("rustup")
            .current_dir(root())
            .args(["target", "add", target]),
    )
}
