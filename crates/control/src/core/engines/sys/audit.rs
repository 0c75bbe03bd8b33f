//! Audit devices: those of the server's configuration and those enabled through the API.
//!
//! A device made through the API is a file written where its caller says, as whoever runs the server.
//! It is refused unless the server's configuration allows it (`compat = "vault"`), as OpenBao does
//! since CVE-2025-6000.

use std::collections::BTreeMap;

use bastide_pki::log::{Checkpoint, Edge};
use serde_json::{Map, Value, json};

use crate::core::audit::devices::{self, DEVICES_MAX, Device, DeviceId, Target};
use crate::core::audit::{Hasher, log};
use crate::core::engine::{Call, Context};
use crate::core::path::MountPath;
use crate::core::refusal::{Refusal, Work};
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    segments: &[&str],
) -> Result<Answer, Refusal> {
    match (call.operation, segments) {
        (Operation::Read | Operation::List, ["audit"]) => list(ctx),
        (Operation::Read, ["audit-log"]) => checkpoint(ctx),
        (Operation::Create | Operation::Update, ["audit", path @ ..]) if !path.is_empty() => {
            enable(ctx, call, &name(path)?)
        }
        (Operation::Delete, ["audit", path @ ..]) if !path.is_empty() => disable(ctx, &name(path)?),
        (Operation::Create | Operation::Update, ["audit-hash", path @ ..]) => {
            hash(ctx, call, &name(path)?)
        }
        _ => Err(Refusal::UnsupportedOperation),
    }
}

/// Returns a device's name, with a slash at its end.
fn name(path: &[&str]) -> Result<String, Refusal> {
    let path = MountPath::parse(&path.join("/"));
    let path = path.map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(path.as_str().to_owned())
}

fn list(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let mut shown = Map::new();
    for device in &ctx.world.server.audit {
        let options = json!({ "file_path": device.file });
        shown.insert(
            device.path.clone(),
            described("file", "", options, false, &device.path),
        );
    }
    for device in devices::load(ctx.draft)? {
        let options = json!(device.options);
        let told = described(
            &device.kind,
            &device.description,
            options,
            device.local,
            &device.path,
        );
        shown.insert(device.path.clone(), told);
    }
    Ok(Answer::data(shown))
}

fn described(kind: &str, description: &str, options: Value, local: bool, path: &str) -> Value {
    json!({
        "type": kind,
        "description": description,
        "options": options,
        "local": local,
        "path": path,
    })
}

fn by_api(ctx: &Context<'_, '_>, what: &str) -> Result<(), Refusal> {
    if ctx.world.server.audit_by_api {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "cannot {what} audit device via API; use the server's configuration, or allow it there with \
         `compat = \"vault\"`"
    )))
}

fn enable(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    by_api(ctx, "enable")?;
    let fields = call.fields();
    let known = devices::load(ctx.draft)?;
    let own = &ctx.world.server.audit;
    if own.iter().any(|device| device.path == path)
        || known.iter().any(|device| device.path == path)
    {
        return Err(Refusal::invalid(format!("path already in use at {path}")));
    }
    if DEVICES_MAX <= known.len() {
        return Err(Refusal::invalid(format!(
            "there are {DEVICES_MAX} audit devices already"
        )));
    }
    let description = fields.text("description")?.unwrap_or_default();
    if DESCRIPTION_BYTES_MAX < description.len() {
        return Err(Refusal::invalid("the description is too long"));
    }
    let salt = data_encoding::HEXLOWER.encode(&ctx.entropy().bytes::<32>());
    let device = Device {
        id: DeviceId(ctx.entropy().bytes()),
        path: path.to_owned(),
        kind: fields.required("type")?,
        description,
        options: options(call)?,
        salt,
        local: fields.flag("local")?.unwrap_or(false),
    };
    let target = device.target()?;
    if let Target::File { path: file, .. } = &target {
        let is_taken = own.iter().any(|device| device.file == *file)
            || known.iter().any(
                |other| matches!(other.target(), Ok(Target::File { path, .. }) if path == *file),
            );
        if is_taken {
            return Err(Refusal::invalid("another audit device writes to that file"));
        }
    }
    let trouble = ctx.draft.work(Work::AuditDevice { target })?;
    if !trouble.expose().is_empty() {
        let why = String::from_utf8_lossy(trouble.expose());
        return Err(Refusal::invalid(format!(
            "sanity check failed; unable to use the audit device: {why}"
        )));
    }
    devices::save(ctx.draft, &device)?;
    Ok(Answer::done())
}

/// Reads the options, each as a text.
fn options(call: &Call<'_>) -> Result<BTreeMap<String, String>, Refusal> {
    let wrong = || Refusal::invalid("options are not texts by name");
    match call.fields().get("options") {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(options)) => options
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Bool(flag) => flag.to_string(),
                    Value::Number(number) => number.to_string(),
                    Value::Null | Value::Array(_) | Value::Object(_) => return Err(wrong()),
                };
                Ok((name.clone(), text))
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn disable(ctx: &mut Context<'_, '_>, path: &str) -> Result<Answer, Refusal> {
    by_api(ctx, "disable")?;
    if ctx.world.server.audit.iter().any(|it| it.path == path) {
        return Err(Refusal::invalid(
            "cannot disable audit device via API: it is of the server's configuration",
        ));
    }
    devices::delete(ctx.draft, path);
    Ok(Answer::done())
}

/// Returns a signed checkpoint of the server's own audit log, and the key that verifies it.
fn checkpoint(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let store = ctx.draft.source();
    let signer = log::signer(store.barrier());
    let stored = log::stored(store)?.unwrap_or_default();
    let edge = Edge::restore(stored.size, |level, index, _| {
        let found = store.get(&log::tile_at(level, index))?;
        Ok::<_, Refusal>(found.map(|text| text.expose().as_chunks().0.to_vec()))
    })?;
    let edge = edge.ok_or_else(|| Refusal::corrupt("tree", "a tile is missing"))?;
    let checkpoint = Checkpoint {
        size: stored.size,
        root: edge.root(),
        line: stored.line(),
    };
    Ok(Answer::json(json!({
        "key": signer.key().to_string(),
        "checkpoint": checkpoint.sign(&signer),
    })))
}

fn hash(ctx: &mut Context<'_, '_>, call: &Call<'_>, path: &str) -> Result<Answer, Refusal> {
    let barrier = ctx.draft.source().barrier().clone();
    let own = ctx.world.server.audit.iter().find(|it| it.path == path);
    let hasher = match own {
        Some(own) => Hasher::new(&barrier, &own.path),
        None => {
            let known = devices::load(ctx.draft)?;
            let device = known
                .iter()
                .find(|device| device.path == path)
                .ok_or_else(|| Refusal::invalid(format!("unknown audit backend {path:?}")))?;
            device.hasher(&barrier)
        }
    };
    let input = call.fields().text("input")?;
    let input = input
        .filter(|input| !input.is_empty())
        .ok_or_else(|| Refusal::invalid("the \"input\" parameter is empty"))?;
    Ok(Answer::json(json!({ "hash": hasher.hash(&input) })))
}

#[cfg(test)]
mod tests;
