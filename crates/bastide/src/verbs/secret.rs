//! `bastide secret`: reading and writing what is kept under a path.
//!
//! Values are shown only if they are asked for: one field by its name, or all with `--show`. They
//! come from a prompt, standard input or a file; on the command line they work, with a warning.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use bastide_client::{Client, ClientError};
use serde_json::{Map, Value, json};

use crate::cli::SecretVerb;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{login, reach};

mod edit;
mod input;

/// Where a secret stands: its mount, and the path below it.
pub struct Spot {
    /// With a slash at its end.
    mount: String,
    rest: String,
    /// Whether its engine keeps versions.
    is_versioned: bool,
}

impl Spot {
    /// Asks the server which mount it is; who may not know is believed to mean version 2 at the first
    /// segment.
    pub async fn find(client: &Client, path: &str) -> anyhow::Result<Self> {
        let path = path.trim_matches('/');
        let asked = format!("/v1/sys/internal/ui/mounts/{}", login::path(path));
        let (mount, is_versioned) = match client.call("GET", &asked, None).await {
            Ok(told) => {
                let mount = told["path"].as_str().map(str::to_owned);
                (mount, told["options"]["version"].as_str() == Some("2"))
            }
            Err(ClientError::Refused { .. }) => (None, true),
            Err(error) => return Err(error.into()),
        };
        let mount = mount.unwrap_or_else(|| {
            let first = path.split('/').next().unwrap_or_default();
            format!("{first}/")
        });
        let whole = format!("{path}/");
        let rest = whole.strip_prefix(&mount).unwrap_or_default();
        Ok(Self {
            rest: rest.trim_end_matches('/').to_owned(),
            mount,
            is_versioned,
        })
    }

    fn at(&self, part: &str) -> String {
        let (mount, rest) = (login::path(&self.mount), login::path(&self.rest));
        if self.is_versioned {
            format!("/v1/{mount}{part}/{rest}")
        } else {
            format!("/v1/{mount}{rest}")
        }
    }

    /// Returns the fields of a secret, and its version if there are versions.
    pub async fn read(
        &self,
        client: &Client,
        version: Option<u64>,
    ) -> anyhow::Result<Option<(Map<String, Value>, Option<u64>)>> {
        let mut path = self.at("data");
        if let (true, Some(version)) = (self.is_versioned, version) {
            path = format!("{path}?version={version}");
        }
        let mut found = match client.call("GET", &path, None).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            found => found?,
        };
        let version = found["metadata"]["version"].as_u64();
        let data = if self.is_versioned {
            found["data"].take()
        } else {
            found
        };
        match data {
            Value::Object(fields) => Ok(Some((fields, version))),
            _ => Ok(None),
        }
    }

    /// Writes all fields of a secret. Returns its version if there are versions.
    pub async fn write(
        &self,
        client: &Client,
        fields: Map<String, Value>,
        cas: Option<u64>,
    ) -> anyhow::Result<Option<u64>> {
        let body = if self.is_versioned {
            let mut body = json!({ "data": fields });
            if let Some(cas) = cas {
                body["options"] = json!({ "cas": cas });
            }
            body
        } else {
            Value::Object(fields)
        };
        let written = client.call("POST", &self.at("data"), Some(body)).await?;
        Ok(written["version"].as_u64())
    }
}

/// Says that there is no such secret, or that it was deleted and what is left of it.
async fn absent(client: &Client, spot: &Spot, path: &str, version: Option<u64>) -> anyhow::Error {
    let none = || {
        Failure::new(Exit::Failed, format!("there is no secret `{path}`"))
            .hint("`bastide secret list` shows what is there")
    };
    if !spot.is_versioned {
        return none().into();
    }
    // Who may not know more is told no more.
    let Ok(known) = client.call("GET", &spot.at("metadata"), None).await else {
        return none().into();
    };
    let latest = version.or_else(|| known["current_version"].as_u64());
    let whole = |version: &Value| {
        let is_deleted = version["deletion_time"]
            .as_str()
            .is_some_and(|it| !it.is_empty());
        !is_deleted && version["destroyed"].as_bool() != Some(true)
    };
    let Value::Object(versions) = &known["versions"] else {
        return none().into();
    };
    let left = versions.iter().filter(|(_, version)| whole(version));
    let left: Option<u64> = left.filter_map(|(number, _)| number.parse().ok()).max();
    let latest = latest.map_or_else(String::new, |number| format!("version {number} of "));
    let failure = Failure::new(
        Exit::Failed,
        format!("{latest}`{path}` is not there, or was deleted"),
    );
    match left {
        Some(left) => failure.hint(format!("`bastide secret get {path} --version {left}`")),
        None => failure.hint("no version of it can be read: `bastide secret put` writes the next"),
    }
    .into()
}

/// Runs a verb.
pub async fn run(verb: SecretVerb) -> anyhow::Result<()> {
    match verb {
        SecretVerb::Get {
            path,
            field,
            version,
            show,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let spot = Spot::find(&client, &path).await?;
            let found = spot.read(&client, version).await?;
            let Some((fields, version)) = found else {
                return Err(absent(&client, &spot, &path, version).await);
            };
            match field {
                Some(field) => one(&path, &fields, &field, format.json),
                None if format.json => {
                    output::json(&json!({ "data": fields, "version": version }));
                    Ok(())
                }
                None => {
                    all(&fields, version, show);
                    Ok(())
                }
            }
        }
        SecretVerb::Put {
            path,
            fields,
            patch,
            cas,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let version = put(&client, &path, &fields, patch, cas).await?;
            if format.json {
                output::json(&json!({ "path": path, "version": version }));
            } else {
                output::note(match version {
                    Some(version) => format!("`{path}` is written as version {version}"),
                    None => format!("`{path}` is written"),
                });
            }
            Ok(())
        }
        SecretVerb::List { path, format, at } => {
            let client = reach::client(&at).await?;
            let names = list(&client, path.as_deref()).await?;
            if format.json {
                output::json(&json!(names));
            } else {
                names.iter().for_each(output::data);
            }
            Ok(())
        }
        SecretVerb::Rm { path, all, at } => {
            let client = reach::client(&at).await?;
            let spot = Spot::find(&client, &path).await?;
            let part = if all { "metadata" } else { "data" };
            client.call("DELETE", &spot.at(part), None).await?;
            output::note(if all || !spot.is_versioned {
                format!("`{path}` is deleted for good")
            } else {
                format!(
                    "`{path}` is deleted; `--version` reads older ones until they go with `--all`"
                )
            });
            Ok(())
        }
        SecretVerb::Edit { path, at } => {
            let client = reach::client(&at).await?;
            let spot = Spot::find(&client, &path).await?;
            let found = spot.read(&client, None).await?;
            let (before, version) = found.unwrap_or_default();
            let Some(after) = edit::edited(&before)? else {
                output::note("nothing was changed");
                return Ok(());
            };
            let cas = spot.is_versioned.then_some(version.unwrap_or(0));
            spot.write(&client, after, cas)
                .await
                .context("it was not written: somebody may have changed it meanwhile")?;
            output::note(format!("`{path}` is written"));
            Ok(())
        }
    }
}

/// Writes a secret, all of it or with `patch` the fields that are given; returns its version, if its
/// mount has versions.
async fn put(
    client: &Client,
    path: &str,
    fields: &[String],
    patch: bool,
    mut cas: Option<u64>,
) -> anyhow::Result<Option<u64>> {
    let spot = Spot::find(client, path).await?;
    let given = input::fields(fields)?;
    let mut whole = Map::new();
    if patch {
        let Some((before, version)) = spot.read(client, None).await? else {
            return Err(absent(client, &spot, path, None).await);
        };
        whole = before;
        cas = cas.or(version);
    }
    whole.extend(given);
    spot.write(client, whole, cas).await
}

/// Returns the names below a path, folders with a slash; without a path the mounts of secrets.
pub async fn list(client: &Client, path: Option<&str>) -> anyhow::Result<Vec<String>> {
    let path = path.unwrap_or_default().trim_matches('/');
    if path.is_empty() {
        let mounts = client
            .call("GET", "/v1/sys/internal/ui/mounts", None)
            .await?;
        let Value::Object(mounts) = &mounts["secret"] else {
            bail!("the server tells of no mounts");
        };
        let kept = |(_, about): &(&String, &Value)| {
            matches!(about["type"].as_str(), Some("kv" | "generic" | "cubbyhole"))
        };
        return Ok(mounts
            .iter()
            .filter(kept)
            .map(|(path, _)| path.clone())
            .collect());
    }
    let spot = Spot::find(client, path).await?;
    let mut at = spot.at("metadata");
    if !at.ends_with('/') {
        at.push('/');
    }
    let listed = match client.call("LIST", &at, None).await {
        Err(error) if error.status() == Some(404) => return Ok(Vec::new()),
        listed => listed?,
    };
    let keys = listed["keys"].as_array().into_iter().flatten();
    Ok(keys
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect())
}

/// Returns a value as text: a text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn one(path: &str, fields: &Map<String, Value>, field: &str, json: bool) -> anyhow::Result<()> {
    let value = fields.get(field).ok_or_else(|| {
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        Failure::new(Exit::Failed, format!("`{path}` has no field `{field}`"))
            .hint(format!("it has {}", names.join(", ")))
    })?;
    if json {
        output::json(value);
    } else {
        output::data(text(value));
    }
    Ok(())
}

fn all(fields: &Map<String, Value>, version: Option<u64>, show: bool) {
    let mut rows = vec![vec!["FIELD".to_owned(), "VALUE".to_owned()]];
    for (name, value) in fields {
        let value = text(value);
        let shown = if show {
            value
        } else {
            format!("({} letters)", value.chars().count())
        };
        rows.push(vec![name.clone(), shown]);
    }
    output::data(output::table(&rows).trim_end());
    if let Some(version) = version {
        output::note(format!("version {version}"));
    }
    if !show && std::io::stderr().is_terminal() {
        output::note("`--show` shows the values; a field's name after the path prints its value");
    }
}
