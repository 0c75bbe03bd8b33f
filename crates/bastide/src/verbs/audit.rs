//! `bastide audit`: reading the log, and finding out whether it is whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::{AuditOf, AuditVerb};
use crate::exit::{Exit, Failure};
use crate::verbs::{operator, prompt, reach};
use crate::{output, paths};

mod verify;

/// Longest line of a log that is read, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// How often a log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs a verb. `verify` exits with 1 if the log is not whole.
pub async fn run(verb: AuditVerb) -> anyhow::Result<ExitCode> {
    match verb {
        AuditVerb::Tail { lines, follow, of } => tail(lines, follow, &of).await?,
        AuditVerb::Search {
            path,
            who,
            refused,
            value,
            at,
            of,
        } => {
            let hash = if value { Some(hash(&at).await?) } else { None };
            let wanted = Wanted {
                path,
                who,
                refused,
                hash,
            };
            search(&wanted, &of)?;
        }
        AuditVerb::Verify {
            checkpoint,
            key,
            of,
        } => return verify::run(&checkpoint, key.as_deref(), &of),
        AuditVerb::Key { at } => {
            let client = reach::client(&at).await?;
            let told = client.call("GET", "/v1/sys/audit-log", None).await?;
            output::data(operator::text(&told["key"]));
        }
        AuditVerb::Checkpoint { at } => {
            let client = reach::client(&at).await?;
            let told = client.call("GET", "/v1/sys/audit-log", None).await?;
            output::data(operator::text(&told["checkpoint"]).trim_end());
        }
        AuditVerb::Ls { format, at } => {
            let client = reach::client(&at).await?;
            let told = client.call("GET", "/v1/sys/audit", None).await?;
            if format.json {
                output::json(&told);
                return Ok(ExitCode::SUCCESS);
            }
            let mut rows = vec![["DEVICE", "KIND", "OPTIONS"].map(str::to_owned).to_vec()];
            for (name, about) in told.as_object().into_iter().flatten() {
                let options = about["options"].as_object().into_iter().flatten();
                let options: Vec<_> = options
                    .map(|(name, value)| format!("{name}={}", operator::text(value)))
                    .collect();
                rows.push(vec![
                    name.clone(),
                    operator::text(&about["type"]),
                    options.join(" "),
                ]);
            }
            output::data(output::table(&rows).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which requests are looked for.
struct Wanted {
    path: Option<String>,
    who: Option<String>,
    refused: bool,
    /// A keyed hash that stands in the record.
    hash: Option<String>,
}

impl Wanted {
    fn is(&self, line: &str, record: &Value) -> bool {
        let is_path = |wanted: &String| {
            let path = record["request"]["path"].as_str();
            path.is_some_and(|path| path.starts_with(wanted.trim_start_matches('/')))
        };
        // That the value was asked for here is in the log as well.
        let is_asking = record["request"]["path"]
            .as_str()
            .is_some_and(|path| path.starts_with("sys/audit-hash/"));
        (self.hash.is_none() || !is_asking)
            && self.path.as_ref().is_none_or(is_path)
            && self
                .who
                .as_ref()
                .is_none_or(|wanted| who(record) == *wanted)
            && (!self.refused || record.get("error").is_some())
            && self
                .hash
                .as_ref()
                .is_none_or(|hash| line.contains(hash.as_str()))
    }
}

/// Has the server hash a value that is read from standard input.
async fn hash(at: &crate::cli::At) -> anyhow::Result<String> {
    let value = prompt::line("Value")?;
    let client = reach::client(at).await?;
    let body = json!({ "input": value.expose() });
    let told = client
        .call("POST", "/v1/sys/audit-hash/file", Some(body))
        .await?;
    let hash = told["hash"].as_str().map(str::to_owned);
    hash.context("the server answered without a hash")
}

/// Returns the files that are meant, the oldest first.
fn files(of: &AuditOf) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if of.files.is_empty() {
        let own = Path::new(paths::AUDIT_LOG);
        let folder = own.parent().unwrap_or(Path::new("/"));
        let entries = std::fs::read_dir(folder).map_err(|error| {
            let what = format!("could not look into `{}`: {error}", folder.display());
            Failure::new(Exit::Failed, what)
                .hint("name the log's files, or run this as root on the controller")
        })?;
        for entry in entries {
            let path = entry.context("could not list the log's files")?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let is_packed = path.extension().is_some_and(|it| it == "gz" || it == "zst");
            if name.is_some_and(|name| name.starts_with("audit.log")) && !is_packed {
                found.push(path);
            }
        }
    } else {
        found.clone_from(&of.files);
    }
    let mut ordered = Vec::with_capacity(found.len());
    for path in found {
        ordered.push((first_number(&path)?, path));
    }
    ordered.sort();
    Ok(ordered.into_iter().map(|(_, path)| path).collect())
}

/// Returns the number of a file's first line; an empty file comes last.
fn first_number(path: &Path) -> anyhow::Result<u64> {
    let mut first = None;
    each_line(path, |line| {
        let record: Result<Value, _> = serde_json::from_slice(line);
        first = Some(record.ok().and_then(|it| it["seq"].as_u64()).unwrap_or(0));
        false
    })?;
    Ok(first.unwrap_or(u64::MAX))
}

/// Reads a file line by line, while `take` wants more.
fn each_line(path: &Path, mut take: impl FnMut(&[u8]) -> bool) -> anyhow::Result<()> {
    let failed = || format!("could not read `{}`", path.display());
    let mut file = BufReader::new(File::open(path).with_context(failed)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = file.by_ref().take(LINE_BYTES_MAX);
        let length = bounded.read_until(b'\n', &mut line).with_context(failed)?;
        if length == 0 {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !text.is_empty() && !take(text) {
            return Ok(());
        }
    }
}

/// Returns who asked, by the name that the log shows.
fn who(record: &Value) -> String {
    let auth = [&record["auth"], &record["response"]["auth"]];
    let name = auth.iter().find_map(|auth| auth["display_name"].as_str());
    name.unwrap_or("-").to_owned()
}

/// Shows an answer's record as a person reads it.
fn row(record: &Value) -> String {
    let request = &record["request"];
    let from = request["remote_address"].as_str().unwrap_or("-");
    let outcome = record["error"].as_str().unwrap_or("ok");
    let time = record["time"].as_str().unwrap_or("-");
    format!(
        "{}  {:<20} {:<15} {:<7} {}  {outcome}",
        time.get(..19).unwrap_or(time),
        who(record),
        from,
        request["operation"].as_str().unwrap_or("-"),
        request["path"].as_str().unwrap_or("-"),
    )
}

/// Shows a line, if it is the record of an answer or of a gap.
fn shown(line: &[u8], of: &AuditOf) -> Option<String> {
    let record: Value = serde_json::from_slice(line).ok()?;
    match record["type"].as_str() {
        Some("request") => None,
        Some("gap") => Some(format!(
            "{} requests could not be recorded here",
            record["missed"]
        )),
        _ if of.format.json => Some(String::from_utf8_lossy(line).into_owned()),
        _ => Some(row(&record)),
    }
}

async fn tail(count: usize, follow: bool, of: &AuditOf) -> anyhow::Result<()> {
    let files = files(of)?;
    let mut last = std::collections::VecDeque::with_capacity(count.min(4096));
    for path in files.iter().rev().take(2).rev() {
        each_line(path, |line| {
            if let Some(text) = shown(line, of) {
                if last.len() == count {
                    last.pop_front();
                }
                last.push_back(text);
            }
            true
        })?;
    }
    last.iter().take(count).for_each(output::data);
    let Some(path) = files.last().filter(|_| follow) else {
        return Ok(());
    };
    let mut file =
        File::open(path).with_context(|| format!("could not read `{}`", path.display()))?;
    let mut at = file
        .seek(SeekFrom::End(0))
        .context("could not find the log's end")?;
    let mut rest = Vec::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let there = std::fs::metadata(path);
        let is_new = there.is_ok_and(|there| there.len() < at);
        if is_new {
            // It was rotated: the new one begins anew.
            file =
                File::open(path).with_context(|| format!("could not read `{}`", path.display()))?;
            (at, rest) = (0, Vec::new());
        }
        let more = file
            .read_to_end(&mut rest)
            .context("could not read the log")?;
        at += more as u64;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<_> = rest.drain(..=end).collect();
            if let Some(text) = shown(&line[..end], of) {
                output::data(text);
            }
        }
    }
}

fn search(wanted: &Wanted, of: &AuditOf) -> anyhow::Result<()> {
    let mut found = 0_u64;
    for path in files(of)? {
        each_line(&path, |line| {
            let text = String::from_utf8_lossy(line);
            let Ok(record) = serde_json::from_slice::<Value>(line) else {
                return true;
            };
            if record["type"] != "request"
                && wanted.is(&text, &record)
                && let Some(shown) = shown(line, of)
            {
                found += 1;
                output::data(shown);
            }
            true
        })?;
    }
    if !of.format.json {
        output::note(format!("{found} requests"));
    }
    Ok(())
}
