//! The load: `wrk` with a script of ours.

use std::fs;
use std::process::Command;

use anyhow::Context;

use super::operations::Operation;
use super::server::Server;
use crate::workspace::output;

/// What `wrk` measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Answers a second.
    pub per_second: f64,
    /// Answers in all.
    pub requests: f64,
    /// Half of them took no longer; with its unit.
    pub p50: String,
    /// 99 of 100 took no longer.
    pub p99: String,
    /// Answers that were no success.
    pub refused: u64,
}

/// Asks one operation for some seconds.
pub fn run(
    server: &Server,
    operation: &Operation,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<Load> {
    let path = server.folder().join("load.lua");
    fs::write(&path, script(operation, &server.token)?)
        .with_context(|| format!("could not write `{}`", path.display()))?;
    let mut wrk = Command::new("wrk");
    wrk.arg("-t1").arg(format!("-c{clients}"));
    wrk.arg(format!("-d{seconds}s")).arg("--latency");
    wrk.arg("-s").arg(&path).arg(&server.address);
    parse(&output(&mut wrk)?)
}

/// Returns the script. Its texts are quoted as JSON, which Lua reads alike for what is sent here.
fn script(operation: &Operation, token: &str) -> anyhow::Result<String> {
    let quoted = |text: &str| serde_json::to_string(text).context("a text");
    let (method, token) = (quoted(operation.method)?, quoted(token)?);
    let (path, body) = (
        quoted(&format!("/v1/{}", operation.path))?,
        quoted(&operation.text())?,
    );
    let numbers = if operation.path.ends_with('-') {
        "path .. run .. '-' .. n"
    } else {
        "path"
    };
    Ok(format!(
        "local method, path, body = {method}, {path}, {body}\n\
         local headers = {{ ['X-Vault-Token'] = {token}, ['Content-Type'] = 'application/json' }}\n\
         local n, run = 0, tostring(os.time())\n\
         if body == '' then body = nil end\n\
         function request()\n\
         \x20 n = n + 1\n\
         \x20 return wrk.format(method, {numbers}, headers, body)\n\
         end\n"
    ))
}

fn parse(text: &str) -> anyhow::Result<Load> {
    let after = |what: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(what))?;
        line.trim_start()[what.len()..]
            .split_whitespace()
            .next()
            .map(str::to_owned)
    };
    let missing = || format!("`wrk` said something else:\n{text}");
    let requests = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    let refused = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("Non-2xx or 3xx responses:"))
        .and_then(|count| count.trim().parse().ok());
    Ok(Load {
        per_second: after("Requests/sec:")
            .and_then(|number| number.parse().ok())
            .with_context(missing)?,
        requests: requests.with_context(missing)?,
        p50: after("50%").with_context(missing)?,
        p99: after("99%").with_context(missing)?,
        refused: refused.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests;
