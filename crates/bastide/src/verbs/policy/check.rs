//! Whether a request would be allowed, decided by what decides it on the server.

mod person;
mod place;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bastide_client::Client;
use bastide_control::core::fields::parse_duration;
use bastide_control::core::identity::EntityFacts;
use bastide_control::core::path::ApiPath;
use bastide_control::core::policy::acl::{Acl, Question, wrapping_allows};
use bastide_control::core::policy::{Capabilities, Policy, Rule};
use bastide_control::core::request::Operation;
use serde_json::{Map, Value, json};

use crate::cli::{At, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::reach;
use person::Person;
use place::Place;

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

/// What is to be found out.
pub(super) struct Wanted<'w> {
    /// `[FILE] METHOD PATH [FIELD=VALUE...]`.
    pub(super) words: &'w [String],
    /// As whom.
    pub(super) user: Option<&'w str>,
    /// For how long the answer is to be wrapped.
    pub(super) wrap: Option<&'w str>,
}

/// The request that is judged.
struct Asked<'w> {
    method: &'w str,
    path: ApiPath,
    /// The path as it is shown.
    shown: &'w str,
    fields: Map<String, Value>,
    wrap: Option<Duration>,
}

/// What was found out about one operation.
struct Verdict<'a> {
    operation: Operation,
    allowed: bool,
    /// Whether the path needs `sudo`; `None` if nobody says what lies there.
    sudo: Option<bool>,
    /// The pattern that decides, and its rule.
    deciding: Option<(String, &'a Rule)>,
}

pub(super) async fn run(wanted: &Wanted<'_>, format: &Format, at: &At) -> anyhow::Result<ExitCode> {
    let (words, fields) = fields(wanted.words);
    let (file, method, path) = match words {
        [file, method, path] => (Some(file.as_str()), method, path),
        [method, path] => (None, method, path),
        _ => bail!(Failure::new(
            Exit::Usage,
            "expected `[FILE] METHOD PATH [FIELD=VALUE...]`"
        )),
    };
    if file.is_none() && wanted.user.is_none() {
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
    let asked = Asked {
        method,
        path: api_path,
        shown: trimmed,
        fields,
        wrap: wanted.wrap.map(wrapping).transpose()?.flatten(),
    };
    let client = match wanted.user {
        Some(_) => Some(reach::client(at).await?),
        None => None,
    };
    let person = client.as_ref().zip(wanted.user);
    let sources = sources(file, person).await?;
    let place = match &client {
        Some(client) => Place::ask(client, &asked.path).await?,
        None => Place::fixed(&asked.path),
    };
    let allowed = tell(&asked, &operations, &sources, place.as_ref(), format);
    Ok(if allowed {
        ExitCode::SUCCESS
    } else {
        Exit::Refused.into()
    })
}

/// Reads for how long an answer is to be wrapped, as the server does: no time is not at all.
fn wrapping(text: &str) -> anyhow::Result<Option<Duration>> {
    let ttl = parse_duration(text).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("`{text}` is no duration"))
            .hint("seconds, or such as `5m` and `1h30m`")
    })?;
    Ok((!ttl.is_zero()).then_some(ttl))
}

/// Judges and prints; returns whether the request is allowed.
fn tell(
    asked: &Asked<'_>,
    operations: &[Operation],
    sources: &[Source],
    place: Option<&Place>,
    format: &Format,
) -> bool {
    let (method, path) = (asked.method, asked.shown);
    let hint = place.and_then(|place| place.other_path(operations));
    let hinted = |text: &mut String| {
        if let (Some(place), Some(path)) = (place, &hint) {
            let mount = place.mount();
            let _ = write!(
                text,
                "\n  `{mount}` is kv version 2: the path to ask is `{path}`"
            );
        }
    };
    if sources.iter().any(|source| source.name == "root") {
        let shown = json!({ "allowed": true, "policy": "root", "path_to_ask": hint });
        told(format, &shown, || {
            let mut text =
                format!("allowed: {method} {path}\n  by policy `root`, which allows everything");
            hinted(&mut text);
            text
        });
        return true;
    }
    let acl = Acl::new(sources.iter().map(|source| &source.policy));
    let verdicts: Vec<Verdict<'_>> = operations
        .iter()
        .map(|operation| judge(&acl, *operation, asked, place))
        .collect();
    let allowed = verdicts.iter().any(|verdict| verdict.allowed);
    let sudo = verdicts.iter().find_map(|verdict| verdict.sudo);
    let deciding = verdicts.iter().find_map(|verdict| verdict.deciding.clone());
    let places: Vec<(&str, usize)> = deciding
        .iter()
        .flat_map(|(pattern, _)| {
            let places = sources
                .iter()
                .filter_map(|source| Some((source.name.as_str(), source.line(pattern)?)));
            places.collect::<Vec<_>>()
        })
        .collect();
    let gives_sudo = deciding
        .as_ref()
        .is_some_and(|(_, rule)| rule.capabilities.has(Capabilities::SUDO));
    let shown = json!({
        "allowed": allowed,
        "method": method,
        "path": path,
        "pattern": deciding.as_ref().map(|(pattern, _)| pattern),
        "capabilities": deciding.as_ref().map(|(_, rule)| rule.capabilities.names()),
        "lines": places.iter().map(|(name, line)| json!({ "policy": name, "line": line }))
            .collect::<Vec<_>>(),
        "sudo_needed": sudo,
        "sudo_granted": gives_sudo,
        "wrap_ttl": asked.wrap.map(|ttl| ttl.as_secs()),
        "path_to_ask": hint,
    });
    told(format, &shown, || {
        let word = if allowed { "allowed" } else { "denied" };
        let mut text = format!("{word}: {method} {path}");
        match &deciding {
            None => text.push_str("\n  no line matches, and what is not allowed is denied"),
            Some((pattern, rule)) => {
                for (name, line) in &places {
                    let _ = write!(text, "\n  {name}:{line}  path \"{pattern}\"");
                }
                text.push_str(&because(rule, &verdicts, asked.wrap));
            }
        }
        if sudo == Some(true) {
            let gives = if gives_sudo { "granted" } else { "not granted" };
            let _ = write!(text, "\n  the path needs `sudo`, which is {gives}");
        }
        hinted(&mut text);
        text
    });
    allowed
}

/// Says why what is given allows the one and not the other.
fn because(rule: &Rule, verdicts: &[Verdict<'_>], wrap: Option<Duration>) -> String {
    let words = |allowed: bool| -> Vec<&str> {
        let of = verdicts.iter().filter(|it| it.allowed == allowed);
        of.map(|verdict| verdict.operation.as_str()).collect()
    };
    let (allowed, denied) = (words(true), words(false));
    let gives = rule.capabilities.names();
    let mut text = format!("\n  which gives {}", gives.join(", "));
    let is_given = denied.iter().any(|it| gives.contains(it));
    if allowed.is_empty() && !is_given {
        let _ = write!(text, "; needed is {}", denied.join(" or "));
    } else if allowed.is_empty() && !wrapping_allows(rule, wrap) {
        text.push_str(", but only ");
        text.push_str(&wrapped(rule));
    } else if allowed.is_empty() && !lacks_sudo(rule, verdicts) {
        text.push_str(", but not with these fields, or not without others: see its parameters");
    } else if !denied.is_empty() && !allowed.is_empty() {
        let _ = write!(
            text,
            "; only to {}, not to {}",
            allowed.join(" or "),
            denied.join(" or ")
        );
    }
    text
}

fn lacks_sudo(rule: &Rule, verdicts: &[Verdict<'_>]) -> bool {
    !rule.capabilities.has(Capabilities::SUDO)
        && verdicts.iter().any(|verdict| verdict.sudo == Some(true))
}

/// Says for how long a rule wants answers to be wrapped.
fn wrapped(rule: &Rule) -> String {
    let secs = |limit: Duration| format!("{}s", limit.as_secs());
    let limits = match (rule.min_wrap.map(secs), rule.max_wrap.map(secs)) {
        (Some(min), Some(max)) => format!("for {min} to {max}"),
        (Some(min), None) => format!("for {min} or longer"),
        (None, Some(max)) => format!("for {max} at most"),
        (None, None) => String::new(),
    };
    format!("where the answer is wrapped {limits}: see `--wrap`")
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

fn judge<'a>(
    acl: &'a Acl,
    operation: Operation,
    asked: &Asked<'_>,
    place: Option<&Place>,
) -> Verdict<'a> {
    let sudo = place.map(|place| place.needs_sudo(operation, &asked.fields));
    let question = Question {
        operation,
        path: &asked.path,
        folded: None,
        data: &asked.fields,
        wrap: asked.wrap,
        sudo: sudo == Some(true),
    };
    Verdict {
        operation,
        allowed: acl.authorise(&question).is_some(),
        sudo,
        deciding: acl.deciding(operation, &asked.path),
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
async fn sources(file: Option<&str>, user: Option<(&Client, &str)>) -> anyhow::Result<Vec<Source>> {
    let person = match user {
        Some((client, user)) => Some(Person::ask(client, user).await?),
        None => None,
    };
    let entity = person.as_ref().and_then(|person| person.entity.as_ref());
    let mut sources = Vec::new();
    let mut own = None;
    if let Some(file) = file {
        let text = super::read(Path::new(file))?;
        own = Path::new(file).file_stem().and_then(|stem| stem.to_str());
        sources.push(Source::new(file.to_owned(), text, entity)?);
    }
    let (Some((client, _)), Some(person)) = (user, &person) else {
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
