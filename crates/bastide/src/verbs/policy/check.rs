//! Whether a request would be allowed, decided by what decides it on the server.

mod person;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bastide_control::core::identity::EntityFacts;
use bastide_control::core::path::ApiPath;
use bastide_control::core::policy::acl::{Acl, Question};
use bastide_control::core::policy::{Capabilities, Policy};
use bastide_control::core::request::Operation;
use serde_json::{Map, Value, json};

use crate::cli::{At, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::reach;
use person::Person;

/// A policy, with where its text came from.
struct Source {
    name: String,
    text: String,
    /// As it is for whoever asks.
    policy: Policy,
    /// Its patterns: as they are for whoever asks, and as they are written.
    written: Vec<(String, String)>,
}

impl Source {
    /// Reads a policy for somebody. Without anybody, or where a template stands for nothing, path
    /// blocks with templates are left out, as the server does it.
    fn new(name: String, text: String, entity: Option<&EntityFacts>) -> anyhow::Result<Self> {
        let value = |name: &str| entity.and_then(|entity| entity.value(name));
        let parsed = Policy::parse(&text).with_context(|| format!("`{name}` is no policy"))?;
        let each = parsed.rules.iter().flat_map(|(pattern, rule)| {
            let one = Policy {
                rules: vec![(pattern.clone(), rule.clone())],
            };
            let filled = one.fill(value).rules;
            filled
                .into_iter()
                .map(|(filled, _)| (filled, pattern.clone()))
        });
        let written = each.collect();
        let policy = parsed.fill(value);
        Ok(Self {
            name,
            text,
            policy,
            written,
        })
    }

    /// Returns the line that a pattern stands in, counted from 1; `None` if this policy has none.
    fn line(&self, pattern: &str) -> Option<usize> {
        let (_, written) = self.written.iter().find(|(filled, _)| filled == pattern)?;
        let slashed = format!("\"/{written}\"");
        let quoted = format!("\"{written}\"");
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
    let (words, fields) = fields(words);
    let (file, method, path) = match words {
        [file, method, path] => (Some(file.as_str()), method, path),
        [method, path] => (None, method, path),
        _ => bail!(Failure::new(
            Exit::Usage,
            "expected `[FILE] METHOD PATH [FIELD=VALUE...]`"
        )),
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
        .map(|operation| (*operation, judge(&acl, *operation, &api_path, &fields)))
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
                text.push_str(&because(*gives, &wanted(true), &wanted(false)));
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

/// Says why what is given allows the one and not the other.
fn because(gives: Capabilities, allowed: &[&str], denied: &[&str]) -> String {
    let mut text = format!("\n  which gives {}", gives.names().join(", "));
    let is_given = denied.iter().any(|it| gives.names().contains(it));
    if allowed.is_empty() && is_given {
        text.push_str(", but not with these fields, or not without others: see its parameters");
    } else if allowed.is_empty() {
        let _ = write!(text, "; needed is {}", denied.join(" or "));
    } else if !denied.is_empty() {
        let _ = write!(
            text,
            "; only to {}, not to {}",
            allowed.join(" or "),
            denied.join(" or ")
        );
    }
    text
}

fn told(format: &Format, json: &Value, text: impl FnOnce() -> String) {
    if format.json {
        output::json(json);
    } else {
        output::data(text());
    }
}

/// Parts the words from the fields of the request, which come last.
fn fields(words: &[String]) -> (&[String], Map<String, Value>) {
    let is_field = |word: &&String| word.contains('=');
    let last = words.iter().skip(2).rev().take_while(is_field).count();
    let (words, last) = words.split_at(words.len() - last);
    let fields = last.iter().filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), Value::String(value.to_owned())))
    });
    (words, fields.collect())
}

fn judge(acl: &Acl, operation: Operation, path: &ApiPath, fields: &Map<String, Value>) -> Verdict {
    let question = Question {
        operation,
        path,
        folded: None,
        data: fields,
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
    let (client, person) = match user {
        Some(user) => {
            let client = reach::client(at).await?;
            let person = Person::ask(&client, user).await?;
            (Some(client), Some(person))
        }
        None => (None, None),
    };
    let entity = person.as_ref().and_then(|person| person.entity.as_ref());
    let mut sources = Vec::new();
    let mut own = None;
    if let Some(file) = file {
        let text = super::read(Path::new(file))?;
        own = Path::new(file).file_stem().and_then(|stem| stem.to_str());
        sources.push(Source::new(file.to_owned(), text, entity)?);
    }
    let (Some(client), Some(person)) = (&client, &person) else {
        return Ok(sources);
    };
    for name in &person.policies {
        if Some(name.as_str()) == own {
            continue;
        }
        if name == "root" {
            sources.push(Source::new(name.clone(), String::new(), entity)?);
            continue;
        }
        // One that is not there grants nothing.
        if let Some(text) = super::get(client, name).await? {
            sources.push(Source::new(name.clone(), text, entity)?);
        }
    }
    Ok(sources)
}
