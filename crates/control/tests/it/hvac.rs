//! The Python client hvac, which others wrote for Vault, against the development server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::skipped;

/// Returns a Python that has hvac, in an environment of its own that later runs find again.
pub(crate) fn python() -> Option<PathBuf> {
    let folder = std::env::temp_dir().join("bastide-test-hvac-2.4.0");
    let python = folder.join("bin/python");
    let has = || {
        let asked = Command::new(&python).args(["-c", "import hvac"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    if has() {
        return Some(python);
    }
    let made = Command::new("python3")
        .arg("-m")
        .arg("venv")
        .arg(&folder)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        skipped("python3 with venv");
        return None;
    }
    let pip = ["-m", "pip", "install", "--quiet", "hvac==2.4.0"];
    let _ = Command::new(&python).args(pip).output();
    if !has() {
        skipped("the Python package hvac");
        return None;
    }
    Some(python)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_finds_a_vault() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else {
        return;
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Secret::new("hvac-root".to_owned());
    let dev = dev::start(any, Some(token)).await.unwrap();
    let mut command = tokio::process::Command::new(python);
    command.arg("-c").arg(include_str!("hvac.py"));
    command
        .arg(format!("http://{}", dev.address))
        .arg("hvac-root");
    let done = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).trim(),
        "all checks passed"
    );
    dev.server.stop().await;
}
