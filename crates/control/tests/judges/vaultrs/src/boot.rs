//! What an operator does before anything else, and last.

use anyhow::ensure;
use vaultrs::client::{Client as _, VaultClient};
use vaultrs::sys::{self, ServerStatus};

use crate::refused;

/// Makes the server's store, opens it, seals it and opens it again. Returns the root token.
pub async fn begin(client: &VaultClient) -> anyhow::Result<String> {
    let status = client.status().await?;
    ensure!(
        matches!(status, ServerStatus::UNINITIALIZED),
        "is {status:?}"
    );
    let made = sys::start_initialization(client, 3, 2, None).await?;
    ensure!(made.keys.len() == 3 && made.keys_base64.len() == 3);
    let again = sys::start_initialization(client, 3, 2, None).await;
    refused(again, 400, "Vault is already initialized")?;
    unseal(client, &made.keys_base64).await?;

    let root = crate::client(&made.root_token)?;
    sys::seal(&root).await?;
    let status = root.status().await?;
    ensure!(matches!(status, ServerStatus::SEALED), "is {status:?}");
    unseal(client, &made.keys[1..]).await?;
    Ok(made.root_token)
}

async fn unseal(client: &VaultClient, shares: &[String]) -> anyhow::Result<()> {
    for (given, share) in (1..).zip(&shares[..2]) {
        let told = sys::unseal(client, Some(share.clone()), None, None).await?;
        ensure!((told.threshold, told.n_shares) == (2, 3));
        let expect = if given == 2 { 0 } else { given };
        ensure!(told.progress == expect, "progress is {}", told.progress);
        ensure!(told.sealed == (given < 2));
    }
    let health = sys::health(client).await?;
    ensure!(health.initialized && !health.sealed && !health.standby);
    ensure!(health.cluster_id.is_some() && !health.version.is_empty());
    Ok(())
}

/// Seals the server for good.
pub async fn end(client: &VaultClient) -> anyhow::Result<()> {
    sys::seal(client).await?;
    refused(
        vaultrs::token::lookup_self(client).await,
        503,
        "Vault is sealed",
    )
}
