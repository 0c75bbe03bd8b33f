//! Whether a log is whole: by its chain alone, and by checkpoints that others kept.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bastide_client::KnownLog;
use bastide_linux::file;
use bastide_pki::log::{Chain, Checkpoint, LogKey};
use serde_json::json;

use crate::cli::AuditOf;
use crate::exit::{Exit, Failure};
use crate::{output, paths};

/// Most bytes of a file with a checkpoint.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn run(
    checkpoints: &[PathBuf],
    key: Option<&str>,
    of: &AuditOf,
) -> anyhow::Result<ExitCode> {
    let key: Option<LogKey> = key.map(str::parse).transpose()?;
    let mut known = Vec::new();
    for path in checkpoints {
        known.push(read(path, key.as_ref())?);
    }
    let own = Path::new(paths::LOG_CHECKPOINT);
    if checkpoints.is_empty() && own.exists() {
        known.push(read(own, key.as_ref())?);
    }
    let files = super::files(of)?;
    let size = known.iter().map(|it: &Checkpoint| it.size).max();
    let mut chain = Chain::new(known);
    // Where each file's first line is, counted over all of them.
    let (mut starts, mut given) = (Vec::new(), 0_u64);
    for path in &files {
        starts.push((given, path));
        super::each_line(path, |line| {
            chain.take(line);
            given += 1;
            true
        })?;
    }
    let (first, next) = (chain.first(), chain.next());
    let found = chain.end();
    let place = |at: Option<u64>| match at {
        None => "at the end".to_owned(),
        Some(at) => {
            let which = starts.partition_point(|(start, _)| *start <= at);
            match starts.get(which.saturating_sub(1)) {
                Some((start, path)) => format!("{}:{}", path.display(), at - start + 1),
                None => format!("line {}", at + 1),
            }
        }
    };
    if of.format.json {
        let faults = found
            .iter()
            .map(|it| json!({ "at": place(it.at), "fault": it.fault.to_string() }));
        output::json(&json!({
            "whole": found.is_empty(),
            "lines": given,
            "first": first,
            "checkpoint": size,
            "faults": faults.collect::<Vec<_>>(),
        }));
    } else {
        for it in &found {
            output::data(format!("{}: {}", place(it.at), it.fault));
        }
        if found.is_empty() {
            output::data(format!(
                "{given} lines are whole, from {} to {}",
                first.unwrap_or(0),
                next.saturating_sub(1)
            ));
            match size {
                Some(size) => output::data(format!("a checkpoint of {size} lines agrees")),
                None => output::note(
                    "no checkpoint was given: what was cut off at the end does not show, nor a log \
                     written anew; agents keep one in `/var/lib/bastide/agent/audit-log.json`",
                ),
            }
            if first.is_some_and(|first| first != 0) {
                output::note("the log's first files were not given: they were not looked at");
            }
        }
    }
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        Exit::Failed.into()
    })
}

/// Reads a checkpoint: a signed note, or what an agent keeps.
fn read(path: &Path, key: Option<&LogKey>) -> anyhow::Result<Checkpoint> {
    let failed = || format!("could not read `{}`", path.display());
    let bytes = file::read_bounded(path, FILE_BYTES_MAX).with_context(failed)?;
    let text = String::from_utf8(bytes.with_context(failed)?).with_context(failed)?;
    let (note, own) = match serde_json::from_str::<KnownLog>(&text) {
        Ok(kept) => {
            let key: LogKey = kept.key.parse().with_context(failed)?;
            (kept.note, Some(key))
        }
        Err(_) => (text, None),
    };
    let key = key.or(own.as_ref()).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("nothing says which key signed `{}`", path.display()),
        )
        .hint("give the key that `bastide audit key` printed: `--key KEY`")
    })?;
    Checkpoint::read(&note, key).with_context(|| format!("`{}` is not believed", path.display()))
}
