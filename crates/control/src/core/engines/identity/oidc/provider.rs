//! `identity/oidc/provider`, `client`, `scope` and `assignment`: who may log in to which program with
//! the account that he has here, and what the program learns of him.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::oidc::{
    self, ISSUER_SET, bare, config, given_issuer, jwk, keys, room, tokens,
};
use crate::core::identity::EntityFacts;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The provider that each cluster has.
pub const DEFAULT: &str = "default";
/// The assignment that each cluster has: everybody.
pub const ALLOW_ALL: &str = "allow_all";
/// The scope that each request must name.
pub const OPENID: &str = "openid";
/// Letters of a client's id and of its secret: 190 and 381 bits.
const CLIENT_LETTERS: usize = 32;
const SECRET_LETTERS: usize = 64;
/// Most entries of one list, and the longest of them, in bytes.
const LIST_MAX: usize = 1_000;
const ENTRY_BYTES_MAX: usize = 1_024;
/// How long tokens are good where nothing is said, and at most, in seconds.
const TTL_DEFAULT: u64 = 24 * 3600;
const TTL_MAX: u64 = 365 * 24 * 3600;

/// A provider, as it is stored.
#[derive(Default, Serialize, Deserialize)]
pub struct Provider {
    issuer: String,
    clients: Vec<String>,
    /// What programs may ask for besides [`OPENID`].
    pub scopes: Vec<String>,
}

impl Provider {
    /// Returns whether it serves a client.
    pub fn serves(&self, client: &str) -> bool {
        self.clients.iter().any(|it| it == "*" || it == client)
    }
}

/// A program that logs people in, as it is stored.
#[derive(Serialize, Deserialize)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret; empty if it is public.
    pub secret: String,
    /// Whether it cannot keep a secret, and must prove by PKCE (RFC 7636) that a code is its own.
    pub public: bool,
    /// The key that signs for it.
    pub key: String,
    /// Where it may be called back.
    pub redirects: Vec<String>,
    assignments: Vec<String>,
    /// How long its ID tokens are good, in seconds.
    pub id_ttl: u64,
    /// How long its access tokens are good, in seconds.
    pub access_ttl: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Scope {
    template: String,
    description: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Assignment {
    entities: Vec<String>,
    groups: Vec<String>,
}

/// Returns where a thing of a kind stands.
pub fn at(kind: &str, name: &str) -> String {
    format!("oidc/{kind}/{name}")
}

fn at_id(id: &str) -> String {
    format!("oidc/client-id/{id}")
}

/// Returns a provider.
pub fn find(ctx: &mut Context<'_, '_>, name: &str) -> Result<Option<Provider>, Refusal> {
    let found = ctx.load(&at("provider", name))?;
    if found.is_none() && name == DEFAULT {
        return Ok(Some(Provider {
            clients: vec!["*".to_owned()],
            ..Provider::default()
        }));
    }
    Ok(found)
}

/// Returns the issuer that a provider's tokens name.
pub fn issuer(
    ctx: &mut Context<'_, '_>,
    name: &str,
    provider: &Provider,
) -> Result<String, Refusal> {
    let base = if provider.issuer.is_empty() {
        config(ctx)?
    } else {
        provider.issuer.clone()
    };
    Ok(format!("{base}/v1/identity/oidc/provider/{name}"))
}

/// Returns the client with this id.
pub fn client(ctx: &mut Context<'_, '_>, id: &str) -> Result<Option<Client>, Refusal> {
    if id.is_empty() || ENTRY_BYTES_MAX < id.len() {
        return Ok(None);
    }
    match ctx.load::<String>(&at_id(id))? {
        Some(name) => ctx.load(&at("client", &name)),
        None => Ok(None),
    }
}

/// Returns the clients that a named key signs for, and how long their ID tokens are good.
pub fn clients_of_key(ctx: &mut Context<'_, '_>, key: &str) -> Result<Vec<(String, u64)>, Refusal> {
    let mut found = Vec::new();
    for (name, client) in clients(ctx)? {
        if client.key == key {
            found.push((name, client.id_ttl));
        }
    }
    Ok(found)
}

fn clients(ctx: &mut Context<'_, '_>) -> Result<Vec<(String, Client)>, Refusal> {
    let mut found = Vec::new();
    for name in ctx.keys("oidc/client/")? {
        if let Some(client) = ctx.load(&at("client", &name))? {
            found.push((name, client));
        }
    }
    Ok(found)
}

/// Returns whether an entity may log in to a client.
pub fn admits(
    ctx: &mut Context<'_, '_>,
    client: &Client,
    entity: &EntityFacts,
) -> Result<bool, Refusal> {
    for name in &client.assignments {
        if name == ALLOW_ALL {
            return Ok(true);
        }
        let Some(assignment) = ctx.load::<Assignment>(&at("assignment", name))? else {
            continue;
        };
        let in_group = |group: &String| entity.groups.iter().any(|it| it.id == *group);
        if assignment.entities.contains(&entity.id) || assignment.groups.iter().any(in_group) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the claims that scopes add for an entity; `Err` inside names two that both set one.
pub fn claims_of(
    ctx: &mut Context<'_, '_>,
    scopes: &[String],
    entity: &EntityFacts,
) -> Result<Result<Map<String, Value>, String>, Refusal> {
    let mut claims = Map::new();
    for name in scopes {
        let Some(scope) = ctx.load::<Scope>(&at("scope", name))? else {
            continue;
        };
        let told = match oidc::template::claims(&scope.template, entity, ctx.now()) {
            Ok(told) => told,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for (claim, value) in told {
            if claims.insert(claim.clone(), value).is_some() {
                return Ok(Err(format!(
                    "found scopes with conflicting top-level keys: {claim:?} in {name:?}"
                )));
            }
        }
    }
    Ok(Ok(claims))
}

pub(super) fn list(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    kind: &str,
) -> Result<Answer, Refusal> {
    let mut names = ctx.keys(&at(kind, ""))?;
    match kind {
        "provider" => names.push(DEFAULT.to_owned()),
        "assignment" => names.push(ALLOW_ALL.to_owned()),
        _ => {}
    }
    names.sort();
    names.dedup();
    let mut info = Map::new();
    match kind {
        "provider" => {
            let wanted = call.fields().text("allowed_client_id")?.unwrap_or_default();
            let mut kept = Vec::new();
            for name in names {
                let Some(provider) = find(ctx, &name)? else {
                    continue;
                };
                if wanted.is_empty() || provider.serves(&wanted) {
                    info.insert(name.clone(), shown_provider(ctx, &name, &provider)?);
                    kept.push(name);
                }
            }
            names = kept;
        }
        "client" => {
            for (name, client) in clients(ctx)? {
                let mut shown = shown_client(&client);
                if let Some(shown) = shown.as_object_mut() {
                    shown.remove("client_secret");
                }
                info.insert(name, shown);
            }
        }
        _ => return Answer::keys(names),
    }
    crate::core::engines::identity::listed(names, info)
}

fn shown_provider(
    ctx: &mut Context<'_, '_>,
    name: &str,
    provider: &Provider,
) -> Result<Value, Refusal> {
    Ok(json!({
        "issuer": issuer(ctx, name, provider)?,
        "allowed_client_ids": provider.clients,
        "scopes_supported": provider.scopes,
    }))
}

fn shown_client(client: &Client) -> Value {
    let mut shown = json!({
        "redirect_uris": client.redirects,
        "assignments": client.assignments,
        "key": client.key,
        "id_token_ttl": client.id_ttl,
        "access_token_ttl": client.access_ttl,
        "client_id": client.id,
        "client_type": if client.public { "public" } else { "confidential" },
    });
    if !client.public {
        shown["client_secret"] = client.secret.as_str().into();
    }
    shown
}

pub(super) fn decide(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    kind: &str,
    name: &str,
) -> Result<Answer, Refusal> {
    match (call.operation, kind) {
        (Operation::Read, "provider") => {
            let provider = find(ctx, name)?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(shown_provider(ctx, name, &provider)?))
        }
        (Operation::Read, "client") => {
            let client: Client = ctx.load(&at(kind, name))?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(shown_client(&client)))
        }
        (Operation::Read, "scope") => {
            let scope: Scope = ctx.load(&at(kind, name))?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(json!({
                "template": scope.template,
                "description": scope.description,
            })))
        }
        (Operation::Read, _) if name == ALLOW_ALL => Ok(Answer::json(
            json!({ "entity_ids": ["*"], "group_ids": ["*"] }),
        )),
        (Operation::Read, _) => {
            let found: Assignment = ctx.load(&at(kind, name))?.ok_or(Refusal::Absent)?;
            Ok(Answer::json(json!({
                "entity_ids": found.entities,
                "group_ids": found.groups,
            })))
        }
        (Operation::Create | Operation::Update, kind) => {
            if ctx.get(&at(kind, name))?.is_none() {
                room(ctx, &at(kind, ""))?;
            }
            match kind {
                "provider" => write_provider(ctx, call, name),
                "client" => write_client(ctx, call, name),
                "scope" => write_scope(ctx, call, name),
                _ => write_assignment(ctx, call, name),
            }
        }
        (Operation::Delete, kind) => delete(ctx, kind, name),
        (Operation::List | Operation::Patch, _) => Err(Refusal::UnsupportedOperation),
    }
}

/// Takes a list from a call, each entry once.
fn list_of(call: &Call<'_>, name: &str) -> Result<Option<Vec<String>>, Refusal> {
    let Some(mut list) = call.fields().list(name)? else {
        return Ok(None);
    };
    if LIST_MAX < list.len() || list.iter().any(|it| ENTRY_BYTES_MAX < it.len()) {
        return Err(Refusal::invalid(format!(
            "{name} has more than {LIST_MAX} entries, or one longer than {ENTRY_BYTES_MAX} bytes"
        )));
    }
    list.sort();
    list.dedup();
    Ok(Some(list))
}

fn write_provider(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    let mut provider = find(ctx, name)?.unwrap_or_default();
    let mut answer = Answer::done();
    if let Some(issuer) = given_issuer(call)? {
        if !issuer.is_empty() {
            answer = answer.warn(ISSUER_SET);
        }
        provider.issuer = issuer;
    }
    if let Some(clients) = list_of(call, "allowed_client_ids")? {
        provider.clients = clients;
    }
    if let Some(scopes) = list_of(call, "scopes_supported")? {
        for scope in &scopes {
            if ctx.get(&at("scope", scope))?.is_none() {
                return Err(Refusal::invalid(format!("scope {scope:?} does not exist")));
            }
        }
        provider.scopes = scopes;
    }
    ctx.save(&at("provider", name), &provider)?;
    Ok(answer)
}

fn write_scope(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    if name == OPENID {
        return Err(Refusal::invalid(format!(
            "the {name:?} scope name is reserved"
        )));
    }
    let fields = call.fields();
    let mut scope: Scope = ctx.load(&at("scope", name))?.unwrap_or_default();
    if let Some(given) = fields.text("template")? {
        scope.template = tokens::checked_template(ctx, given)?;
    }
    if let Some(description) = fields.text("description")? {
        if ENTRY_BYTES_MAX < description.len() {
            return Err(Refusal::invalid("description is too long"));
        }
        scope.description = description;
    }
    ctx.save(&at("scope", name), &scope)?;
    Ok(Answer::done())
}

fn write_assignment(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Answer, Refusal> {
    if name == ALLOW_ALL {
        return Err(Refusal::invalid(format!(
            "modification of assignment {name:?} not allowed"
        )));
    }
    let mut found: Assignment = ctx.load(&at("assignment", name))?.unwrap_or_default();
    let lower = |ids: Vec<String>| ids.into_iter().map(|id| id.to_lowercase()).collect();
    if let Some(ids) = list_of(call, "entity_ids")? {
        found.entities = lower(ids);
    }
    if let Some(ids) = list_of(call, "group_ids")? {
        found.groups = lower(ids);
    }
    ctx.save(&at("assignment", name), &found)?;
    Ok(Answer::done())
}

fn write_client(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let old: Option<Client> = ctx.load(&at("client", name))?;
    let is_new = old.is_none();
    let kind = fields.text("client_type")?.filter(|it| !it.is_empty());
    let public = match kind.as_deref() {
        None => old.as_ref().is_some_and(|client| client.public),
        Some("confidential") => false,
        Some("public") => true,
        Some(other) => return Err(Refusal::invalid(format!("invalid client_type {other:?}"))),
    };
    let mut client = match old {
        Some(client) if client.public != public => {
            return Err(Refusal::invalid("client_type modification is not allowed"));
        }
        Some(client) => client,
        None => Client {
            id: ctx.entropy().base62(CLIENT_LETTERS),
            secret: if public {
                String::new()
            } else {
                format!("hvo_secret_{}", ctx.entropy().base62(SECRET_LETTERS))
            },
            public,
            key: keys::DEFAULT.to_owned(),
            redirects: Vec::new(),
            assignments: Vec::new(),
            id_ttl: TTL_DEFAULT,
            access_ttl: TTL_DEFAULT,
        },
    };
    if let Some(key) = fields.text("key")?.filter(|key| !key.is_empty()) {
        if !is_new && client.key != key {
            return Err(Refusal::invalid("key modification is not allowed"));
        }
        client.key = key;
    }
    if let Some(redirects) = list_of(call, "redirect_uris")? {
        client.redirects = redirects;
    }
    if let Some(assignments) = list_of(call, "assignments")? {
        for name in assignments.iter().filter(|name| *name != ALLOW_ALL) {
            if ctx.get(&at("assignment", name))?.is_none() {
                return Err(Refusal::invalid(format!(
                    "assignment {name:?} does not exist"
                )));
            }
        }
        client.assignments = assignments;
    }
    for (name, ttl) in [
        ("id_token_ttl", &mut client.id_ttl),
        ("access_token_ttl", &mut client.access_ttl),
    ] {
        if let Some(given) = fields.duration(name)? {
            *ttl = given.as_secs().min(TTL_MAX);
        }
    }
    let key = if client.key == keys::DEFAULT {
        keys::ready(ctx, &client.key)?
    } else {
        keys::find(ctx, &client.key)?
    };
    let Some(key) = key else {
        return Err(Refusal::invalid(format!(
            "key {:?} does not exist",
            client.key
        )));
    };
    if key.verification_ttl < client.id_ttl {
        return Err(Refusal::invalid(
            "a client's id_token_ttl cannot be greater than the verification_ttl of the key it \
             references",
        ));
    }
    ctx.save(&at_id(&client.id), &name)?;
    ctx.save(&at("client", name), &client)?;
    Ok(Answer::done())
}

fn delete(ctx: &mut Context<'_, '_>, kind: &str, name: &str) -> Result<Answer, Refusal> {
    match kind {
        "provider" if name == DEFAULT => {
            return Err(Refusal::invalid(format!(
                "deletion of OIDC provider {name:?} not allowed"
            )));
        }
        "assignment" if name == ALLOW_ALL => {
            return Err(Refusal::invalid(format!(
                "deletion of assignment {name:?} not allowed"
            )));
        }
        "client" => {
            if let Some(client) = ctx.load::<Client>(&at(kind, name))? {
                ctx.delete(&at_id(&client.id));
            }
        }
        _ => {}
    }
    let users = users_of(ctx, kind, name)?;
    if !users.is_empty() {
        let by = if kind == "scope" {
            "providers"
        } else {
            "clients"
        };
        return Err(Refusal::invalid(format!(
            "unable to delete {kind} {name:?} because it is currently referenced by these {by}: {}",
            users.join(", ")
        )));
    }
    ctx.delete(&at(kind, name));
    Ok(Answer::done())
}

fn users_of(ctx: &mut Context<'_, '_>, kind: &str, name: &str) -> Result<Vec<String>, Refusal> {
    let mut users = Vec::new();
    match kind {
        "scope" => {
            for user in ctx.keys("oidc/provider/")? {
                let provider: Option<Provider> = ctx.load(&at("provider", &user))?;
                if provider.is_some_and(|it| it.scopes.iter().any(|scope| scope == name)) {
                    users.push(user);
                }
            }
        }
        "assignment" => {
            for (user, client) in clients(ctx)? {
                if client.assignments.iter().any(|it| it == name) {
                    users.push(user);
                }
            }
        }
        _ => {}
    }
    Ok(users)
}

/// Answers with what a program needs to know of a provider (OpenID Connect Discovery 1.0, section 3).
pub(super) fn discovery(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let provider = find(ctx, name)?.ok_or(Refusal::Absent)?;
    let issuer = issuer(ctx, name, &provider)?;
    let mut scopes = provider.scopes.clone();
    scopes.push(OPENID.to_owned());
    Ok(bare(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/keys"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "id_token_signing_alg_values_supported": jwk::Algorithm::NAMES,
        "scopes_supported": scopes,
        "claims_supported": [],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "grant_types_supported": ["authorization_code"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "token_endpoint_auth_methods_supported": [
            "none", "client_secret_basic", "client_secret_post",
        ],
    })))
}

/// Answers with the public keys of the clients that a provider serves.
pub(super) fn published(ctx: &mut Context<'_, '_>, name: &str) -> Result<Answer, Refusal> {
    let provider = find(ctx, name)?.ok_or(Refusal::Absent)?;
    let served = clients(ctx)?;
    let mut names: Vec<String> = served
        .into_iter()
        .filter(|(_, client)| provider.serves(&client.id))
        .map(|(_, client)| client.key)
        .collect();
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        found.extend(keys::find(ctx, &name)?);
    }
    Ok(oidc::published(ctx, &found))
}
