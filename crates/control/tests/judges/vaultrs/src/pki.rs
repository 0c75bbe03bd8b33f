//! Certificates, and leases over the API of any engine.

use anyhow::{Context as _, ensure};
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};
use vaultrs::api;
use vaultrs::api::pki::requests::{
    GenerateCertificateRequest, GenerateIntermediateCSRRequest, GenerateIntermediateRequest,
    GenerateRootRequest, SetCRLConfigRequest, SetRoleRequest, SetURLsRequest,
    SignIntermediateRequest,
};
use vaultrs::client::VaultClient;
use vaultrs::pki::cert::{self, ca, crl, urls};
use vaultrs::pki::{issuer, role};
use vaultrs::sys;

use crate::refused;

const AT: &str = "pki";

pub async fn judge(client: &VaultClient) -> anyhow::Result<()> {
    sys::mount::enable(client, AT, "pki", None).await?;
    let mut asked = GenerateRootRequest::builder();
    asked
        .common_name("judge root")
        .key_type("ec")
        .key_bits(256_u64)
        .ttl("8760h");
    let root = ca::generate(client, AT, "internal", Some(&mut asked)).await?;
    let root = root.context("no root was told")?;
    ensure!(root.certificate.contains("BEGIN CERTIFICATE") && root.issuing_ca == root.certificate);
    let mut asked = SetURLsRequest::builder();
    asked.issuing_certificates(vec!["http://127.0.0.1/ca".to_owned()]);
    urls::set(client, AT, Some(&mut asked)).await?;
    ensure!(urls::read(client, AT).await?.issuing_certificates == ["http://127.0.0.1/ca"]);

    let mut asked = SetRoleRequest::builder();
    asked
        .allowed_domains(vec!["test.example".to_owned()])
        .allow_subdomains(true)
        .key_type("ec")
        .key_bits(256_u64)
        .max_ttl("72h")
        .generate_lease(true);
    role::set(client, AT, "web", Some(&mut asked)).await?;
    let read = role::read(client, AT, "web").await?;
    ensure!(read.allowed_domains == ["test.example"] && read.max_ttl == 259_200);
    ensure!(role::list(client, AT).await?.keys == ["web"]);
    let mut asked = GenerateCertificateRequest::builder();
    asked.common_name("a.test.example").ttl("1h");
    let made = cert::generate(client, AT, "web", Some(&mut asked)).await?;
    ensure!(made.private_key_type == "ec" && made.issuing_ca == root.certificate);
    let mut asked = GenerateCertificateRequest::builder();
    let other = cert::generate(client, AT, "web", Some(asked.common_name("other.example"))).await;
    refused(other, 400, "not allowed by this role")?;

    ensure!(cert::list(client, AT).await?.contains(&made.serial_number));
    let read = cert::read(client, AT, &made.serial_number).await?;
    ensure!(read.revocation_time == 0 && read.certificate.trim() == made.certificate.trim());
    cert::revoke(client, AT, &made.serial_number).await?;
    ensure!(
        0 < cert::read(client, AT, &made.serial_number)
            .await?
            .revocation_time
    );
    ensure!(crl::rotate(client, AT).await?.success);
    // Each certificate reads alike, and lists do so too.
    let list = cert::read(client, AT, "crl").await?.certificate;
    ensure!(list.contains("BEGIN X509 CRL"), "{list}");
    let mut asked = SetCRLConfigRequest::builder();
    crl::set_config(client, AT, Some(asked.expiry("24h"))).await?;
    ensure!(crl::read_config(client, AT).await?.expiry == "24h");
    cert::tidy(client, AT).await?;

    let listed = issuer::list(client, AT).await?;
    ensure!(
        listed.keys == [root.issuer_id.as_str()] && listed.key_info[&root.issuer_id].is_default
    );
    let read = issuer::read(client, AT, Some("default")).await?;
    ensure!(read.issuer_id == root.issuer_id && read.ca_chain.len() == 1);
    Ok(())
}

pub async fn intermediate(client: &VaultClient) -> anyhow::Result<()> {
    sys::mount::enable(client, "services", "pki", None).await?;
    let mut options = GenerateIntermediateRequest::builder();
    options.key_type("ec").key_bits(256_u64);
    let name = "judge services";
    let asked = ca::int::generate(client, "services", "internal", name, Some(&mut options)).await?;
    ensure!(asked.private_key.is_none());
    let mut options = SignIntermediateRequest::builder();
    options.ttl("4380h");
    let signed = ca::sign_intermediate(client, AT, &asked.csr, name, Some(&mut options)).await?;
    let chain = format!("{}\n{}", signed.certificate, signed.issuing_ca);
    let set = ca::int::set_signed(client, "services", &chain).await?;
    ensure!(set.imported_issuers.is_some_and(|it| it.len() == 2));
    let mut asked = SetRoleRequest::builder();
    asked.allow_any_name(true).key_type("ec").key_bits(256_u64);
    role::set(client, "services", "any", Some(&mut asked)).await?;
    let mut asked = GenerateCertificateRequest::builder();
    let made = cert::generate(client, "services", "any", Some(asked.common_name("a.b"))).await?;
    ensure!(made.issuing_ca.trim() == signed.certificate.trim());
    ensure!(made.ca_chain.is_some_and(|it| it.len() == 2));

    // A request that was made elsewhere.
    let mut options = GenerateIntermediateCSRRequest::builder();
    options.key_type("ec").key_bits(256_u64);
    let theirs = issuer::int::generate(client, "services", "internal", "c.d", Some(&mut options));
    let theirs = theirs.await?;
    let made = ca::sign(client, "services", "any", &theirs.csr, "c.d", None).await?;
    ensure!(0 < made.expiration);
    let self_issued = issuer::read(client, AT, None).await?.certificate;
    let crossed = issuer::import(client, "services", &self_issued).await?;
    ensure!(crossed.existing_issuers.is_some_and(|it| it.len() == 1));
    Ok(())
}

/// vaultrs has no calls for leases, but its own way to add them.
#[derive(Debug, Endpoint, Serialize)]
#[endpoint(
    path = "sys/leases/lookup/{self.prefix}",
    method = "LIST",
    response = "Listed"
)]
struct ListLeases {
    #[endpoint(skip)]
    #[serde(skip)]
    prefix: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    keys: Vec<String>,
}

#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "sys/leases/lookup", method = "PUT", response = "Lease")]
struct LookUp {
    lease_id: String,
}

#[derive(Debug, Deserialize)]
struct Lease {
    id: String,
    issue_time: String,
    expire_time: String,
    last_renewal: Option<String>,
    renewable: bool,
    ttl: i64,
}

#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "sys/leases/renew", method = "PUT")]
struct Renew {
    lease_id: String,
    increment: u64,
}

#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "sys/leases/revoke", method = "PUT")]
struct Revoke {
    lease_id: String,
}

pub async fn leases(client: &VaultClient) -> anyhow::Result<()> {
    let prefix = format!("{AT}/issue/web");
    let list = || {
        api::exec_with_result(
            client,
            ListLeases {
                prefix: prefix.clone(),
            },
        )
    };
    let before = list().await?.keys;
    let mut asked = GenerateCertificateRequest::builder();
    asked.common_name("leased.test.example").ttl("1h");
    let made = cert::generate(client, AT, "web", Some(&mut asked)).await?;
    let listed = list().await?.keys;
    let new: Vec<_> = listed.iter().filter(|it| !before.contains(it)).collect();
    ensure!(new.len() == 1, "{before:?}, then {listed:?}");
    let lease_id = format!("{prefix}/{}", new[0]);
    let look_up = || {
        api::exec_with_result(
            client,
            LookUp {
                lease_id: lease_id.clone(),
            },
        )
    };
    let held = look_up().await?;
    ensure!(held.id == lease_id && !held.renewable && held.last_renewal.is_none());
    ensure!(3500 < held.ttl && held.ttl <= 3600 && held.issue_time < held.expire_time);
    let renew = Renew {
        lease_id: lease_id.clone(),
        increment: 60,
    };
    refused(
        api::exec_with_empty(client, renew).await,
        400,
        "lease is not renewable",
    )?;
    ensure!(
        cert::read(client, AT, &made.serial_number)
            .await?
            .revocation_time
            == 0
    );
    api::exec_with_empty(
        client,
        Revoke {
            lease_id: lease_id.clone(),
        },
    )
    .await?;
    refused(look_up().await, 400, "invalid lease")?;
    ensure!(list().await?.keys == before);
    ensure!(
        0 < cert::read(client, AT, &made.serial_number)
            .await?
            .revocation_time
    );
    Ok(())
}
