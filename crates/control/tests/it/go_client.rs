//! Vault's own Go client as a judge, and OpenBao's: it wraps and unwraps, its watcher renews, and it
//! makes the calls that the programs `vault` and `bao` are made of.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::judges::{self, Judged, assert_held};

/// The judge on each of the two clients: the list of modules, and what it is built with.
const CLIENTS: [(&str, &[&str]); 2] = [("go.mod", &[]), ("openbao.mod", &["-tags=openbao"])];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_clients_of_vault_and_openbao_wrap_unwrap_and_renew() {
    for (modules, words) in CLIENTS {
        let built = tokio::task::spawn_blocking(move || judges::go("go", modules, words));
        let Some(program) = built.await.unwrap() else {
            continue;
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let dev = dev::start(any, Some(Secret::new("root".to_owned())))
            .await
            .unwrap();
        let address = format!("http://{}", dev.address);
        let judged = tokio::task::spawn_blocking(move || {
            Command::new(program)
                .arg("client")
                .env("VAULT_ADDR", address)
                .env("VAULT_TOKEN", "root")
                .stdin(Stdio::null())
                .output()
        });
        assert_held(&judged.await.unwrap().unwrap(), 9);
        dev.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_the_programs_vault_and_bao_get_what_those_expect() {
    // Vault's program expects what only `compat` opens; OpenBao's does without it.
    let modes = [("open", "compat = \"vault\""), ("strict", "")];
    for ((modules, words), (mode, more)) in CLIENTS.into_iter().zip(modes) {
        let built = tokio::task::spawn_blocking(move || judges::go("go", modules, words));
        let Some(program) = built.await.unwrap() else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let judged = Judged::start(folder.path(), more).await;
        let mut judge = Command::new(program);
        judge.args(["program", mode]).arg(folder.path());
        judged.run(judge, 24).await;
        judged.stop().await;
    }
}
