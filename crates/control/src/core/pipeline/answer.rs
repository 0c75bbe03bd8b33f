//! What a request is answered with: the envelope, with the lease or the token that it grants.

use super::with_mount;
use crate::core::cidrs;
use crate::core::draft::Draft;
use crate::core::engine::{Caller, Persona, World};
use crate::core::identity::EntityFacts;
use crate::core::leases::{self, Owner};
use crate::core::mounts::Mount;
use crate::core::quotas::Left;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Login, Raw, Reply, Step, Stream};
use crate::core::request::Request;
use crate::core::token_type::TokenKind;
use crate::core::tokens::{self, NewToken, Token};
use bastide_api::Secret;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What to answer.
#[derive(Debug)]
pub struct Response {
    /// The request's id.
    pub request_id: String,
    /// The kind of the mount that answered.
    pub mount_kind: String,
    /// Whether the keys of `data` stand at the top as well, as Vault does on some paths of `sys`.
    pub spread: bool,
    /// What is left under the rate limit that it counted for, if that is to be told.
    pub left: Option<Left>,
    /// The answer.
    pub outcome: Result<Envelope, Refusal>,
}

/// A granted answer.
#[derive(Debug, Default)]
pub struct Envelope {
    /// What kind of answer.
    pub shape: Shape,
    /// The field `data`.
    pub data: Option<Map<String, Value>>,
    /// The field `auth`.
    pub auth: Option<Value>,
    /// The lease's id; empty without one.
    pub lease_id: String,
    /// Whether the lease can be renewed.
    pub renewable: bool,
    /// The lease's length, in seconds.
    pub lease_duration: u64,
    /// Warnings.
    pub warnings: Vec<String>,
    /// The field `wrap_info`: the answer itself was put aside.
    pub wrap_info: Option<Value>,
}

impl Envelope {
    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.data.is_none()
            && self.auth.is_none()
            && self.wrap_info.is_none()
            && self.lease_id.is_empty()
            && self.warnings.is_empty()
            && !matches!(self.shape, Shape::Raw(_))
    }
}

/// What kind of answer an envelope holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shape {
    /// The envelope, or nothing at all if it is empty.
    #[default]
    Plain,
    /// It will be done.
    Accepted,
    /// The envelope, though the thing is absent.
    Absent,
    /// The envelope, with this HTTP status.
    Status(u16),
    /// `data` alone.
    Bare,
    /// `data` alone, with this HTTP status.
    Told(u16),
    /// Bytes as they are.
    Raw(Raw),
    /// A stream.
    Stream(Stream),
    /// What is to be done next, and answered then.
    Step(Step),
}

pub(super) fn envelope(
    draft: &mut Draft<'_>,
    world: World<'_>,
    mount: &Mount,
    caller: &Caller,
    request: &Request,
    answer: Answer,
) -> Result<Envelope, Refusal> {
    let mut envelope = Envelope {
        warnings: answer.warnings,
        ..Envelope::default()
    };
    if let Some(after) = answer.refresh_after {
        envelope.lease_duration = after.as_secs();
    }
    if let Some(mut grant) = answer.lease {
        let owner = match caller {
            // It is not stored, so its parent answers for what it got; and nothing outlives it.
            Caller::Token(token) if token.kind == TokenKind::Batch => {
                let left = Duration::from_secs(token.ttl(draft.now()));
                grant.ttl = grant.ttl.min(left);
                grant.ttl_max = grant.ttl_max.min(left);
                let parent = token.ancestors.last();
                parent.map_or(Owner::Nobody, |parent| Owner::Token(*parent))
            }
            Caller::Token(token) if token.num_uses == 1 => {
                return Err(Refusal::invalid(
                    "Secret cannot be returned; token had one use left, so leased credentials \
                     were immediately revoked.",
                ));
            }
            Caller::Token(token) => Owner::Token(token.id),
            Caller::Nobody | Caller::Machine(_) | Caller::Program => Owner::Nobody,
        };
        envelope.renewable = grant.renewable;
        envelope.lease_duration = grant.ttl.as_secs();
        let id = leases::grant(draft, mount, request.path.as_str(), grant, owner)?;
        id.as_str().clone_into(&mut envelope.lease_id);
    }
    match answer.reply {
        Reply::Empty => {}
        Reply::Accepted => envelope.shape = Shape::Accepted,
        Reply::Data(data) => envelope.data = Some(data),
        Reply::AbsentData(data) => {
            envelope.shape = Shape::Absent;
            envelope.data = Some(data);
        }
        Reply::Partial(partial) => {
            envelope.shape = Shape::Status(partial.status);
            envelope.data = Some(partial.data);
        }
        Reply::Bare(data) => {
            envelope.shape = Shape::Bare;
            envelope.data = Some(data);
        }
        Reply::Told(partial) => {
            envelope.shape = Shape::Told(partial.status);
            envelope.data = Some(partial.data);
        }
        Reply::Auth(auth) => envelope.auth = Some(auth),
        Reply::Login(login) => {
            let (text, token, entity) = log_in(draft, world, mount, request, *login)?;
            let ttl = Duration::from_secs(token.creation_ttl);
            envelope.auth = Some(auth(text.expose(), &token, entity.as_deref(), ttl));
        }
        Reply::Renewed {
            lease_id,
            ttl,
            renewable,
        } => {
            envelope.lease_id = lease_id;
            envelope.renewable = renewable;
            envelope.lease_duration = ttl.as_secs();
        }
        Reply::Step(step) => envelope.shape = Shape::Step(step),
        Reply::Raw(raw) => envelope.shape = Shape::Raw(raw),
        Reply::Ready(ready) => {
            let warnings = std::mem::take(&mut envelope.warnings);
            envelope = *ready;
            envelope.warnings.extend(warnings);
        }
        Reply::Stream(stream) => envelope.shape = Shape::Stream(stream),
    }
    Ok(envelope)
}

/// A token's text, its entry, and the entity that it belongs to.
type LoggedIn = (Secret<String>, Token, Option<Arc<EntityFacts>>);

fn log_in(
    draft: &mut Draft<'_>,
    world: World<'_>,
    mount: &Mount,
    request: &Request,
    login: Login,
) -> Result<LoggedIn, Refusal> {
    if login
        .policies
        .iter()
        .any(|policy| policy.eq_ignore_ascii_case("root"))
    {
        return Err(Refusal::invalid("auth methods cannot create root tokens"));
    }
    if !cidrs::admit(&login.bound_cidrs, request.peer.address) {
        return Err(Refusal::Unauthenticated);
    }
    let kind = login.token_type.at_login(mount.config.token_type);
    let mut entity = None;
    if let Some(alias) = &login.alias {
        let persona = Persona {
            mount,
            alias,
            groups: &login.groups,
        };
        let found = with_mount(draft, world, request, "identity/", |ctx, engine| {
            engine.entity_of(ctx, &persona)
        })?;
        entity = found.flatten();
    }
    if entity.as_ref().is_some_and(|entity| entity.disabled) {
        return Err(Refusal::Unauthenticated);
    }
    let new = NewToken {
        policies: login.policies,
        path: request.path.as_str().to_owned(),
        meta: Some(login.metadata),
        display_name: login.display_name,
        num_uses: login.num_uses,
        ttl: login.ttl.filter(|ttl| !ttl.is_zero()),
        ttl_max: login.ttl_max.filter(|max| !max.is_zero()),
        explicit_max_ttl: login.explicit_max_ttl,
        period: login.period,
        no_default_policy: login.no_default_policy,
        fixed: login.fixed,
        kind,
        entity_id: entity.as_ref().map(|it| it.id.clone()).unwrap_or_default(),
        bound_cidrs: login.bound_cidrs,
        kept: login.kept,
        ..NewToken::default()
    };
    let (text, token) = tokens::create(draft, mount, new)?;
    Ok((text, token, entity))
}

/// Returns the field `auth` of a token that is good for `ttl` and belongs to `entity`.
pub fn auth(text: &str, token: &Token, entity: Option<&EntityFacts>, ttl: Duration) -> Value {
    let theirs = entity.map(|it| it.policies.as_slice()).unwrap_or_default();
    let mut policies = [token.policies.as_slice(), theirs].concat();
    policies.sort();
    policies.dedup();
    let mut shown = json!({
        "client_token": text,
        "accessor": token.accessor,
        "policies": policies,
        "token_policies": token.policies,
        "metadata": token.meta,
        "lease_duration": ttl.as_secs(),
        "renewable": token.renewable,
        "entity_id": token.entity_id,
        "token_type": token.kind.as_str(),
        "orphan": token.ancestors.is_empty(),
        "mfa_requirement": null,
        "num_uses": token.num_uses,
    });
    if let Some(shown) = shown.as_object_mut().filter(|_| !theirs.is_empty()) {
        shown.insert("identity_policies".into(), json!(theirs));
    }
    shown
}
