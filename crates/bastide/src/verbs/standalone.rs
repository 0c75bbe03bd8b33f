//! `bastide server --config FILE`: the API alone, as a file in Vault's words says.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use bastide_control::core::config::{self, CONFIG_BYTES_MAX, Config};
use bastide_control::run::standalone::Standalone;
use bastide_linux::{file, lock};

use super::serve::{attend, fresh_cluster_id};
use crate::cli::Server;
use crate::exit::{Exit, Failure};
use crate::output;

/// Most files of a folder.
const FILES_MAX: usize = 64;

/// Runs the server until it is told to end.
pub async fn run(arguments: Server) -> anyhow::Result<()> {
    let mut config = read(&arguments.config)?;
    if let Some(compat) = arguments.compat {
        config.compat = compat;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let _alone = match &config.storage {
        config::Storage::Memory => None,
        config::Storage::Folder(folder) => Some(alone(folder)?),
    };
    let server = Standalone::start(&config, fresh_cluster_id()?).await?;
    let _noted = config.pid_file.as_deref().map(Noted::new).transpose()?;
    for address in server.addresses() {
        tracing::info!(%address, "listening");
    }
    let ended = attend(server.failed(), reload_on_hangup(&server)).await;
    server.stop().await;
    ended
}

/// Returns what files say is to be logged, in our words; `None` if they do not, or cannot be read: then
/// that is told when the server starts.
pub fn log_level(files: &[PathBuf]) -> Option<&'static str> {
    if files.is_empty() {
        return None;
    }
    match read(files).ok()?.log_level?.to_ascii_lowercase().as_str() {
        "trace" => Some("trace"),
        "debug" => Some("debug"),
        "notice" | "info" => Some("info"),
        "warn" | "warning" => Some("warn"),
        "err" | "error" => Some("error"),
        _ => None,
    }
}

fn read(paths: &[PathBuf]) -> anyhow::Result<Config> {
    let mut texts = Vec::new();
    for path in paths {
        for path in files(path)? {
            let shown = path.display().to_string();
            let bytes = file::read_bounded(&path, CONFIG_BYTES_MAX as u64)
                .with_context(|| format!("could not read configuration `{shown}`"))?;
            let bytes = bytes.with_context(|| format!("there is no configuration `{shown}`"))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| anyhow!("configuration `{shown}` is not text in UTF-8"))?;
            texts.push((shown, text));
        }
    }
    config::parse(&texts).map_err(|error| Failure::new(Exit::Usage, error.to_string()).into())
}

/// Returns a file, or all of a folder in their names' order.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = || format!("could not list the folder `{}`", path.display());
    let mut found = Vec::new();
    for entry in path.read_dir().with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let is_meant = path
            .extension()
            .is_some_and(|extension| extension == "hcl" || extension == "json");
        if is_meant {
            found.push(path);
        }
    }
    ensure!(
        !found.is_empty() && found.len() <= FILES_MAX,
        "the folder `{}` holds {} files that end in .hcl or .json: 1 to {FILES_MAX} are read",
        path.display(),
        found.len()
    );
    found.sort();
    Ok(found)
}

/// Takes a folder: two servers on one store would each undo what the other did.
fn alone(folder: &Path) -> anyhow::Result<lock::Lock> {
    file::create_private_dir(folder)
        .with_context(|| format!("could not make `{}`", folder.display()))?;
    let path = folder.join("server.lock");
    let taken =
        lock::take(&path).with_context(|| format!("could not take `{}`", path.display()))?;
    taken.with_context(|| format!("another server uses `{}`", folder.display()))
}

/// Shows a new certificate whenever a hangup says that there is one.
async fn reload_on_hangup(server: &Standalone) -> Infallible {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).expect("signals can be listened for");
    while hangups.recv().await.is_some() {
        match server.reload() {
            Ok(()) => tracing::info!("certificates read anew"),
            Err(error) => tracing::warn!(%error, "the certificates stay as they were"),
        }
        if let Some(plane) = server.gate().plane() {
            plane.reopen_audit().await;
        }
    }
    std::future::pending().await
}

/// A file that holds this process's number, for as long as it runs.
struct Noted(PathBuf);

impl Noted {
    fn new(path: &Path) -> anyhow::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("could not write `pid_file` `{}`", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            output::note(format!("`{}` stays: {error}", self.0.display()));
        }
    }
}
