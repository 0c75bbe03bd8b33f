//! Tokens, their roles, policies, and answers that are wrapped.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use vaultrs::api::ResponseWrapper as _;
use vaultrs::api::sys::requests::ListMountsRequest;
use vaultrs::api::token::requests::{
    CreateOrphanTokenRequest, CreateTokenRequest, SetTokenRoleRequest,
};
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;
use vaultrs::sys::{policy, wrapping as wraps};
use vaultrs::token::{self, role};

use crate::refused;

const POLICY: &str = r#"path "sys/mounts" { capabilities = ["read"] }"#;
const MAKERS: &str = r#"path "auth/token/create" { capabilities = ["update"] }"#;

pub async fn policies(client: &VaultClient) -> anyhow::Result<()> {
    policy::set(client, "mounts", POLICY).await?;
    let read = policy::read(client, "mounts").await?;
    ensure!((read.name.as_str(), read.rules.as_str()) == ("mounts", POLICY));
    let listed = policy::list(client).await?.policies;
    for name in ["default", "mounts", "root"] {
        ensure!(listed.iter().any(|it| it == name), "{listed:?}");
    }
    policy::set(client, "gone", POLICY).await?;
    policy::delete(client, "gone").await?;
    refused(policy::read(client, "gone").await, 404, "")?;
    refused(
        policy::set(client, "bad", "path {").await,
        400,
        "failed to parse policy",
    )?;

    let mut asked = CreateTokenRequest::builder();
    let made = token::new(client, Some(asked.policies(vec!["mounts".to_owned()]))).await?;
    let holder = crate::client(&made.client_token)?;
    ensure!(!vaultrs::sys::mount::list(&holder).await?.is_empty());
    refused(
        policy::read(&holder, "mounts").await,
        403,
        "permission denied",
    )
}

pub async fn judge(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = CreateTokenRequest::builder();
    asked
        .policies(vec!["default".to_owned()])
        .ttl("1h")
        .display_name("judge")
        .meta(HashMap::from([("who".to_owned(), "judge".to_owned())]));
    let made = token::new(client, Some(&mut asked)).await?;
    ensure!(made.lease_duration == 3600 && made.renewable && !made.orphan);
    ensure!(made.token_type == "service" && made.token_policies == ["default"]);
    let shown = token::lookup_accessor(client, &made.accessor).await?;
    ensure!(shown.id.is_empty() && shown.display_name == "token-judge");
    ensure!(shown.meta.is_some_and(|it| it["who"] == "judge"));
    let shown = token::lookup(client, &made.client_token).await?;
    ensure!(shown.creation_ttl == 3600 && shown.path == "auth/token/create");
    ensure!(shown.expire_time.is_some() && shown.issue_time.is_some());

    let holder = crate::client(&made.client_token)?;
    ensure!(token::lookup_self(&holder).await?.accessor == made.accessor);
    ensure!(token::renew_self(&holder, Some("2h")).await?.lease_duration == 7200);
    ensure!(
        token::renew(client, &made.client_token, Some("3h"))
            .await?
            .lease_duration
            == 10_800
    );
    let renewed = token::renew_accessor(client, &made.accessor, Some("4h")).await?;
    ensure!(renewed.lease_duration == 14_400 && renewed.client_token.is_empty());
    token::revoke_self(&holder).await?;
    refused(token::lookup_self(&holder).await, 403, "permission denied")?;

    let mut asked = CreateOrphanTokenRequest::builder();
    policy::set(client, "makers", MAKERS).await?;
    asked.policies(vec!["makers".to_owned()]).ttl("1h");
    let orphan = token::new_orphan(client, Some(&mut asked)).await?;
    ensure!(orphan.orphan);
    let parent = crate::client(&orphan.client_token)?;
    let child = token::new(&parent, None).await?;
    token::revoke_orphan(client, &orphan.client_token).await?;
    ensure!(token::lookup(client, &child.client_token).await?.orphan);
    token::revoke_accessor(client, &child.accessor).await?;
    refused(
        token::lookup(client, &child.client_token).await,
        403,
        "bad token",
    )?;
    let made = token::new(client, None).await?;
    token::revoke(client, &made.client_token).await?;
    refused(
        token::lookup_accessor(client, &made.accessor).await,
        400,
        "invalid accessor",
    )?;
    token::tidy(client).await?;

    let root = token::lookup_self(client).await?;
    ensure!(root.ttl == 0 && root.expire_time.is_none() && root.policies == ["root"]);
    Ok(())
}

pub async fn roles(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = SetTokenRoleRequest::builder();
    asked
        .allowed_policies(vec!["default".to_owned(), "mounts".to_owned()])
        .orphan(true)
        .token_period("10m");
    role::set(client, "web", Some(&mut asked)).await?;
    let read = role::read(client, "web").await?;
    ensure!(read.name == "web" && read.orphan && read.token_period == 600);
    ensure!(read.allowed_policies == ["default", "mounts"]);
    ensure!(role::list(client).await?.keys == ["web"]);
    let made = token::new_role(client, "web", None).await?;
    ensure!(made.orphan && made.lease_duration == 600);
    let shown = token::lookup(client, &made.client_token).await?;
    ensure!(shown.role.as_deref() == Some("web"));
    role::delete(client, "web").await?;
    refused(role::read(client, "web").await, 404, "")
}

pub async fn wrapping(client: &VaultClient) -> anyhow::Result<()> {
    let wrapped = ListMountsRequest::builder().build()?.wrap(client).await?;
    ensure!(wrapped.info.ttl == 600 && wrapped.info.creation_path == "sys/mounts");
    let told = wrapped.lookup(client).await?;
    ensure!(told.creation_ttl == 600 && told.creation_path == "sys/mounts");
    let inside = wrapped.unwrap(client).await?;
    ensure!(inside.contains_key("sys/"));
    let again = wrapped
        .unwrap(client)
        .await
        .err()
        .context("it was unwrapped twice")?;
    ensure!(
        matches!(again, ClientError::APIError { code: 400, .. }),
        "{again:?}"
    );
    let told = wrapped
        .lookup(client)
        .await
        .err()
        .context("a spent one is found")?;
    ensure!(matches!(told, ClientError::WrapInvalidError), "{told:?}");

    // As one who was handed nothing but the wrapping token.
    let wrapped = ListMountsRequest::builder().build()?.wrap(client).await?;
    let stranger = crate::client(&wrapped.info.token)?;
    let inside: serde_json::Value = wraps::unwrap(&stranger, None).await?;
    ensure!(inside.get("sys/").is_some());
    Ok(())
}
