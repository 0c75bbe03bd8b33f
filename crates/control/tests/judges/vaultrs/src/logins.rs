//! Those who log in: people and programs.

use anyhow::ensure;
use vaultrs::api::auth::approle::requests::{GenerateNewSecretIDRequest, SetAppRoleRequest};
use vaultrs::api::auth::userpass::requests::CreateUserRequest;
use vaultrs::auth::approle::role::{self, secret};
use vaultrs::auth::userpass::user;
use vaultrs::auth::{approle as programs, userpass as people};
use vaultrs::client::VaultClient;
use vaultrs::{sys, token};

use crate::refused;

pub async fn userpass(client: &VaultClient) -> anyhow::Result<()> {
    sys::auth::enable(client, "userpass", "userpass", None).await?;
    let mut asked = CreateUserRequest::builder();
    asked
        .token_policies(vec!["mounts".to_owned()])
        .token_ttl("30m");
    user::set(client, "userpass", "ada", "first words", Some(&mut asked)).await?;
    let read = user::read(client, "userpass", "ada").await?;
    ensure!(read.token_ttl == 1800 && read.token_policies == ["mounts"]);
    ensure!(user::list(client, "userpass").await?.keys == ["ada"]);

    let stranger = crate::client("")?;
    let held = people::login(&stranger, "userpass", "ada", "first words").await?;
    ensure!(held.lease_duration == 1800 && !held.entity_id.is_empty());
    ensure!(held.metadata.is_some_and(|it| it["username"] == "ada"));
    let wrong = people::login(&stranger, "userpass", "ada", "other words").await;
    refused(wrong, 400, "invalid username or password")?;
    user::update_password(client, "userpass", "ada", "other words").await?;
    people::login(&stranger, "userpass", "ada", "other words").await?;
    user::update_policies(client, "userpass", "ada", "default").await?;
    let held = people::login(&stranger, "userpass", "ada", "other words").await?;
    ensure!(
        held.token_policies == ["default"],
        "{:?}",
        held.token_policies
    );
    user::delete(client, "userpass", "ada").await?;
    refused(user::read(client, "userpass", "ada").await, 404, "")
}

pub async fn approle(client: &VaultClient) -> anyhow::Result<()> {
    const AT: &str = "approle";
    sys::auth::enable(client, AT, "approle", None).await?;
    let mut asked = SetAppRoleRequest::builder();
    asked
        .token_policies(vec!["mounts".to_owned()])
        .token_ttl("20m")
        .secret_id_num_uses(2_u64);
    role::set(client, AT, "web", Some(&mut asked)).await?;
    let read = role::read(client, AT, "web").await?;
    ensure!(read.bind_secret_id && read.token_ttl == 1200 && read.secret_id_num_uses == 2);
    ensure!(role::list(client, AT).await?.keys == ["web"]);
    role::update_id(client, AT, "web", "the-web").await?;
    let role_id = role::read_id(client, AT, "web").await?.role_id;
    ensure!(role_id == "the-web");

    let mut asked = GenerateNewSecretIDRequest::builder();
    let made = secret::generate(
        client,
        AT,
        "web",
        Some(asked.metadata(r#"{"who":"judge"}"#)),
    )
    .await?;
    let read = secret::read(client, AT, "web", &made.secret_id).await?;
    ensure!(read.secret_id_num_uses == 2 && read.secret_id_accessor == made.secret_id_accessor);
    let read = secret::read_accessor(client, AT, "web", &made.secret_id_accessor).await?;
    ensure!(read.metadata.is_some_and(|it| it["who"] == "judge"));
    ensure!(secret::list(client, AT, "web").await?.keys == [made.secret_id_accessor]);

    let stranger = crate::client("")?;
    let held = programs::login(&stranger, AT, &role_id, &made.secret_id).await?;
    ensure!(held.lease_duration == 1200 && held.token_policies == ["default", "mounts"]);
    ensure!(token::lookup(client, &held.client_token).await?.path == "auth/approle/login");
    programs::login(&stranger, AT, &role_id, &made.secret_id).await?;
    let third = programs::login(&stranger, AT, &role_id, &made.secret_id).await;
    refused(third, 400, "invalid")?;

    secret::custom(client, AT, "web", "chosen", None).await?;
    programs::login(&stranger, AT, &role_id, "chosen").await?;
    secret::delete(client, AT, "web", "chosen").await?;
    refused(
        programs::login(&stranger, AT, &role_id, "chosen").await,
        400,
        "invalid",
    )?;
    let made = secret::generate(client, AT, "web", None).await?;
    secret::delete_accessor(client, AT, "web", &made.secret_id_accessor).await?;
    let late = programs::login(&stranger, AT, &role_id, &made.secret_id).await;
    refused(late, 400, "invalid")?;
    programs::tidy(client, AT).await?;
    role::delete(client, AT, "web").await?;
    refused(role::read(client, AT, "web").await, 404, "")
}
