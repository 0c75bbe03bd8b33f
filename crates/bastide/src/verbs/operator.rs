//! Talking to the control plane as an operator: token and CA of this host, or of the environment.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use bastide_api::{Secret, UnixTime, ports};
use bastide_client::{Client, Trust};
use bastide_linux::file;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::paths;

/// Most bytes of a token or a CA file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Returns a client with the operator's token, for the control plane of this host.
pub fn client() -> anyhow::Result<Client> {
    let ca = read(paths::CA)?;
    let here = SocketAddr::from(([127, 0, 0, 1], ports::API));
    Ok(Client::new(
        vec![here],
        Trust::Ca(ca),
        None,
        Some(token()?),
    )?)
}

/// Returns the operator's token.
pub fn token() -> anyhow::Result<Secret<String>> {
    let token = Secret::new(read(paths::OPERATOR_TOKEN)?);
    Ok(Secret::new(token.expose().trim().to_owned()))
}

/// Returns what a list of the API tells of each of its keys; empty if there are none.
pub async fn list(path: &str) -> anyhow::Result<Vec<Value>> {
    let listed = match client()?.call("LIST", path, None).await {
        Err(error) if error.status() == Some(404) => return Ok(Vec::new()),
        listed => listed?,
    };
    let keys = listed["keys"].as_array().into_iter().flatten();
    let keys = keys.filter_map(Value::as_str);
    Ok(keys
        .map(|key| {
            let mut told = listed["key_info"][key].clone();
            if let Value::Object(fields) = &mut told {
                fields.entry("id").or_insert_with(|| key.into());
            }
            told
        })
        .collect())
}

/// Returns a text as it is shown, `-` if there is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// Returns texts as they are shown, `-` if there are none.
pub fn words(value: &Value) -> String {
    let words: Vec<_> = value.as_array().into_iter().flatten().map(text).collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}

/// Returns a time as it is shown, `-` if there is none.
pub fn time(value: &Value) -> String {
    let time = value.as_u64().map(UnixTime::from_millis);
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

fn read(path: &str) -> anyhow::Result<String> {
    let bytes = file::read_bounded(Path::new(path), FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{path}`"))?
        .ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("this host holds no operator's token (`{path}`)"),
            )
            .hint("run this on the cluster's first controller")
        })?;
    String::from_utf8(bytes).with_context(|| format!("`{path}` is damaged"))
}
