//! Where the fields of a secret come from.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use bastide_linux::file;
use serde_json::{Map, Value};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::prompt;

/// Most bytes of a file with a value.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the fields that the words of a command line mean.
pub fn fields(words: &[String]) -> anyhow::Result<Map<String, Value>> {
    let from_input = words
        .iter()
        .filter(|word| *word == "-" || word.ends_with("=-"));
    ensure!(
        from_input.count() <= 1,
        Failure::new(Exit::Usage, "standard input can be only one value")
    );
    let mut fields = Map::new();
    let mut is_seen = false;
    for word in words {
        match (word.as_str(), word.split_once('=')) {
            ("-", _) => fields.extend(object(prompt::rest()?.expose(), "standard input")?),
            (word, None) if word.starts_with('@') => {
                let path = &word[1..];
                fields.extend(object(&read(path)?, path)?);
            }
            (key, None) => {
                let value = prompt::line(&format!("Value of {key}"))?;
                fields.insert(key.to_owned(), value.expose().as_str().into());
            }
            (_, Some(("", _))) => bail!(Failure::new(Exit::Usage, "a field has no name")),
            (_, Some((key, "-"))) => {
                fields.insert(key.to_owned(), prompt::rest()?.expose().as_str().into());
            }
            (_, Some((key, value))) => {
                let value = match value.strip_prefix('@') {
                    Some(path) => read(path)?,
                    None => {
                        is_seen = true;
                        value.to_owned()
                    }
                };
                fields.insert(key.to_owned(), value.into());
            }
        }
    }
    if is_seen {
        output::note(
            "warning: values on the command line are seen by others on this machine and stay in the \
             shell's history; leave the value away (`KEY`) to be asked for it",
        );
    }
    Ok(fields)
}

fn read(path: &str) -> anyhow::Result<String> {
    let bytes = file::read_bounded(Path::new(path), FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{path}`"))?
        .with_context(|| format!("`{path}` is missing"))?;
    String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("`{path}` is no text: give it as base64"))
}

/// Reads an object; what is wrong with it is told without what it holds.
pub fn object(text: &str, from: &str) -> anyhow::Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => bail!("`{from}` is JSON, but no object"),
        Err(error) => bail!(
            "`{from}` is no JSON object: line {}, column {}",
            error.line(),
            error.column()
        ),
    }
}
