//! Ending this host's daemons, whoever started them, even if they answer nobody.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bastide_linux::lock::Holder;
use rustix::process::Signal;

use crate::verbs::services;
use crate::{output, paths};

/// How long a daemon may take to end when asked; then it is killed.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// How long one may take to end when killed: the kernel may be busy with its memory or its disk.
const KILLED_WITHIN: Duration = Duration::from_secs(30);
/// How often a condition is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the lock is that a server with this folder holds.
pub fn server_lock_in(folder: &Path) -> PathBuf {
    folder.join("lock")
}

/// Ends agent and server, and returns when neither runs.
pub async fn end_daemons() -> anyhow::Result<()> {
    services::stop_units().await?;
    let agent = bastide_agent::lock_of(Path::new(paths::AGENT));
    end_holder("agent", &agent).await?;
    end_holder("server", &server_lock_in(Path::new(paths::SERVER))).await
}

async fn end_holder(what: &str, lock: &Path) -> anyhow::Result<()> {
    let look =
        || Holder::of(lock).with_context(|| format!("could not find out whether the {what} runs"));
    let Some(holder) = look()? else { return Ok(()) };
    let pid = holder.pid();
    let signal = |signal| {
        let sent = holder.signal(signal);
        sent.with_context(|| format!("could not end the {what} (process {pid})"))
    };
    signal(Signal::TERM)?;
    let began = Instant::now();
    let mut is_killed = false;
    while look()?.is_some_and(|holder| holder.pid() == pid) {
        if !is_killed && ASKED_WITHIN < began.elapsed() {
            signal(Signal::KILL)?;
            output::note(format!(
                "the {what} (process {pid}) did not end within {} s and was killed",
                ASKED_WITHIN.as_secs()
            ));
            is_killed = true;
        }
        anyhow::ensure!(
            began.elapsed() < ASKED_WITHIN + KILLED_WITHIN,
            "the {what} (process {pid}) does not end even when killed"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
