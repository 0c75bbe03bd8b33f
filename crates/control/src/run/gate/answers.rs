//! What the gate answers itself, in Vault's words: whatever the phase, and all that is asked while
//! the server is sealed.

use bastide_api::Secret;
use bastide_store::{Share, Sharing};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{Gate, GateError, Phase, State, ceremony};
use crate::core::fields::parse_bool;
use crate::core::request::{Operation, Request};
use crate::run::server::{self, BY_SHARES, Made, VAULT_VERSION};

/// Longest text of a share, in bytes: twice what one has in hexadecimal.
const SHARE_TEXT_MAX: usize = 132;

/// What a sealed server says to all that it does not serve: the words that clients know.
const SEALED: &str = "Vault is sealed";

/// An answer of the gate's own.
pub(crate) type Answered = (StatusCode, Value);

/// Answers a request that does not reach the plane; `None` if it is for the plane, and there is one.
pub(crate) async fn answer(gate: &Gate, request: &Request) -> Option<Answered> {
    use Operation::{Read, Update};
    // Whoever waits holds no plane: a seal would wait for it.
    match (request.operation, request.path.as_str()) {
        (Update, "sys/init") => return Some(init(gate, &request.data).await),
        (Update, "sys/unseal") => return Some(unseal(gate, &request.data).await),
        _ => {}
    }
    let state = gate.state();
    let answered = match (request.operation, request.path.as_str()) {
        (Read, "sys/seal-status") => (StatusCode::OK, seal_status(&state)),
        (Read, "sys/init") => {
            let initialised = !matches!(state.phase, Phase::Empty);
            (StatusCode::OK, json!({ "initialized": initialised }))
        }
        _ if matches!(state.phase, Phase::Open(_)) => return None,
        (Read, "sys/health") => health(&state, &request.data),
        (Read, "sys/leader") => (StatusCode::OK, leader()),
        _ => sealed(),
    };
    Some(answered)
}

/// Answers that the server is sealed.
pub(crate) fn sealed() -> Answered {
    refuse(StatusCode::SERVICE_UNAVAILABLE, SEALED)
}

pub(crate) fn refuse(status: StatusCode, text: impl Into<String>) -> Answered {
    (status, json!({ "errors": [text.into()] }))
}

/// Returns what is answered where a step of the gate was not made.
pub(crate) fn failed(error: &GateError) -> Answered {
    let status = match error {
        GateError::Initialised
        | GateError::NotInitialised
        | GateError::NotByShares
        | GateError::Length { .. }
        | GateError::Shares(_)
        | GateError::RekeyBegun
        | GateError::NoRekey
        | GateError::Unverified
        | GateError::NoVerification
        | GateError::NotVerified
        | GateError::RootBegun
        | GateError::NoRoot
        | GateError::OtpLength
        | GateError::CancelNonce
        | GateError::Nonce
        | GateError::Unsealed => StatusCode::BAD_REQUEST,
        GateError::Failed(_) | GateError::Held => StatusCode::INTERNAL_SERVER_ERROR,
        GateError::Busy | GateError::Sealed => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, error.to_string())
}

fn seal_status(state: &State) -> Value {
    let (n, t) = match (&state.phase, state.sharing) {
        (_, Some(sharing)) => (sharing.shares(), sharing.threshold()),
        (Phase::Empty, None) => (0, 0),
        (Phase::Sealed | Phase::Open(_), None) => (1, 1),
    };
    let mut status = json!({
        "type": state.kind,
        "initialized": !matches!(state.phase, Phase::Empty),
        "sealed": !matches!(state.phase, Phase::Open(_)),
        "t": t,
        "n": n,
        "progress": state.progress,
        "nonce": state.nonce,
        "version": VAULT_VERSION,
        "build_date": "",
        "migration": false,
        "recovery_seal": state.sharing.is_some() && state.kind != BY_SHARES,
        "storage_type": state.storage,
        "removed_from_cluster": false,
    });
    if let Phase::Open(plane) = &state.phase {
        let server = plane.server();
        status["cluster_name"] = server.cluster_name.as_str().into();
        status["cluster_id"] = server.cluster_id.as_str().into();
    }
    status
}

fn health(state: &State, query: &Map<String, Value>) -> Answered {
    let (field, default, initialised) = match state.phase {
        Phase::Empty => ("uninitcode", StatusCode::NOT_IMPLEMENTED, false),
        Phase::Sealed | Phase::Open(_) => ("sealedcode", StatusCode::SERVICE_UNAVAILABLE, true),
    };
    let asked = query.get(field).and_then(Value::as_str);
    let asked = asked.and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok());
    let body = json!({
        "initialized": initialised,
        "sealed": true,
        "standby": true,
        "performance_standby": false,
        "replication_performance_mode": "unknown",
        "replication_dr_mode": "unknown",
        "server_time_utc": server::now().as_secs(),
        "version": VAULT_VERSION,
        "enterprise": false,
        "echo_duration_ms": 0,
        "clock_skew_ms": 0,
        "replication_primary_canary_age_ms": 0,
    });
    (asked.unwrap_or(default), body)
}

fn leader() -> Value {
    json!({
        "ha_enabled": false,
        "is_self": false,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
        "performance_standby": false,
        "performance_standby_last_remote_wal": 0,
    })
}

/// Finds a field whatever the case of its name, as Vault does here.
pub(super) fn field<'f>(fields: &'f Map<String, Value>, name: &str) -> Option<&'f Value> {
    let mut named = fields
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value)
}

pub(super) fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    match field(fields, name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Returns whether a field is there and says anything.
pub(super) fn is_given(fields: &Map<String, Value>, name: &str) -> bool {
    match field(fields, name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::String(text)) => !text.is_empty() && parse_bool(text) != Some(false),
        Some(_) => true,
    }
}

async fn init(gate: &Gate, fields: &Map<String, Value>) -> Answered {
    if gate.is_initialised() {
        return failed(&GateError::Initialised);
    }
    // What opens by itself has shares beside it, which Vault calls recovery keys.
    let kind = gate.state().kind;
    let (own, others) = if kind == BY_SHARES {
        ("secret", ["recovery_shares", "recovery_threshold"])
    } else {
        ("recovery", ["secret_shares", "secret_threshold"])
    };
    let foreign = ["pgp_keys", "root_token_pgp_key", "recovery_pgp_keys"];
    let foreign = foreign.iter().chain(&others);
    if let Some(name) = foreign
        .into_iter()
        .find(|name| is_given(fields, name) && number(fields, name) != Some(0))
    {
        let text = format!("parameters {name} not applicable to seal type {kind}");
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    let shares = number(fields, &format!("{own}_shares")).unwrap_or(0);
    let threshold = number(fields, &format!("{own}_threshold")).unwrap_or(0);
    let sharing = match Sharing::new(shares, threshold) {
        Ok(sharing) => sharing,
        Err(error) => {
            let text = format!("invalid seal configuration: {error}");
            return refuse(StatusCode::BAD_REQUEST, text);
        }
    };
    match gate.init(sharing).await {
        Ok(made) => (StatusCode::OK, made_json(&made, kind == BY_SHARES)),
        Err(error) => failed(&error),
    }
}

fn made_json(made: &Made, is_by_shares: bool) -> Value {
    let (hex, base64) = ceremony::keys(&made.shares);
    let root = made.root.expose();
    if is_by_shares {
        return json!({ "keys": hex, "keys_base64": base64, "root_token": root });
    }
    json!({
        "keys": [],
        "keys_base64": [],
        "recovery_keys": hex,
        "recovery_keys_base64": base64,
        "root_token": root,
    })
}

async fn unseal(gate: &Gate, fields: &Map<String, Value>) -> Answered {
    let reset = match field(fields, "reset") {
        Some(Value::Bool(reset)) => *reset,
        Some(Value::String(text)) => parse_bool(text).unwrap_or(false),
        _ => false,
    };
    let done = if reset {
        gate.reset().await
    } else {
        let Some(text) = field(fields, "key").and_then(Value::as_str) else {
            let text = "'key' must be specified in request body as JSON, or 'reset' set to true";
            return refuse(StatusCode::BAD_REQUEST, text);
        };
        let Some(share) = share(text) else {
            let text = "'key' must be a valid hex or base64 string";
            return refuse(StatusCode::BAD_REQUEST, text);
        };
        gate.unseal(share).await
    };
    match done {
        Ok(()) => (StatusCode::OK, seal_status(&gate.state())),
        Err(error) => failed(&error),
    }
}

/// Reads a share as Vault does: in hexadecimal if that gives a plausible length, else in base64.
pub(super) fn share(text: &str) -> Option<Share> {
    let text = text.trim().as_bytes();
    if text.is_empty() || SHARE_TEXT_MAX < text.len() {
        return None;
    }
    let hex = HEXLOWER_PERMISSIVE.decode(text).ok().map(Secret::new);
    let hex = hex.filter(|bytes| (16..=33).contains(&bytes.expose().len()));
    hex.or_else(|| BASE64.decode(text).ok().map(Secret::new))
}

#[cfg(test)]
mod tests;
