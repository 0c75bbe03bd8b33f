//! `cargo xtask check`: what can be judged without running anything.

use crate::workspace::{cargo, root, status, target_dir};
use crate::{say, tidy};

/// Runs every check, and returns whether all held.
pub fn run() -> anyhow::Result<bool> {
    let hello = root().join("examples/hello/Cargo.toml");
    let mut hello_fmt = cargo();
    hello_fmt
        .args(["fmt", "--check", "--manifest-path"])
        .arg(&hello);
    let mut judge_fmt = cargo();
    judge_fmt
        .args(["fmt", "--check", "--manifest-path"])
        .arg(root().join("crates/control/tests/judges/vaultrs/Cargo.toml"));
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
    ]);
    clippy.args(["--", "--deny", "warnings"]);
    let mut hello_clippy = cargo();
    hello_clippy.args([
        "clippy",
        "--quiet",
        "--locked",
        "--all-targets",
        "--manifest-path",
    ]);
    hello_clippy
        .arg(&hello)
        .arg("--target-dir")
        .arg(target_dir().join("hello"));
    hello_clippy.args(["--", "--deny", "warnings"]);
    let mut fmt = cargo();
    fmt.args(["fmt", "--all", "--check"]);

    let mut failed = Vec::new();
    for (name, command) in [
        ("format", &mut fmt),
        ("format of examples/hello", &mut hello_fmt),
        ("format of the judge vaultrs", &mut judge_fmt),
        ("lints", &mut clippy),
        ("lints of examples/hello", &mut hello_clippy),
    ] {
        say::note(&format!("check: {name}"));
        if !status(command)?.success() {
            failed.push(name);
        }
    }
    say::note("check: tidy");
    if !tidy::run()? {
        failed.push("tidy");
    }
    if failed.is_empty() {
        say::data("check: everything holds");
    } else {
        say::data(&format!("check: FAILED: {}", failed.join(", ")));
    }
    Ok(failed.is_empty())
}
