//! `bastide ssh setup` and `bastide ssh teardown`: this host's `sshd` trusts the cluster, and no more.
//!
//! What is changed is written down before it is changed, and each change knows itself: the file is ours
//! by its first line, the block in PAM's file by its marks. So taking back needs no old copy that could
//! undo what somebody else changed since.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bastide_client::ClientError;
use bastide_linux::file;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::enable;
use super::files::{self, DropIn, Passwords};
use crate::cli::SshSetup;
use crate::exit::{Exit, Failure};
use crate::verbs::agent_socket;
use crate::{output, paths, privilege};

/// Read before every other file there: the first that says something wins.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-bastide.conf";
const PAM: &str = "/etc/pam.d/sshd";
const PID_FILE: &str = "/run/sshd.pid";
/// Most bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Where `sshd` is looked for.
const SSHD: &[&str] = &["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

/// What was changed on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    format: u32,
    /// Files that are ours alone.
    files: Vec<PathBuf>,
    /// Files in which a block is ours.
    blocks: Vec<PathBuf>,
}

fn folder() -> PathBuf {
    Path::new(paths::AGENT).join(bastide_agent::SSH_FOLDER)
}

/// Has this host's `sshd` trust the cluster.
pub async fn setup(arguments: &SshSetup) -> anyhow::Result<()> {
    privilege::require_root("bastide ssh setup")?;
    let passwords = if arguments.otp {
        Passwords::OneTime
    } else {
        Passwords::No
    };
    let sshd = sshd()?;
    let program = program()?;
    let effective = effective(&sshd)?;
    check_free(&effective, passwords)?;
    let host_keys: Vec<_> = files::host_keys(&effective)
        .into_iter()
        .filter(|path| path.exists())
        .collect();
    let told = ask_agent(&host_keys).await?;
    let node = told["id"].as_str().unwrap_or_default();
    let folder = folder();
    let drop_in = DropIn {
        program: &program,
        folder: &folder,
        node,
        host_keys: &host_keys,
        passwords,
    };
    let done = write(&drop_in, &program).and_then(|()| check(&sshd, &drop_in));
    if let Err(error) = done {
        undo()?;
        return Err(error.context("`sshd` is as it was before any `bastide ssh setup`"));
    }
    reload()?;
    output::note(format!(
        "sshd lets people in by certificates of this cluster, and proves that this host is `{}`",
        told["name"].as_str().unwrap_or_default()
    ));
    if passwords == Passwords::OneTime {
        output::note("and by one-time passwords; other passwords are not taken over SSH any more");
    }
    Ok(())
}

/// Takes back what `setup` changed.
pub fn teardown() -> anyhow::Result<()> {
    privilege::require_root("bastide ssh teardown")?;
    if !undo_if_set_up()? {
        output::note("sshd was not set up: nothing to undo");
    }
    Ok(())
}

/// Takes back what `setup` changed; `false` if it changed nothing.
pub fn undo_if_set_up() -> anyhow::Result<bool> {
    if !Path::new(paths::SSH_JOURNAL).exists() {
        return Ok(false);
    }
    undo()?;
    output::note("sshd is as it was before `bastide ssh setup`");
    Ok(true)
}

fn sshd() -> anyhow::Result<PathBuf> {
    let found = SSHD.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| {
        Failure::new(Exit::Usage, "this host has no `sshd`")
            .hint("install OpenSSH's server: `apt-get install openssh-server`")
            .into()
    })
}

/// Returns this program's path, if `sshd` would run what is there: only root may have written it, or
/// any folder above it.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("could not find this program")?;
    let program = fs::canonicalize(&program).context("could not find this program")?;
    for path in program.ancestors() {
        let known = fs::metadata(path)
            .with_context(|| format!("could not look at `{}`", path.display()))?;
        if known.uid() != 0 || known.mode() & 0o022 != 0 {
            let what = format!(
                "sshd would not run `{}`: others than root may write `{}`",
                program.display(),
                path.display()
            );
            return Err(Failure::new(Exit::Usage, what)
                .hint("install it: `install -m 755 bastide /usr/local/bin/bastide`")
                .into());
        }
    }
    Ok(program)
}

/// Runs `sshd` with an argument, and returns what it wrote.
fn ask_sshd(sshd: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(sshd)
        .arg(argument)
        .output()
        .with_context(|| format!("could not run `{}`", sshd.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{} {argument}` says: {}", sshd.display(), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn effective(sshd: &Path) -> anyhow::Result<String> {
    ask_sshd(sshd, "-T")
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let bytes = file::read_bounded(path, FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    bytes
        .map(String::from_utf8)
        .transpose()
        .with_context(|| format!("`{}` is no text", path.display()))
}

/// Refuses a host whose `sshd` does something already that would end.
fn check_free(effective: &str, passwords: Passwords) -> anyhow::Result<()> {
    let is_ours = match read(Path::new(DROP_IN))? {
        Some(text) if files::is_ours(&text) => true,
        Some(_) => {
            let what = format!("`{DROP_IN}` is there, and not ours");
            return Err(Failure::new(Exit::Conflict, what)
                .hint("move it away")
                .into());
        }
        None => false,
    };
    if !is_ours && let Some((name, value)) = files::in_the_way(effective) {
        let what = format!("sshd of this host has `{name} {value}` already, which would end");
        return Err(Failure::new(Exit::Conflict, what)
            .hint(format!("find it: `grep -ri {name} /etc/ssh/sshd_config*`"))
            .into());
    }
    if passwords == Passwords::OneTime {
        if !effective.lines().any(|line| line.starts_with("usepam ")) {
            let what = "this host's sshd was built without PAM";
            return Err(Failure::new(Exit::Usage, what)
                .hint("leave out `--otp`: certificates need no PAM")
                .into());
        }
        if !Path::new(PAM).exists() {
            return Err(Failure::new(Exit::Usage, format!("`{PAM}` is missing")).into());
        }
    }
    Ok(())
}

/// Has the agent fetch what `sshd` reads. On a controller whose cluster has no authority yet, makes
/// one.
async fn ask_agent(host_keys: &[PathBuf]) -> anyhow::Result<serde_json::Value> {
    let body = json!({ "host_keys": host_keys });
    let ask = || agent_socket::call("POST", "/v1/ssh/setup", Some(body.clone()));
    let error = match ask().await {
        Ok(told) => return Ok(told),
        Err(error) => error,
    };
    let refused = error.chain().find_map(|cause| cause.downcast_ref());
    let Some(ClientError::Refused { status, errors }) = refused else {
        return Err(error);
    };
    let text = errors.join("; ");
    let is_absent = *status == 404 || text.contains("haven't been configured");
    if !is_absent {
        return Err(error);
    }
    if !Path::new(paths::OPERATOR_TOKEN).exists() {
        let what = "this cluster has no authority for SSH yet";
        return Err(Failure::new(Exit::Refused, what)
            .hint("on the first controller: `bastide ssh enable`")
            .into());
    }
    enable::run().await?;
    ask().await
}

/// Writes down what will be changed, then changes it.
fn write(drop_in: &DropIn<'_>, program: &Path) -> anyhow::Result<()> {
    let mut journal = journal()?;
    journal.format = 1;
    journal.files = vec![DROP_IN.into()];
    if drop_in.passwords == Passwords::OneTime {
        journal.blocks = vec![PAM.into()];
    }
    let bytes = serde_json::to_vec(&journal).context("could not write the journal down")?;
    let at = Path::new(paths::SSH_JOURNAL);
    file::write_private(at, &bytes)
        .with_context(|| format!("could not write `{}`", at.display()))?;
    let failed = |path: &Path| format!("could not write `{}`", path.display());
    let pam = Path::new(PAM);
    if let Some(before) = read(pam)? {
        let after = match drop_in.passwords {
            Passwords::OneTime => files::with_block(&before, program),
            Passwords::No => files::without_block(&before),
        };
        if after != before {
            file::write_public(pam, after.as_bytes()).with_context(|| failed(pam))?;
        }
    }
    let path = Path::new(DROP_IN);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| failed(path))?;
    }
    file::write_public(path, drop_in.text().as_bytes()).with_context(|| failed(path))
}

/// Asks `sshd` itself whether it reads what was written, and whether it counts.
fn check(sshd: &Path, drop_in: &DropIn<'_>) -> anyhow::Result<()> {
    ask_sshd(sshd, "-t")?;
    if let Some(name) = drop_in.overruled(&effective(sshd)?) {
        let what =
            format!("`{name}` is said earlier in sshd's configuration, and the first counts");
        return Err(Failure::new(Exit::Conflict, what)
            .hint("have `/etc/ssh/sshd_config` begin with `Include /etc/ssh/sshd_config.d/*.conf`")
            .into());
    }
    Ok(())
}

fn journal() -> anyhow::Result<Journal> {
    match read(Path::new(paths::SSH_JOURNAL))? {
        None => Ok(Journal::default()),
        Some(text) => serde_json::from_str(&text)
            .with_context(|| format!("`{}` is damaged", paths::SSH_JOURNAL)),
    }
}

/// Takes back what the journal tells of. May be repeated.
fn undo() -> anyhow::Result<()> {
    let journal = journal()?;
    for path in &journal.files {
        match read(path)? {
            Some(text) if files::is_ours(&text) => {
                fs::remove_file(path)
                    .with_context(|| format!("could not delete `{}`", path.display()))?;
            }
            Some(_) => output::note(format!(
                "left as it is, because somebody else wrote it: {}",
                path.display()
            )),
            None => {}
        }
    }
    for path in &journal.blocks {
        if let Some(before) = read(path)? {
            let after = files::without_block(&before);
            if after != before {
                file::write_public(path, after.as_bytes())
                    .with_context(|| format!("could not write `{}`", path.display()))?;
            }
        }
    }
    // Before the files are gone: a running `sshd` that cannot read what is revoked lets nobody in.
    reload()?;
    for path in [folder(), PathBuf::from(paths::SSH_JOURNAL)] {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("could not delete `{}`", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Has a running `sshd` read its configuration; who is logged in stays so.
fn reload() -> anyhow::Result<()> {
    let Some(text) = read(Path::new(PID_FILE))? else {
        output::note("no sshd runs: what is set counts when it starts");
        return Ok(());
    };
    let pid: Option<i32> = text.trim().parse().ok().filter(|pid| 1 < *pid);
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    let pid = pid.with_context(|| format!("`{PID_FILE}` names no process"))?;
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    if name.is_ok_and(|name| name.trim() == "sshd") {
        rustix::process::kill_process(pid, rustix::process::Signal::HUP)
            .context("sshd could not be told to read its configuration")?;
    } else {
        output::note("no sshd runs: what is set counts when it starts");
    }
    Ok(())
}
