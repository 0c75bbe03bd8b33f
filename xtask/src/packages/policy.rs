//! Debian's `policy-rc.d`: what packages ask before they start a service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

const FILE: &str = "policy-rc.d";
/// Where a policy that stood there before waits meanwhile.
const SAVED: &str = "policy-rc.d.saved-by-bastide";
/// By what our own file is known again.
const MARK: &str = "# Bastide: no service starts while process";

/// While it lives, no package starts a service.
#[derive(Debug)]
pub struct Suppressed {
    folder: PathBuf,
}

/// Suppresses the start of services until the value returned is dropped. Should this process be
/// killed first, the file that is left behind allows everything by itself.
pub fn suppress_services(folder: &Path) -> anyhow::Result<Suppressed> {
    restore(folder)?;
    let policy = folder.join(FILE);
    let pid = std::process::id();
    if policy.exists() {
        let saved = folder.join(SAVED);
        fs::rename(&policy, saved).context("could not put the machine's own policy-rc.d aside")?;
    }
    let script = format!("#!/bin/sh\n{MARK} {pid} runs.\n[ ! -d /proc/{pid} ] || exit 101\n");
    let fresh = folder.join(format!("{FILE}.{pid}"));
    fs::write(&fresh, script)
        .and_then(|()| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&fresh, &policy))
        .with_context(|| format!("could not write `{}`", policy.display()))?;
    Ok(Suppressed {
        folder: folder.to_owned(),
    })
}

impl Drop for Suppressed {
    fn drop(&mut self) {
        // What cannot be restored here is restored by the next run, and harmless until then.
        let _ = restore(&self.folder);
    }
}

/// Removes our own file, and puts back what stood there before.
fn restore(folder: &Path) -> anyhow::Result<()> {
    let (policy, saved) = (folder.join(FILE), folder.join(SAVED));
    if fs::read_to_string(&policy).is_ok_and(|script| script.contains(MARK)) {
        fs::remove_file(&policy).context("could not remove our own policy-rc.d")?;
    }
    if saved.exists() && !policy.exists() {
        fs::rename(saved, policy).context("could not put policy-rc.d back")?;
    }
    Ok(())
}
