//! Certificates and one-time passwords for OpenSSH.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::ensure;
use vaultrs::api::ssh::requests::{SetRoleRequest, SignSSHKeyRequest};
use vaultrs::client::VaultClient;
use vaultrs::ssh::{self, ca, role, zero};
use vaultrs::sys;

use crate::refused;

const AT: &str = "ssh";

pub async fn certificates(client: &VaultClient, keys: &Path) -> anyhow::Result<()> {
    let read = |name| fs::read_to_string(keys.join(name));
    sys::mount::enable(client, AT, "ssh", None).await?;
    refused(
        ca::read(client, AT).await,
        400,
        "keys haven't been configured yet",
    )?;
    let public = ca::generate(client, AT).await?.public_key;
    ensure!(ca::read(client, AT).await?.public_key.trim() == public.trim());
    ca::delete(client, AT).await?;
    // What others made.
    ca::set(client, AT, &read("ca")?, &read("ca.pub")?).await?;
    let public = ca::read(client, AT).await?.public_key;
    ensure!(read("ca.pub")?.starts_with(public.trim()), "{public}");

    let mut asked = SetRoleRequest::builder();
    asked
        .key_type("ca")
        .allow_user_certificates(true)
        .allowed_users("deploy,web")
        .allowed_extensions("permit-pty")
        .default_user("web")
        .ttl("2m")
        .max_ttl("10m");
    role::set(client, AT, "web", Some(&mut asked)).await?;
    let told = role::read(client, AT, "web").await?;
    ensure!(told.allow_user_certificates && told.ttl == 120 && told.max_ttl == 600);
    let listed = role::list(client, AT).await?;
    ensure!(listed.keys == ["web"] && listed.key_info["web"].key_type == "ca");
    let mut asked = SignSSHKeyRequest::builder();
    asked
        .valid_principals("deploy")
        .ttl("30s")
        .extensions(HashMap::from([("permit-pty".to_owned(), String::new())]));
    let key = read("user.pub")?;
    let signed = ca::sign(client, AT, "web", &key, Some(&mut asked)).await?;
    ensure!(
        signed
            .signed_key
            .starts_with("ssh-ed25519-cert-v01@openssh.com ")
    );
    // Whoever called this judge has `ssh-keygen` read it.
    fs::write(keys.join("user-cert.pub"), signed.signed_key)?;
    let mut asked = SignSSHKeyRequest::builder();
    let root = ca::sign(
        client,
        AT,
        "web",
        &key,
        Some(asked.valid_principals("root")),
    )
    .await;
    refused(root, 400, "root")?;
    role::delete(client, AT, "web").await?;
    refused(role::read(client, AT, "web").await, 404, "")
}

pub async fn passwords(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = SetRoleRequest::builder();
    asked
        .key_type("otp")
        .default_user("web")
        .cidr_list("10.1.2.0/24")
        .port(2222_u64);
    role::set(client, AT, "otp", Some(&mut asked)).await?;
    let made = ssh::generate(client, AT, "otp", "10.1.2.3", None).await?;
    ensure!(made.key_type == "otp" && made.port == 2222 && made.key.len() == 36);
    let told = ssh::verify_otp(client, AT, &made.key).await?;
    ensure!(told.ip == "10.1.2.3" && told.username == "web");
    refused(
        ssh::verify_otp(client, AT, &made.key).await,
        400,
        "OTP not found",
    )?;
    let outside = ssh::generate(client, AT, "otp", "10.9.9.9", None).await;
    refused(outside, 400, "IP does not belong to role")?;
    ensure!(role::list_by_ip(client, AT, "10.1.2.3").await?.roles == ["otp"]);

    zero::set(client, AT, vec!["otp".to_owned()]).await?;
    ensure!(zero::list(client, AT).await?.roles == ["otp"]);
    ssh::generate(client, AT, "otp", "10.9.9.9", Some("web".to_owned())).await?;
    // `zero::delete` of vaultrs 0.8.0 deletes a role of the name `zeroaddress` instead.
    role::delete(client, AT, "otp").await?;
    refused(role::list(client, AT).await, 404, "")
}
