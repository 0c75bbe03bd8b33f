//! Key-value secrets in their three kinds.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use vaultrs::api::kv2::requests::{
    SetConfigurationRequest, SetSecretMetadataRequest, SetSecretRequestOptions,
};
use vaultrs::api::sys::requests::EnableEngineRequest;
use vaultrs::client::VaultClient;
use vaultrs::{cubbyhole as own, kv1, kv2, sys};

use crate::refused;

type Words = HashMap<String, String>;

fn word(value: &str) -> HashMap<&str, &str> {
    HashMap::from([("word", value)])
}

pub async fn cubbyhole(client: &VaultClient) -> anyhow::Result<()> {
    own::set(client, "cubbyhole", "a/b", &word("x")).await?;
    let read: Words = own::get(client, "cubbyhole", "a/b").await?;
    ensure!(read["word"] == "x");
    ensure!(own::list(client, "cubbyhole", "a").await?.data.keys == ["b"]);
    own::delete(client, "cubbyhole", "a/b").await?;
    refused(own::get::<Words>(client, "cubbyhole", "a/b").await, 404, "")
}

pub async fn one(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = EnableEngineRequest::builder();
    asked.options(HashMap::from([("version".to_owned(), "1".to_owned())]));
    sys::mount::enable(client, "kv1", "kv", Some(&mut asked)).await?;
    kv1::set(client, "kv1", "deep/down", &word("x")).await?;
    let read: Words = kv1::get(client, "kv1", "deep/down").await?;
    ensure!(read["word"] == "x");
    // The longest life of a mount's leases: 768 hours.
    ensure!(
        kv1::get_raw(client, "kv1", "deep/down")
            .await?
            .lease_duration
            == 2_764_800
    );
    ensure!(kv1::list(client, "kv1", "").await?.data.keys == ["deep/"]);
    kv1::delete(client, "kv1", "deep/down").await?;
    refused(kv1::get::<Words>(client, "kv1", "deep/down").await, 404, "")
}

pub async fn two(client: &VaultClient) -> anyhow::Result<()> {
    const AT: &str = "kv2";
    sys::mount::enable(client, AT, "kv-v2", None).await?;
    let mut asked = SetConfigurationRequest::builder();
    asked
        .max_versions(4_u64)
        .cas_required(true)
        .delete_version_after("3h25m19s");
    kv2::config::set(client, AT, Some(&mut asked)).await?;
    let read = kv2::config::read(client, AT).await?;
    ensure!(read.max_versions == 4 && read.cas_required);
    ensure!(
        read.delete_version_after == "3h25m19s",
        "{}",
        read.delete_version_after
    );
    refused(
        kv2::set(client, AT, "it", &word("x")).await,
        400,
        "check-and-set parameter",
    )?;
    let mut asked = SetConfigurationRequest::builder();
    asked.cas_required(false).delete_version_after("0s");
    kv2::config::set(client, AT, Some(&mut asked)).await?;

    let cas = |cas| SetSecretRequestOptions { cas };
    let made = kv2::set_with_options(client, AT, "it", &word("x"), cas(0)).await?;
    ensure!(made.version == 1 && !made.destroyed && made.deletion_time.is_empty());
    let late = kv2::set_with_options(client, AT, "it", &word("y"), cas(0)).await;
    refused(
        late,
        400,
        "check-and-set parameter did not match the current version",
    )?;
    kv2::set_with_options(client, AT, "it", &word("y"), cas(1)).await?;
    ensure!(kv2::set(client, AT, "it", &word("z")).await?.version == 3);
    ensure!(kv2::read::<Words>(client, AT, "it").await?["word"] == "z");
    ensure!(kv2::read_version::<Words>(client, AT, "it", 2).await?["word"] == "y");

    kv2::delete_latest(client, AT, "it").await?;
    // Not an empty list of errors: what was deleted tells when.
    ensure!(kv2::read::<Words>(client, AT, "it").await.is_err());
    kv2::undelete_versions(client, AT, "it", vec![3]).await?;
    ensure!(kv2::read::<Words>(client, AT, "it").await?["word"] == "z");
    kv2::delete_versions(client, AT, "it", vec![1, 2]).await?;
    ensure!(
        kv2::read_version::<Words>(client, AT, "it", 1)
            .await
            .is_err()
    );
    kv2::destroy_versions(client, AT, "it", vec![2]).await?;
    kv2::undelete_versions(client, AT, "it", vec![1, 2]).await?;
    ensure!(kv2::read_version::<Words>(client, AT, "it", 1).await?["word"] == "x");
    ensure!(
        kv2::read_version::<Words>(client, AT, "it", 2)
            .await
            .is_err()
    );

    let mut asked = SetSecretMetadataRequest::builder();
    asked
        .max_versions(5_u64)
        .custom_metadata(HashMap::from([("whose".to_owned(), "judge".to_owned())]));
    kv2::set_metadata(client, AT, "it", Some(&mut asked)).await?;
    let read = kv2::read_metadata(client, AT, "it").await?;
    ensure!(read.current_version == 3 && read.versions["2"].destroyed);
    ensure!(
        read.custom_metadata
            .is_some_and(|it| it["whose"] == "judge")
    );
    let newest = read.versions.get("3").context("version 3 is not told")?;
    ensure!(!newest.destroyed && newest.deletion_time.is_empty());
    // Of the two limits, of the mount and of the key, the greater one holds.
    for (number, oldest) in [(4, 0), (5, 1), (6, 2)] {
        ensure!(kv2::set(client, AT, "it", &word("x")).await?.version == number);
        let read = kv2::read_metadata(client, AT, "it").await?;
        ensure!(read.oldest_version == oldest && read.versions.len() == number.min(5) as usize);
    }

    kv2::set(client, AT, "folder/it", &word("x")).await?;
    let mut listed = kv2::list(client, AT, "").await?;
    listed.sort();
    ensure!(listed == ["folder/", "it"]);
    kv2::delete_metadata(client, AT, "it").await?;
    refused(kv2::read_metadata(client, AT, "it").await, 404, "")?;
    refused(kv2::list(client, AT, "nothing").await, 404, "")
}
