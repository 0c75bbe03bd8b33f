//! Audit records: who asked what, and what became of it, without a secret.
//!
//! Lines are JSON in Vault's shape, one for the request and one for the response. Every text in
//! `data` and every token stands there as `hmac-sha256:` and the HMAC under the device's key, so that
//! an investigator who knows a value can look for it, and nobody can read it. Each line carries its
//! number and the SHA-256 of the line before, so that a cut or a change shows.

use aws_lc_rs::hmac;
use bastide_api::UnixTime;
use bastide_store::Unsealed;
use serde_json::{Map, Value, json};

use crate::core::engine::Caller;
use crate::core::mounts::Mount;
use crate::core::pipeline::Envelope;
use crate::core::refusal::Refusal;
use crate::core::reply::timestamp;
use crate::core::request::{Operation, Request};

/// What to audit of a request, in plain: to be hashed before it is stored.
pub struct Audited {
    auth: Map<String, Value>,
    request: Map<String, Value>,
    response: Option<Map<String, Value>>,
    error: Option<String>,
    clear_request: Vec<String>,
    clear_response: Vec<String>,
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Gathers what to audit.
pub fn audited(
    request: &Request,
    caller: &Caller,
    operation: Option<Operation>,
    mount: Option<&Mount>,
    outcome: &Result<Envelope, Refusal>,
) -> Audited {
    let auth = match caller {
        Caller::Nobody => json!({}),
        Caller::Program => json!({ "display_name": "bastide", "policies": ["root"] }),
        Caller::Machine(identity) => json!({
            "display_name": identity.node().to_string(),
            "token_type": "certificate",
        }),
        Caller::Token(token) => json!({
            "client_token": request.token.as_ref().map(|token| token.expose().clone()),
            "accessor": token.accessor,
            "display_name": token.display_name,
            "policies": token.policies,
            "token_policies": token.policies,
            "metadata": token.meta,
            "token_type": token.kind.as_str(),
        }),
    };
    let mut asked = object(json!({
        "id": request.id,
        "operation": operation.unwrap_or(request.operation).as_str(),
        "namespace": { "id": "root" },
        "path": request.path.to_string(),
    }));
    if let Some(mount) = mount {
        asked.insert("mount_point".into(), mount.path.as_str().into());
        asked.insert("mount_type".into(), mount.kind.as_str().into());
        asked.insert("mount_accessor".into(), mount.accessor.as_str().into());
    }
    if let Some(token) = &request.token {
        asked.insert("client_token".into(), token.expose().as_str().into());
    }
    if let Some(address) = request.peer.address {
        asked.insert("remote_address".into(), address.ip().to_string().into());
        asked.insert("remote_port".into(), address.port().into());
    }
    if !request.data.is_empty() {
        asked.insert("data".into(), Value::Object(request.data.clone()));
    }
    let config = mount.map(|mount| &mount.config);
    Audited {
        auth: object(auth),
        request: asked,
        response: outcome.as_ref().ok().map(answered),
        error: outcome.as_ref().err().map(error_text),
        clear_request: config
            .map(|it| it.audit_non_hmac_request_keys.clone())
            .unwrap_or_default(),
        clear_response: config
            .map(|it| it.audit_non_hmac_response_keys.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
impl Audited {
    /// Returns what the record says of a refusal.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

fn answered(envelope: &Envelope) -> Map<String, Value> {
    let mut answer = Map::new();
    if let Some(Value::Object(auth)) = &envelope.auth {
        answer.insert("auth".into(), Value::Object(auth.clone()));
    }
    if !envelope.lease_id.is_empty() {
        answer.insert("secret".into(), json!({ "lease_id": envelope.lease_id }));
    }
    if let Some(data) = &envelope.data {
        answer.insert("data".into(), Value::Object(data.clone()));
    }
    answer
}

/// Returns what the record says of a refusal: never what the request held.
fn error_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid(_) => "invalid request",
        Refusal::Unauthenticated | Refusal::Denied => "permission denied",
        Refusal::Forbidden(_) => "forbidden",
        Refusal::Ticket { record, .. } => record,
        Refusal::NoMember => "the node was removed",
        Refusal::Rival(_) => "another machine runs with this node's keys",
        Refusal::TooMany(_) => "too many requests",
        Refusal::Absent => "not found",
        Refusal::NoMount(_) | Refusal::UnsupportedPath => "unsupported path",
        Refusal::UnsupportedOperation => "unsupported operation",
        Refusal::MediaType => "unsupported media type",
        Refusal::Precondition(_) => "precondition failed",
        Refusal::Unavailable(_) => "unavailable",
        Refusal::NoRoom(_) => "no room",
        Refusal::Failed(_) => "failed",
        Refusal::KeyReused => "idempotency key reused",
        Refusal::Internal(_) | Refusal::Needs(_) => "internal error",
    }
    .to_owned()
}

/// Hashes values for one device, under a key of the store that is the device's own.
pub struct Hasher(hmac::Key);

impl Hasher {
    /// Derives the key of the device `salt`.
    pub fn new(barrier: &Unsealed, salt: &str) -> Self {
        let key = barrier.secret_for(&format!("audit {salt}"));
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// Returns `hmac-sha256:` and the HMAC of a text.
    pub fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!(
            "hmac-sha256:{}",
            data_encoding::HEXLOWER.encode(tag.as_ref())
        )
    }

    fn leaves(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hash(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.leaves(value)),
            Value::Object(object) => object.values_mut().for_each(|value| self.leaves(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn fields(&self, from: &mut Map<String, Value>, names: &[&str]) {
        for name in names {
            if let Some(value) = from.get_mut(*name) {
                self.leaves(value);
            }
        }
    }

    fn data(&self, from: &mut Map<String, Value>, clear: &[String]) {
        if let Some(Value::Object(data)) = from.get_mut("data") {
            for (key, value) in data.iter_mut() {
                if !clear.contains(key) {
                    self.leaves(value);
                }
            }
        }
    }
}

impl Audited {
    /// Makes the records of request and response, hashed; number and chain are still missing.
    pub fn records(mut self, now: UnixTime, hasher: &Hasher) -> [Map<String, Value>; 2] {
        let secrets = &["client_token", "accessor"];
        hasher.fields(&mut self.auth, secrets);
        hasher.fields(&mut self.request, secrets);
        hasher.data(&mut self.request, &self.clear_request);
        let record = |kind: &str| {
            let mut record = Map::new();
            record.insert("time".into(), timestamp(now).into());
            record.insert("type".into(), kind.into());
            record.insert("auth".into(), Value::Object(self.auth.clone()));
            record.insert("request".into(), Value::Object(self.request.clone()));
            if let Some(error) = &self.error {
                record.insert("error".into(), error.as_str().into());
            }
            record
        };
        let (asked, mut answered) = (record("request"), record("response"));
        if let Some(mut response) = self.response {
            hasher.data(&mut response, &self.clear_response);
            if let Some(Value::Object(auth)) = response.get_mut("auth") {
                hasher.fields(auth, secrets);
            }
            answered.insert("response".into(), Value::Object(response));
        }
        [asked, answered]
    }
}

#[cfg(test)]
mod tests;
