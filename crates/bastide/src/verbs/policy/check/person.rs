//! A user as the server knows him: his policies, and who he is.

use std::collections::BTreeMap;

use anyhow::bail;
use bastide_client::Client;
use bastide_control::core::identity::{AliasFacts, EntityFacts, GroupFacts};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::login;

/// A user.
pub(super) struct Person {
    /// The names of his policies, by the auth method and by who he is.
    pub(super) policies: Vec<String>,
    /// Who he is; `None` before his first login.
    pub(super) entity: Option<EntityFacts>,
}

impl Person {
    /// Asks for a user of userpass, or for `MOUNT/NAME` of another mount.
    pub(super) async fn ask(client: &Client, user: &str) -> anyhow::Result<Self> {
        let (mount, name) = user.rsplit_once('/').unwrap_or(("userpass", user));
        let mut policies = policies(client, mount, name).await?;
        let entity = match entity(client, mount, name).await {
            Ok(entity) => entity,
            Err(error) if status(&error) == Some(403) => {
                output::note(format!(
                    "this token may not read who `{user}` is: policies of his entity and groups are \
                     left out"
                ));
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(entity) = &entity {
            if entity.disabled {
                bail!(Failure::new(
                    Exit::Refused,
                    format!("the entity of `{user}` is disabled: nothing is allowed")
                ));
            }
            // Nobody is root by who he is.
            let more = entity.policies.iter().filter(|name| *name != "root");
            policies.extend(more.cloned());
        }
        policies.sort();
        policies.dedup();
        Ok(Self { policies, entity })
    }
}

fn status(error: &anyhow::Error) -> Option<u16> {
    let error = error.downcast_ref::<bastide_client::ClientError>()?;
    error.status()
}

/// Returns the names of the policies that a login gives.
async fn policies(client: &Client, mount: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let path = format!(
        "/v1/auth/{}/users/{}",
        login::path(mount),
        login::segment(name)
    );
    let known = match client.call("GET", &path, None).await {
        Err(error) if error.status() == Some(404) => {
            return Err(
                Failure::new(Exit::Usage, format!("`{mount}` has no user `{name}`"))
                    .hint("`--as MOUNT/NAME` names a user of another mount")
                    .into(),
            );
        }
        known => known?,
    };
    let mut names = texts(&known["token_policies"]);
    names.extend(texts(&known["policies"]));
    if !known["token_no_default_policy"].as_bool().unwrap_or(false) {
        names.push("default".to_owned());
    }
    Ok(names)
}

/// Returns who a user is, with all his groups.
async fn entity(client: &Client, mount: &str, name: &str) -> anyhow::Result<Option<EntityFacts>> {
    let methods = client.call("GET", "/v1/sys/auth", None).await?;
    let mount = format!("{}/", mount.trim_matches('/'));
    let Some(accessor) = methods[mount.as_str()]["accessor"].as_str() else {
        return Ok(None);
    };
    // Methods know names in small letters.
    let asked = json!({ "alias_name": name.to_lowercase(), "alias_mount_accessor": accessor });
    let path = "/v1/identity/lookup/entity";
    let known = client.call("POST", path, Some(asked)).await?;
    let Some(id) = known["id"].as_str() else {
        return Ok(None);
    };
    let mut policies = texts(&known["policies"]);
    let mut groups = Vec::new();
    for id in texts(&known["group_ids"]) {
        let path = format!("/v1/identity/group/id/{}", login::segment(&id));
        let group = client.call("GET", &path, None).await?;
        policies.extend(texts(&group["policies"]));
        groups.push(GroupFacts {
            id,
            name: text(&group["name"]),
            metadata: pairs(&group["metadata"]),
        });
    }
    let aliases = known["aliases"].as_array().into_iter().flatten();
    let aliases = aliases.map(|alias| {
        let facts = AliasFacts {
            id: text(&alias["id"]),
            name: text(&alias["name"]),
            metadata: pairs(&alias["metadata"]),
            custom_metadata: pairs(&alias["custom_metadata"]),
        };
        (text(&alias["mount_accessor"]), facts)
    });
    Ok(Some(EntityFacts {
        id: id.to_owned(),
        name: text(&known["name"]),
        metadata: pairs(&known["metadata"]),
        policies,
        disabled: known["disabled"].as_bool().unwrap_or(false),
        aliases: aliases.collect(),
        groups,
    }))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}
