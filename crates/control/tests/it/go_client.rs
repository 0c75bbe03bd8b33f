//! Vault's own Go client as a judge: it wraps and unwraps, and its watcher renews.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::skipped;

/// Builds the judge from modules that are on this machine; `None`: Go or a module is missing.
fn judge(folder: &Path) -> Option<std::path::PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/go");
    let program = folder.join("judge");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=readonly")
        .stdin(Stdio::null())
        .output();
    match built {
        Err(_) => {
            skipped("go");
            None
        }
        Ok(built) if built.status.success() => Some(program),
        Ok(built) => {
            let why = String::from_utf8_lossy(&built.stderr).into_owned();
            // What does not compile is no missing module.
            assert!(why.contains("module lookup disabled"), "{why}");
            skipped("the Go module github.com/hashicorp/vault/api");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vaults_own_go_client_wraps_unwraps_and_renews() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = judge(folder.path()) else {
        return;
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let dev = dev::start(any, Some(Secret::new("root".to_owned())))
        .await
        .unwrap();
    let address = format!("http://{}", dev.address);
    let judged = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .env("VAULT_ADDR", address)
            .env("VAULT_TOKEN", "root")
            .stdin(Stdio::null())
            .output()
    });
    let judged = judged.await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&judged.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert!(judged.status.success(), "{told}{wrong}");
    assert_eq!(
        told.lines().filter(|it| it.starts_with("held: ")).count(),
        9,
        "{told}"
    );
    dev.server.stop().await;
}
