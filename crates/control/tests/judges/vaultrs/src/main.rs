//! Judges a server by what vaultrs, a Vault client for Rust that others wrote, makes of it.
//!
//! `VAULT_ADDR` and `VAULT_CACERT` say where an empty server is; the one argument is a folder with
//! OpenSSH keys (`user.pub`, `ca`, `ca.pub`). Prints a line for each thing that held; ends with an
//! error at the first that did not. What vaultrs parses it parses strictly: a field that is missing
//! or of another type is an error.
#![forbid(unsafe_code)]

mod boot;
mod identity;
mod kv;
mod logins;
mod mounts;
mod pki;
mod ssh;
mod tokens;
mod transit;

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use vaultrs::client::{Client as _, VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match judge().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn judge() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    ensure!(provider.install_default().is_ok(), "TLS was set up before");
    let keys = std::env::args()
        .nth(1)
        .context("the folder of keys is missing")?;
    let mut client = client("")?;
    let root = boot::begin(&client).await;
    client.set_token(root.as_deref().unwrap_or_default());
    step("init, unseal and seal", root.map(drop))?;
    let client = &client;
    step("mounts", mounts::judge(client).await)?;
    step("policies", tokens::policies(client).await)?;
    step("tokens", tokens::judge(client).await)?;
    step("token roles", tokens::roles(client).await)?;
    step("wrapping", tokens::wrapping(client).await)?;
    step("userpass", logins::userpass(client).await)?;
    step("approle", logins::approle(client).await)?;
    step("cubbyhole", kv::cubbyhole(client).await)?;
    step("kv version 1", kv::one(client).await)?;
    step("kv version 2", kv::two(client).await)?;
    step("transit", transit::judge(client).await)?;
    step("signatures of transit", transit::signatures(client).await)?;
    step("pki", pki::judge(client).await)?;
    step("intermediate authorities", pki::intermediate(client).await)?;
    step("leases", pki::leases(client).await)?;
    step(
        "certificates of ssh",
        ssh::certificates(client, keys.as_ref()).await,
    )?;
    step("one-time passwords of ssh", ssh::passwords(client).await)?;
    step("entities", identity::entities(client).await)?;
    step("groups", identity::groups(client).await)?;
    step("the seal at the end", boot::end(client).await)
}

/// A client that shows this token.
fn client(token: &str) -> anyhow::Result<VaultClient> {
    let settings = VaultClientSettingsBuilder::default().token(token).build()?;
    Ok(VaultClient::new(settings)?)
}

fn step(name: &str, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    outcome.map_err(|error| {
        let trace = error.backtrace().to_string();
        let line = trace
            .lines()
            .find(|it| it.contains("/vaultrs/src/") && !it.contains("main.rs"));
        let line = line.map_or(String::new(), |it| format!(" ({})", it.trim()));
        // What the server refused is told in its debug form alone.
        let refusal = error.downcast_ref::<ClientError>();
        let why = refusal.map_or(format!("{error:#}"), |it| format!("{it:?}"));
        anyhow!("{name}: {why}{line}")
    })?;
    println!("held: {name}");
    Ok(())
}

/// The server refused with this status and a text that holds `why`.
fn refused<T>(outcome: Result<T, ClientError>, status: u16, why: &str) -> anyhow::Result<()> {
    match outcome {
        Ok(_) => bail!("was not refused with {status}"),
        Err(ClientError::APIError { code, errors }) => {
            ensure!(
                code == status,
                "refused with {code}, not {status}: {errors:?}"
            );
            ensure!(
                errors.concat().contains(why),
                "refused with {errors:?}, not `{why}`"
            );
            Ok(())
        }
        Err(other) => bail!("refused with {other:?}, not {status}"),
    }
}
