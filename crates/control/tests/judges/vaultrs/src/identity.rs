//! Whom the server knows by name, whatever method they log in by.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use vaultrs::api::identity::entity::requests::{CreateEntityRequest, UpdateEntityByIdRequest};
use vaultrs::api::identity::group::requests::{CreateGroupByNameRequest, UpdateGroupByIdRequest};
use vaultrs::client::VaultClient;
use vaultrs::identity::{entity, entity_alias, group, group_alias};
use vaultrs::sys;

use crate::refused;

async fn accessor(client: &VaultClient) -> anyhow::Result<String> {
    let mut methods = sys::auth::list(client).await?;
    let userpass = methods
        .remove("userpass/")
        .context("`userpass/` is not listed")?;
    Ok(userpass.accessor)
}

pub async fn entities(client: &VaultClient) -> anyhow::Result<()> {
    let mut asked = CreateEntityRequest::builder();
    asked
        .name("grace")
        .policies(vec!["mounts".to_owned()])
        .metadata(HashMap::from([("team".to_owned(), "ops".to_owned())]));
    let made = entity::create(client, Some(&mut asked)).await?;
    let accessor = accessor(client).await?;
    let alias = entity_alias::create(client, "grace", &made.id, &accessor, None).await?;
    ensure!(alias.canonical_id == made.id);
    let read = entity_alias::read_by_id(client, &alias.id).await?;
    ensure!(read.mount_path == "auth/userpass/" && read.mount_type == "userpass");
    let listed = entity_alias::list_by_id(client).await?;
    ensure!(listed.key_info[&alias.id].name == "grace");

    let read = entity::read_by_name(client, "grace").await?;
    ensure!(read.id == made.id && read.aliases.len() == 1 && !read.disabled);
    ensure!(read.metadata.is_some_and(|it| it["team"] == "ops"));
    let mut asked = UpdateEntityByIdRequest::builder();
    entity::update_by_id(client, &made.id, Some(asked.disabled(true))).await?;
    ensure!(entity::read_by_id(client, &made.id).await?.disabled);
    ensure!(
        entity::list_by_name(client)
            .await?
            .keys
            .contains(&"grace".to_owned())
    );
    ensure!(entity::list_by_id(client).await?.keys.contains(&made.id));

    entity::create_or_update_by_name(client, "hopper", None).await?;
    let other = entity::read_by_name(client, "hopper").await?;
    entity::merge(client, vec![other.id.clone()], made.id.clone(), None).await?;
    refused(entity::read_by_id(client, &other.id).await, 404, "")?;
    let read = entity::read_by_id(client, &made.id).await?;
    ensure!(
        read.merged_entity_ids == Some(vec![other.id]),
        "{:?}",
        read.merged_entity_ids
    );
    entity_alias::delete_by_id(client, &alias.id).await?;
    entity::delete_by_name(client, "grace").await?;
    refused(entity::read_by_name(client, "grace").await, 404, "")
}

pub async fn groups(client: &VaultClient) -> anyhow::Result<()> {
    let member = entity::create(client, None).await?.id;
    let mut asked = CreateGroupByNameRequest::builder();
    asked
        .policies(vec!["mounts".to_owned()])
        .member_entity_ids(vec![member.clone()]);
    group::create_or_update_by_name(client, "ops", Some(&mut asked)).await?;
    let read = group::read_by_name(client, "ops").await?;
    ensure!(read.group_type == "internal" && read.member_entity_ids == Some(vec![member.clone()]));
    ensure!(entity::read_by_id(client, &member).await?.group_ids == [read.id.as_str()]);
    let mut asked = UpdateGroupByIdRequest::builder();
    asked.metadata(HashMap::from([("floor".to_owned(), "3".to_owned())]));
    group::update_by_id(client, &read.id, Some(&mut asked)).await?;
    let read = group::read_by_id(client, &read.id).await?;
    ensure!(read.metadata.is_some_and(|it| it["floor"] == "3"));
    ensure!(group::list_by_name(client).await?.keys == ["ops"]);
    group::delete_by_name(client, "ops").await?;

    let mut asked = CreateGroupByNameRequest::builder();
    let asked = asked.group_type("external");
    group::create_or_update_by_name(client, "theirs", Some(asked)).await?;
    let theirs = group::read_by_name(client, "theirs").await?;
    let accessor = accessor(client).await?;
    let mut asked =
        vaultrs::api::identity::group_alias::requests::CreateGroupAliasRequest::builder();
    asked.canonical_id(theirs.id.as_str());
    let alias = group_alias::create(client, "their-name", &accessor, Some(&mut asked)).await?;
    let read = group_alias::read_by_id(client, &alias.id).await?;
    ensure!(read.canonical_id == theirs.id && read.name == "their-name");
    ensure!(group_alias::list_by_id(client).await?.keys == [alias.id.as_str()]);
    group_alias::delete_by_id(client, &alias.id).await?;
    group::delete_by_id(client, &theirs.id).await?;
    refused(group::read_by_id(client, &theirs.id).await, 404, "")
}
