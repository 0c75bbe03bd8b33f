//! Whether a request would be allowed, decided by what decides it on the server.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bastide_control::core::path::ApiPath;
use bastide_control::core::policy::acl::{Acl, Question};
use bastide_control::core::policy::{Capabilities, Policy};
use bastide_control::core::request::Operation;
use serde_json::{Map, Value, json};

use crate::cli::{At, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{login, reach};

/// A policy, with where its text came from.
struct Source {
    name: String,
    text: String,
    policy: Policy,
}

impl Source {
    fn new(name: String, text: String) -> anyhow::Result<Self> {
        let parsed = Policy::parse(&text).with_context(|| format!("`{name}` is no policy"))?;
        // What depends on who asks is left out: who that is is not known here.
        let policy = parsed.fill(|_| None);
        Ok(Self { name, text, policy })
    }

    /// Returns the line that a pattern stands in, counted from 1; `None` if this policy has none.
    fn line(&self, pattern: &str) -> Option<usize> {
        self.policy.rules.iter().find(|(rule, _)| rule == pattern)?;
        let slashed = format!("\"/{pattern}\"");
        let quoted = format!("\"{pattern}\"");
        let holds = |line: &str| line.contains(&quoted) || line.contains(&slashed);
        let is_block = |line: &str| holds(line) && line.contains("path");
        let mut lines = self.text.lines();
        let found = lines.position(is_block);
        let found = found.or_else(|| self.text.lines().position(holds));
        found.map(|at| at + 1)
    }
}

/// What was found out.
struct Verdict {
    allowed: bool,
    /// The pattern that decides, and what it gives.
    deciding: Option<(String, Capabilities)>,
}

pub(super) async fn run(
    words: &[String],
    user: Option<&str>,
    format: &Format,
    at: &At,
) -> anyhow::Result<ExitCode> {
    let (file, method, path) = match words {
        [file, method, path] => (Some(file.as_str()), method, path),
        [method, path] => (None, method, path),
        _ => bail!(Failure::new(Exit::Usage, "expected `[FILE] METHOD PATH`")),
    };
    if file.is_none() && user.is_none() {
        return Err(
            Failure::new(Exit::Usage, "neither a file nor a user is given")
                .hint("`bastide policy check app.hcl GET secret/data/app`, or with `--as ada`")
                .into(),
        );
    }
    let operations = operations(method)?;
    let trimmed = path.trim_start_matches('/');
    let trimmed = trimmed.strip_prefix("v1/").unwrap_or(trimmed);
    let api_path = ApiPath::parse(trimmed)
        .map_err(|error| Failure::new(Exit::Usage, format!("`{path}` is no path: {error}")))?;
    // A list is asked for at a folder.
    let api_path = if operations.contains(&Operation::List) {
        api_path.into_folder()
    } else {
        api_path
    };
    let sources = sources(file, user, at).await?;
    if sources.iter().any(|source| source.name == "root") {
        told(
            format,
            &json!({ "allowed": true, "policy": "root" }),
            || format!("allowed: {method} {trimmed}\n  by policy `root`, which allows everything"),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let acl = Acl::new(sources.iter().map(|source| &source.policy));
    let verdicts: Vec<_> = operations
        .iter()
        .map(|operation| (*operation, judge(&acl, *operation, &api_path)))
        .collect();
    let allowed = verdicts.iter().any(|(_, verdict)| verdict.allowed);
    let deciding = verdicts
        .iter()
        .find_map(|(_, verdict)| verdict.deciding.clone());
    let places: Vec<(String, usize)> = deciding
        .iter()
        .flat_map(|(pattern, _)| {
            let places = sources
                .iter()
                .filter_map(|source| Some((source.name.clone(), source.line(pattern)?)));
            places.collect::<Vec<_>>()
        })
        .collect();
    let wanted = |allowed: bool| -> Vec<&str> {
        let of = verdicts.iter().filter(|(_, it)| it.allowed == allowed);
        of.map(|(operation, _)| operation.as_str()).collect()
    };
    let shown = json!({
        "allowed": allowed,
        "method": method,
        "path": trimmed,
        "pattern": deciding.as_ref().map(|(pattern, _)| pattern),
        "capabilities": deciding.as_ref().map(|(_, gives)| gives.names()),
        "lines": places.iter().map(|(name, line)| json!({ "policy": name, "line": line }))
            .collect::<Vec<_>>(),
    });
    told(format, &shown, || {
        let mut text = format!(
            "{}: {method} {trimmed}",
            if allowed { "allowed" } else { "denied" }
        );
        match &deciding {
            None => text.push_str("\n  no line matches, and what is not allowed is denied"),
            Some((pattern, gives)) => {
                for (name, line) in &places {
                    let _ = write!(text, "\n  {name}:{line}  path \"{pattern}\"");
                }
                let _ = write!(text, "\n  which gives {}", gives.names().join(", "));
                if !allowed {
                    let _ = write!(text, "; needed is {}", wanted(false).join(" or "));
                } else if !wanted(false).is_empty() {
                    let _ = write!(
                        text,
                        "; only to {}, not to {}",
                        wanted(true).join(" or "),
                        wanted(false).join(" or ")
                    );
                }
            }
        }
        text
    });
    Ok(if allowed {
        ExitCode::SUCCESS
    } else {
        Exit::Refused.into()
    })
}

fn told(format: &Format, json: &Value, text: impl FnOnce() -> String) {
    if format.json {
        output::json(json);
    } else {
        output::data(text());
    }
}

fn judge(acl: &Acl, operation: Operation, path: &ApiPath) -> Verdict {
    let question = Question {
        operation,
        path,
        folded: None,
        data: &Map::new(),
        wrap: None,
        sudo: false,
    };
    let deciding = acl.deciding(operation, path);
    Verdict {
        allowed: acl.authorise(&question).is_some(),
        deciding,
    }
}

/// Returns what a method asks for: a write creates or updates, as it finds what is there.
fn operations(method: &str) -> anyhow::Result<Vec<Operation>> {
    Ok(match method.to_ascii_uppercase().as_str() {
        "GET" | "READ" => vec![Operation::Read],
        "POST" | "PUT" | "WRITE" => vec![Operation::Update, Operation::Create],
        "UPDATE" => vec![Operation::Update],
        "CREATE" => vec![Operation::Create],
        "PATCH" => vec![Operation::Patch],
        "DELETE" => vec![Operation::Delete],
        "LIST" | "SCAN" => vec![Operation::List],
        _ => bail!(
            Failure::new(Exit::Usage, format!("`{method}` is no method"))
                .hint("GET, LIST, POST, PUT, PATCH or DELETE")
        ),
    })
}

/// Gathers the policies: of the file, and of the user as the server knows him.
async fn sources(file: Option<&str>, user: Option<&str>, at: &At) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut own = None;
    if let Some(file) = file {
        let text = super::read(Path::new(file))?;
        own = Path::new(file)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .map(str::to_owned);
        sources.push(Source::new(file.to_owned(), text)?);
    }
    let Some(user) = user else {
        return Ok(sources);
    };
    let client = reach::client(at).await?;
    for name in policies_of(&client, user).await? {
        if Some(&name) == own.as_ref() {
            continue;
        }
        if name == "root" {
            sources.push(Source::new(name, String::new())?);
            continue;
        }
        // One that is not there grants nothing.
        if let Some(text) = super::get(&client, &name).await? {
            sources.push(Source::new(name, text)?);
        }
    }
    Ok(sources)
}

/// Returns the names of a user's policies.
async fn policies_of(client: &bastide_client::Client, user: &str) -> anyhow::Result<Vec<String>> {
    let (mount, name) = user.rsplit_once('/').unwrap_or(("userpass", user));
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
    let mut names = Vec::new();
    for field in ["token_policies", "policies"] {
        let texts = known[field].as_array().into_iter().flatten();
        names.extend(texts.filter_map(Value::as_str).map(str::to_owned));
    }
    if !known["token_no_default_policy"].as_bool().unwrap_or(false) {
        names.push("default".to_owned());
    }
    names.sort();
    names.dedup();
    Ok(names)
}
