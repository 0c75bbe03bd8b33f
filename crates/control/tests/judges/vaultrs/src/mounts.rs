//! Engines and auth methods come, move and go.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use vaultrs::api::sys::requests::{EnableAuthRequest, EnableEngineDataConfig, EnableEngineRequest};
use vaultrs::client::VaultClient;
use vaultrs::sys::{auth, mount, remount, tools};

use crate::refused;

pub async fn judge(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = EnableEngineRequest::builder();
    asked
        .description("of the judge")
        .options(HashMap::from([("version".to_owned(), "2".to_owned())]))
        .config(EnableEngineDataConfig {
            default_lease_ttl: Some("10m".to_owned()),
            ..EnableEngineDataConfig::default()
        });
    mount::enable(client, "words", "kv", Some(&mut asked)).await?;
    let again = mount::enable(client, "words", "kv", None).await;
    refused(again, 400, "path is already in use at words/")?;
    let all = mount::list(client).await?;
    let one = all.get("words/").context("`words/` is not listed")?;
    ensure!(one.mount_type == "kv" && one.description == "of the judge");
    ensure!(one.config.default_lease_ttl == 600);
    ensure!(one.options.as_ref().is_some_and(|it| it["version"] == "2"));
    for own in ["sys/", "identity/", "cubbyhole/"] {
        ensure!(all.contains_key(own), "`{own}` is not listed");
    }

    let moved = remount::remount(client, "words", "moved").await?;
    let told = loop {
        let told = remount::remount_status(client, &moved.migration_id).await?;
        if told.migration_info.status != "in-progress" {
            break told;
        }
    };
    ensure!(told.migration_info.status == "success");
    ensure!(told.migration_info.target_mount.starts_with("moved"));
    let one = mount::get_configuration_of_a_secret_engine(client, "moved").await?;
    ensure!(one.mount_type == "kv" && one.accessor == all["words/"].accessor);
    let gone = mount::get_configuration_of_a_secret_engine(client, "words").await;
    refused(gone, 400, "No secret engine mount at words/")?;
    mount::disable(client, "moved").await?;
    ensure!(!mount::list(client).await?.contains_key("moved/"));

    let mut asked = EnableAuthRequest::builder();
    auth::enable(
        client,
        "people",
        "userpass",
        Some(asked.description("whom we know")),
    )
    .await?;
    let all = auth::list(client).await?;
    let one = all.get("people/").context("`people/` is not listed")?;
    ensure!(one.mount_type == "userpass" && one.description == "whom we know");
    ensure!(
        one.config.token_type == "default-service",
        "{}",
        one.config.token_type
    );
    auth::disable(client, "people").await?;
    let all = auth::list(client).await?;
    ensure!(!all.contains_key("people/") && all.contains_key("token/"));

    let bytes = tools::random(client, None).await?.random_bytes;
    ensure!(bytes.len() == 44, "{bytes}");
    Ok(())
}
