//! `sys/mounts`, `sys/auth`, `sys/remount` and `sys/internal/ui/mounts`.

use std::sync::Arc;

use bastide_store::Key;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::auth::unserved;
use crate::core::config::Compat;
use crate::core::engine::{Call, Caller, Context};
use crate::core::engines::kv2;
use crate::core::fields::Fields;
use crate::core::leases;
use crate::core::mounts::{self, MOUNTS_MAX, Mount, MountConfig, MountId};
use crate::core::path::{ApiPath, MountPath};
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::registry::{FIXED_MOUNTS, Place};
use crate::core::reply::Answer;
use crate::core::request::Operation;
use crate::core::role::whole_secs;
use crate::core::tables;
use crate::core::token_type::TokenType;

/// Which of the two lists a call is about, and the path in it.
struct Target {
    place: Place,
    path: MountPath,
}

impl Target {
    fn parse(place: Place, path: &str) -> Result<Self, Refusal> {
        let text = match place {
            Place::Secrets => path.to_owned(),
            Place::Auth => format!("auth/{path}"),
        };
        let path = MountPath::parse(&text).map_err(|error| Refusal::invalid(error.to_string()))?;
        let place = if path.as_str().starts_with("auth/") {
            Place::Auth
        } else {
            place
        };
        Ok(Self { place, path })
    }

    /// The path as people of this list name it.
    fn shown(&self) -> &str {
        let text = self.path.as_str();
        match self.place {
            Place::Secrets => text,
            Place::Auth => text.strip_prefix("auth/").unwrap_or(text),
        }
    }
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    segments: &[&str],
) -> Result<Answer, Refusal> {
    use Operation::{Delete, List, Read, Update};
    let (place, rest) = match segments {
        ["mounts", rest @ ..] => (Place::Secrets, rest),
        ["auth", rest @ ..] => (Place::Auth, rest),
        _ => return remount(ctx, call),
    };
    match (call.operation, rest) {
        (Read | List, []) => list(ctx, place),
        (Read, [path @ .., "tune"]) if !path.is_empty() => {
            let mount = existing(ctx, &Target::parse(place, &path.join("/"))?)?;
            Ok(Answer::data(tuning(&mount)))
        }
        (Update, [path @ .., "tune"]) if !path.is_empty() => {
            tune(ctx, call, &Target::parse(place, &path.join("/"))?)
        }
        (Read, path) => {
            let mount = existing(ctx, &Target::parse(place, &path.join("/"))?)?;
            Ok(Answer::json(mount.info()))
        }
        (Update, path) if !path.is_empty() => {
            let target = Target::parse(place, &path.join("/"))?;
            not_in_the_other_list(place, &target, "mount")?;
            enable(ctx, call, &target)
        }
        (Delete, path) if !path.is_empty() => {
            let target = Target::parse(place, &path.join("/"))?;
            not_in_the_other_list(place, &target, "unmount")?;
            disable(ctx, &target)
        }
        _ => Err(Refusal::UnsupportedOperation),
    }
}

/// Refuses to make or end an auth method by the list of engines: its own list takes `sudo`.
fn not_in_the_other_list(place: Place, target: &Target, what: &str) -> Result<(), Refusal> {
    if place == target.place {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "cannot {what} \"{}\"",
        target.path
    )))
}

fn list(ctx: &mut Context<'_, '_>, place: Place) -> Result<Answer, Refusal> {
    let table = ctx.draft.mounts()?;
    let shown = table
        .mounts
        .values()
        .filter(|mount| mount.is_auth() == (place == Place::Auth))
        .map(|mount| {
            let path = mount.path.as_str();
            let path = if mount.is_auth() {
                &path["auth/".len()..]
            } else {
                path
            };
            (path.to_owned(), mount.info())
        })
        .collect();
    Ok(Answer::data(shown))
}

fn find(ctx: &mut Context<'_, '_>, target: &Target) -> Result<Option<Arc<Mount>>, Refusal> {
    let table = ctx.draft.mounts()?;
    Ok(table.mounts.get(&target.path).map(Arc::clone))
}

fn existing(ctx: &mut Context<'_, '_>, target: &Target) -> Result<Arc<Mount>, Refusal> {
    find(ctx, target)?.ok_or_else(|| {
        let what = match target.place {
            Place::Secrets => "No secret engine mount at",
            Place::Auth => "No auth engine at",
        };
        Refusal::invalid(format!("{what} {}", target.shown()))
    })
}

fn is_fixed(path: &MountPath) -> bool {
    FIXED_MOUNTS
        .iter()
        .any(|(fixed, ..)| path.as_str() == *fixed)
}

fn enable(ctx: &mut Context<'_, '_>, call: &Call<'_>, target: &Target) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let kind = fields.text("type")?.unwrap_or_default();
    if kind.is_empty() {
        return Err(Refusal::invalid(
            "backend type must be specified as a string",
        ));
    }
    let mut options = fields.pairs("options")?.unwrap_or_default();
    let kind = match (target.place, kind.as_str()) {
        (Place::Secrets, "kv-v2") => {
            options.insert("version".to_owned(), "2".to_owned());
            "kv"
        }
        (Place::Secrets, "kv-v1" | "generic") => {
            options.insert("version".to_owned(), "1".to_owned());
            "kv"
        }
        (_, kind) => kind,
    };
    if kind == "kv" {
        match options.get("version").map(String::as_str) {
            Some("1" | "2") => {}
            None => {
                options.insert("version".to_owned(), "1".to_owned());
            }
            Some(_) => return Err(Refusal::invalid("kv has the versions 1 and 2")),
        }
    }
    let internal = FIXED_MOUNTS.iter().any(|(_, fixed, _)| *fixed == kind);
    let unserved = target.place == Place::Auth
        && unserved::KINDS.contains(&kind)
        && ctx.world.server.compat != Compat::Vault;
    if internal || unserved || !ctx.world.registry.knows(target.place, kind) {
        return Err(Refusal::invalid(format!(
            "plugin not found in the catalog: {kind}"
        )));
    }
    free(ctx, target)?;
    let mut mount = Mount::new(ctx.entropy(), target.path.clone(), kind);
    mount.description = fields.text("description")?.unwrap_or_default();
    mount.options = options;
    mount.local = fields.flag("local")?.unwrap_or(false);
    mount.seal_wrap = fields.flag("seal_wrap")?.unwrap_or(false);
    if let Some(config) = fields.object("config")? {
        configure(&mut mount.config, Fields(config))?;
    }
    mounts::save(ctx.draft, &mount)?;
    Ok(Answer::done())
}

/// Refuses a path that is taken, lies below a mount, or has a mount below it.
fn free(ctx: &mut Context<'_, '_>, target: &Target) -> Result<(), Refusal> {
    let path = target.path.as_str();
    let table = ctx.draft.mounts()?;
    if MOUNTS_MAX <= table.mounts.len() {
        return Err(Refusal::invalid(format!(
            "a cluster has at most {MOUNTS_MAX} mounts"
        )));
    }
    if target.place == Place::Secrets
        && ["sys/", "auth/", "cubbyhole/", "identity/"].contains(&path)
    {
        return Err(Refusal::invalid(format!("cannot mount \"{path}\"")));
    }
    for known in table.mounts.values() {
        let other = known.path.as_str();
        let shown = if known.is_auth() {
            &other["auth/".len()..]
        } else {
            other
        };
        if other == path {
            return Err(Refusal::invalid(format!(
                "path is already in use at {shown}"
            )));
        }
        if other.starts_with(path) || path.starts_with(other) {
            return Err(Refusal::invalid(format!("existing mount at {shown}")));
        }
    }
    Ok(())
}

fn configure(config: &mut MountConfig, fields: Fields<'_>) -> Result<(), Refusal> {
    let ttl = |name: &str| -> Result<Option<u64>, Refusal> {
        match fields.get(name) {
            Some(Value::String(text)) if text == "system" => Ok(Some(0)),
            _ => Ok(fields.duration(name)?.map(whole_secs)),
        }
    };
    if let Some(secs) = ttl("default_lease_ttl")? {
        config.default_lease_ttl = secs;
    }
    if let Some(secs) = ttl("max_lease_ttl")? {
        config.max_lease_ttl = secs;
    }
    if config.max_lease_ttl != 0 && config.max_lease_ttl < config.default_lease_ttl {
        return Err(Refusal::invalid(
            "default_lease_ttl is longer than max_lease_ttl",
        ));
    }
    if let Some(flag) = fields.flag("force_no_cache")? {
        config.force_no_cache = flag;
    }
    if let Some(text) = fields.text("listing_visibility")? {
        match text.as_str() {
            "" | "hidden" | "unauth" => config.listing_visibility = text,
            _ => return Err(Refusal::invalid("invalid listing_visibility")),
        }
    }
    if let Some(given) = fields.object("user_lockout_config")? {
        let mut settings = config.user_lockout.unwrap_or_default();
        settings.update(Fields(given))?;
        config.user_lockout = Some(settings);
    }
    if let Some(text) = fields.text("token_type")? {
        config.token_type = TokenType::parse(&text)?;
    }
    for (name, list) in [
        (
            "audit_non_hmac_request_keys",
            &mut config.audit_non_hmac_request_keys,
        ),
        (
            "audit_non_hmac_response_keys",
            &mut config.audit_non_hmac_response_keys,
        ),
        (
            "passthrough_request_headers",
            &mut config.passthrough_request_headers,
        ),
        (
            "allowed_response_headers",
            &mut config.allowed_response_headers,
        ),
    ] {
        if let Some(given) = fields.list(name)? {
            *list = given;
        }
    }
    Ok(())
}

fn tuning(mount: &Mount) -> Map<String, Value> {
    let config = &mount.config;
    let mut shown = json!({
        "description": mount.description,
        "default_lease_ttl": mount.ttl_default().as_secs(),
        "max_lease_ttl": mount.ttl_max().as_secs(),
        "force_no_cache": config.force_no_cache,
    });
    let fields = shown.as_object_mut().expect("made as an object");
    if !mount.options.is_empty() {
        fields.insert("options".into(), json!(mount.options));
    }
    let info = mount.info();
    if let Some(Value::Object(known)) = info.get("config") {
        for (name, value) in known {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    std::mem::take(fields)
}

fn tune(ctx: &mut Context<'_, '_>, call: &Call<'_>, target: &Target) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let mut mount = Mount::clone(&*existing(ctx, target)?);
    if ["sys/", "cubbyhole/"].contains(&mount.path.as_str()) {
        return Err(Refusal::invalid(format!(
            "tuning of \"{}\" is not allowed",
            mount.path
        )));
    }
    configure(&mut mount.config, fields)?;
    if let Some(text) = fields.text("description")? {
        mount.description = text;
    }
    if let Some(options) = fields.pairs("options")? {
        version_changes(ctx, &mut mount, &options)?;
        mount.options.extend(options);
    }
    mounts::save(ctx.draft, &mount)?;
    Ok(Answer::done())
}

/// Takes kv's data over into the form of another version, if the options name one: the first to the
/// second, as Vault does, and never back.
fn version_changes(
    ctx: &mut Context<'_, '_>,
    mount: &mut Mount,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let (Some(new), true) = (options.get("version"), mount.kind == "kv") else {
        return Ok(());
    };
    let old = mount.options.get("version").map_or("1", String::as_str);
    match (old, new.as_str()) {
        (old, new) if old == new => Ok(()),
        ("1", "2") => {
            mount.converts = Some(mount.id);
            mount.id = MountId(ctx.entropy().bytes());
            let mut own = Context {
                draft: ctx.draft,
                world: ctx.world,
                mount: Arc::new(mount.clone()),
                caller: ctx.caller,
                bearer: ctx.bearer,
                entity: ctx.entity,
                peer: ctx.peer.clone(),
                path: ctx.path,
            };
            // What is little is taken over at once.
            if kv2::upgrade::step(&mut own)? {
                mount.converts = None;
            }
            Ok(())
        }
        ("2", "1") => Err(Refusal::invalid(
            "cannot downgrade mount from version 2: its versions would be lost",
        )),
        _ => Err(Refusal::invalid("kv has the versions 1 and 2")),
    }
}

fn disable(ctx: &mut Context<'_, '_>, target: &Target) -> Result<Answer, Refusal> {
    if is_fixed(&target.path) {
        let what = match target.place {
            Place::Secrets => format!("cannot unmount \"{}\"", target.shown()),
            Place::Auth => "token credential backend cannot be disabled".to_owned(),
        };
        return Err(Refusal::invalid(what));
    }
    let Some(mount) = find(ctx, target)? else {
        return Ok(Answer::done());
    };
    super::leases::revoke_prefix(ctx, target.path.as_str())?;
    ctx.draft
        .delete(Key::new(tables::MOUNTS, target.path.as_str()));
    for storage in std::iter::once(mount.id).chain(mount.converts) {
        ctx.draft
            .put(Key::new(tables::GRAVES, storage.0), Vec::new())?;
    }
    Ok(Answer::done())
}

/// Moves that are remembered, for who asks how one went; beyond it all are forgotten.
const MOVES_MAX: usize = 256;

/// A move of a mount, which is done when it is answered.
#[derive(Serialize, Deserialize)]
struct Moved {
    from: String,
    to: String,
}

fn moved_at(id: &str) -> String {
    format!("moved/{id}")
}

fn remount(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    if call.operation == Operation::Read {
        return match call.segments()[..] {
            ["remount", "status", id] => {
                let moved: Moved = ctx.load(&moved_at(id))?.ok_or(Refusal::Absent)?;
                Ok(Answer::json(json!({
                    "migration_id": id,
                    "migration_info": {
                        "source_mount": moved.from,
                        "target_mount": moved.to,
                        "status": "success",
                    },
                })))
            }
            _ => Err(Refusal::UnsupportedPath),
        };
    }
    let place = |path: &str| match path.strip_prefix("auth/") {
        Some(path) => Target::parse(Place::Auth, path),
        None => Target::parse(Place::Secrets, path),
    };
    let from = place(&call.fields().required("from")?)?;
    let to = place(&call.fields().required("to")?)?;
    if from.place != to.place || is_fixed(&from.path) {
        return Err(Refusal::invalid(format!(
            "cannot remount \"{}\"",
            from.path
        )));
    }
    let mut mount = Mount::clone(&*existing(ctx, &from)?);
    free(ctx, &to)?;
    if !leases::with_prefix(ctx.draft, from.path.as_str(), None, 1)?.is_empty() {
        super::leases::revoke_prefix(ctx, from.path.as_str())?;
    }
    ctx.draft
        .delete(Key::new(tables::MOUNTS, from.path.as_str()));
    mount.path = to.path;
    mounts::save(ctx.draft, &mount)?;
    let id = ctx.entropy().uuid();
    let known = ctx.keys("moved/")?;
    if MOVES_MAX <= known.len() {
        for old in known {
            ctx.delete(&moved_at(&old));
        }
    }
    let moved = Moved {
        from: from.path.as_str().to_owned(),
        to: mount.path.as_str().to_owned(),
    };
    ctx.save(&moved_at(&id), &moved)?;
    Ok(Answer::json(json!({ "migration_id": id })))
}

/// Answers `sys/internal/ui/mounts[/path]`: what the caller may know of the mounts.
pub(super) fn shown_to_caller(ctx: &mut Context<'_, '_>, path: &str) -> Result<Answer, Refusal> {
    let acl = pipeline::acl(ctx)?;
    let table = ctx.draft.mounts()?;
    if path.is_empty() {
        let stranger = matches!(ctx.caller, Caller::Nobody);
        let mut lists = [Map::new(), Map::new()];
        for mount in table.mounts.values() {
            let text = mount.path.as_str();
            let open = mount.config.listing_visibility == "unauth";
            if !(open || !stranger && acl.touches(text)) {
                continue;
            }
            let info = if stranger {
                json!({
                    "type": mount.kind,
                    "description": mount.description,
                    "options": mount.options,
                })
            } else {
                mount.info()
            };
            let shown = text.strip_prefix("auth/").unwrap_or(text);
            lists[usize::from(mount.is_auth())].insert(shown.to_owned(), info);
        }
        let [secret, auth] = lists;
        return Ok(Answer::json(json!({ "secret": secret, "auth": auth })));
    }
    // Before it is looked for: strangers are told the same of what is there and what is not
    // (CVE-2020-25594).
    if matches!(ctx.caller, Caller::Nobody) {
        return Err(Refusal::Denied);
    }
    let refused = || {
        Refusal::Forbidden(format!(
            "preflight capability check returned 403, please ensure client's policies grant \
             access to path \"{path}/\""
        ))
    };
    let path = ApiPath::parse(path).map_err(|error| Refusal::invalid(error.to_string()))?;
    let mount = table
        .route(&path)
        .map(|(mount, _)| Arc::clone(mount))
        .ok_or_else(refused)?;
    if !acl.touches(mount.path.as_str()) {
        return Err(refused());
    }
    let mut info = mount.info();
    if let Some(info) = info.as_object_mut() {
        info.insert("path".into(), mount.path.as_str().into());
    }
    Ok(Answer::json(info))
}
