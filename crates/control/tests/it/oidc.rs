//! Logging in by a browser at the npm package oidc-provider, a certified provider that others wrote, and
//! with hvac's calls for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bastide_api::Secret;
use bastide_control::run::dev;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::python::{HVAC, NODE, Python};
use crate::skipped;

const PACKAGE: &str = "oidc-provider@9.13.3";

/// Returns a folder in which Node finds the provider; later runs find it again.
fn provider(programs: &Path) -> Option<PathBuf> {
    let folder = std::env::temp_dir().join("bastide-test-oidc-provider-9.13.3");
    let package = folder.join("node_modules/oidc-provider/package.json");
    if !package.exists() {
        let npm = ["install", "--no-audit", "--no-fund", PACKAGE, "--prefix"];
        let mut npm_install = Command::new(programs.join("npm"));
        let _ = npm_install.args(npm).arg(&folder).output();
    }
    if !package.exists() {
        skipped("the npm package oidc-provider");
        return None;
    }
    Some(folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_log_in_at_a_provider_that_others_wrote() {
    let Some(python) = Python::with(&[HVAC, NODE]).await else {
        return;
    };
    let programs = python.programs().to_owned();
    let found = tokio::task::spawn_blocking(move || provider(&programs)).await;
    let Some(folder) = found.unwrap() else {
        return;
    };
    let script = folder.join("provider.mjs");
    std::fs::write(&script, include_str!("oidc.mjs")).unwrap();
    let mut provider = tokio::process::Command::new(python.node())
        .arg(&script)
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(provider.stdout.take().unwrap()).lines();
    let issuer = lines.next_line().await.unwrap();
    let issuer = issuer.expect("the provider says where it is");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Secret::new("oidc-root".to_owned());
    let dev = dev::start(any, Some(token)).await.unwrap();
    let address = format!("http://{}", dev.address);
    let arguments = [address.as_str(), "oidc-root", &issuer];
    python.passes(include_str!("oidc.py"), &arguments).await;
    provider.kill().await.unwrap();
    dev.server.stop().await;
}
