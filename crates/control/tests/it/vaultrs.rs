//! vaultrs, a client for Rust that others wrote for Vault: a whole round against an empty server.

use std::path::Path;
use std::process::Command;

use crate::judges::{self, Judged};
use crate::skipped;

/// Makes a pair of keys; `None`, and aloud, without OpenSSH.
fn keys(folder: &Path, name: &str) -> Option<()> {
    let mut made = Command::new("ssh-keygen");
    made.current_dir(folder)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name]);
    if made.output().is_ok_and(|made| made.status.success()) {
        return Some(());
    }
    skipped("ssh-keygen");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vaultrs_finds_a_vault_from_its_first_share_to_its_seal() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["user", "ca"] {
        let Some(()) = keys(folder.path(), name) else {
            return;
        };
    }
    let built = tokio::task::spawn_blocking(|| judges::rust("vaultrs"));
    let Some(program) = built.await.unwrap() else {
        return;
    };
    let judged = Judged::start(folder.path(), "").await;
    let mut judge = Command::new(program);
    judge.arg(folder.path());
    judged.run(judge, 21).await;
    judged.stop().await;

    let mut read = Command::new("ssh-keygen");
    let read = read
        .arg("-L")
        .arg("-f")
        .arg(folder.path().join("user-cert.pub"));
    let text = String::from_utf8(read.output().unwrap().stdout).unwrap();
    for line in ["user certificate", "deploy", "permit-pty"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
