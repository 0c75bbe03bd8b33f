//! `bastide policy`: what policies say, and what they mean.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use bastide_linux::file;
use serde_json::{Value, json};

use crate::cli::PolicyVerb;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{login, prompt, reach};

mod check;

/// Most bytes of a policy's file.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Runs a verb. Exits with 3 if a request that is checked would be refused.
pub async fn run(verb: PolicyVerb) -> anyhow::Result<ExitCode> {
    match verb {
        PolicyVerb::Check {
            words,
            user,
            wrap,
            format,
            at,
        } => {
            let wanted = check::Wanted {
                words: &words,
                user: user.as_deref(),
                wrap: wrap.as_deref(),
            };
            return check::run(&wanted, &format, &at).await;
        }
        PolicyVerb::Ls { format, at } => {
            let client = reach::client(&at).await?;
            let listed = client.call("LIST", "/v1/sys/policies/acl", None).await?;
            if format.json {
                output::json(&listed["keys"]);
            } else {
                let keys = listed["keys"].as_array().into_iter().flatten();
                keys.filter_map(Value::as_str).for_each(output::data);
            }
        }
        PolicyVerb::Get { name, format, at } => {
            let client = reach::client(&at).await?;
            let text = get(&client, &name).await?;
            let text = text.with_context(|| format!("there is no policy `{name}`"))?;
            if format.json {
                output::json(&json!({ "name": name, "policy": text }));
            } else {
                output::data(text.trim_end());
            }
        }
        PolicyVerb::Put { name, file, at } => {
            let text = read(&file)?;
            let client = reach::client(&at).await?;
            let path = format!("/v1/sys/policies/acl/{}", login::segment(&name));
            let body = json!({ "policy": text });
            client.call("PUT", &path, Some(body)).await?;
            output::note(format!(
                "policy `{name}` is written; it holds from the next request on"
            ));
        }
        PolicyVerb::Rm { name, at } => {
            let client = reach::client(&at).await?;
            let path = format!("/v1/sys/policies/acl/{}", login::segment(&name));
            client.call("DELETE", &path, None).await?;
            output::note(format!(
                "policy `{name}` is gone: it grants nothing from now on"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a policy's text.
async fn get(client: &bastide_client::Client, name: &str) -> anyhow::Result<Option<String>> {
    let path = format!("/v1/sys/policies/acl/{}", login::segment(name));
    match client.call("GET", &path, None).await {
        Err(error) if error.status() == Some(404) => Ok(None),
        told => Ok(told?["policy"].as_str().map(str::to_owned)),
    }
}

/// Reads a policy's file, or standard input for `-`.
fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return Ok(prompt::rest()?.expose().clone());
    }
    let bytes = file::read_bounded(path, FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    let bytes = bytes
        .ok_or_else(|| Failure::new(Exit::Usage, format!("`{}` is missing", path.display())))?;
    String::from_utf8(bytes).with_context(|| format!("`{}` is no text", path.display()))
}
