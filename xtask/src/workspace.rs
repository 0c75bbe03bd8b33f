//! Where things are, and cargo itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand};

/// Returns the checkout's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is a folder of the checkout")
}

/// Returns the folder into which cargo builds.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Returns `cargo`, to be run in the checkout.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo hands its input on to the compiler, which reads what somebody meant for another.
    cargo.current_dir(root()).stdin(Stdio::null());
    // Cargo sets these for us, as for any program that it runs; they are not meant for its child.
    for (name, _) in env::vars_os() {
        let inherited = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if inherited {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Returns what cargo knows about the workspace and all that it is built from on Linux.
pub fn metadata() -> anyhow::Result<Metadata> {
    let platform = format!("--filter-platform={}", musl_target());
    MetadataCommand::new()
        .current_dir(root())
        .other_options(vec![platform])
        .exec()
        .context("could not read the workspace's metadata")
}

/// Returns the target of static programs for this machine.
pub fn musl_target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// Returns the target of programs for this machine.
pub fn host_target() -> anyhow::Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say for which host it is")?
        .to_owned())
}

/// Runs a command, which prints for itself, and fails if it does.
pub fn must(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// Runs a command, which prints for itself.
pub fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("could not run {}", shown(command)))
}

/// Runs a command and returns what it printed on standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not run {}", shown(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}", shown(command), errors.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", shown(command)))
}

/// Returns where a program is, in the folders of ordinary users and of root.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let roots = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(roots)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(std::ffi::OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}
