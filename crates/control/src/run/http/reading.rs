//! A request as it is read: path, operation, fields, token.

use super::Door;
use super::answering::Refused;
use crate::core::engines::pki::ocsp;
use crate::core::fields::{parse_bool, parse_duration};
use crate::core::idempotency::IdempotencyKey;
use crate::core::path::{ApiPath, PathError, percent_decode};
use crate::core::refusal::Refusal;
use crate::core::request::{Inside, Operation, Peer, Request};
use crate::run::form;
use crate::run::plane::request_id;
use crate::run::sources::Load;
use bastide_api::Secret;
use bastide_pki::x509::OCSP_BYTES_MAX;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value};
use std::time::Duration;

/// Deepest JSON.
const DEPTH_MAX: usize = 32;

/// Most values in one JSON body.
const VALUES_MAX: usize = 20_000;

/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 8 << 10;

/// How long a body may take.
const BODY_SECS_MAX: u64 = 30;

pub(super) async fn parse(
    door: Door,
    peer: Peer,
    request: hyper::Request<Incoming>,
    load: &mut Load,
) -> Result<Request, Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    let (head, body) = request.into_parts();
    let nothing = || Refused::from(Refusal::Absent);
    let raw = head.uri.path().strip_prefix("/v1/").ok_or_else(nothing)?;
    let (mut path, asked) = path_of(raw)?;
    if !door.admits(&path) {
        return Err(nothing());
    }
    let query = query(head.uri.query().unwrap_or_default())?;
    if holds_token(&path, &query) {
        return Err(bad(
            "a token does not belong in a URL: it stands in logs and histories now, so revoke it, \
             and send tokens in the header X-Vault-Token or in the body",
        ));
    }
    let listed = match query.get("list") {
        None => false,
        Some(value) => value
            .as_str()
            .and_then(parse_bool)
            .ok_or_else(|| bad("invalid value for query parameter `list`"))?,
    };
    let operation = match &head.method {
        &Method::GET if listed => Operation::List,
        &Method::GET | &Method::HEAD => Operation::Read,
        &Method::POST | &Method::PUT => Operation::Update,
        &Method::DELETE => Operation::Delete,
        &Method::PATCH => {
            let kind = head
                .headers
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok());
            let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
            if kind != Some("application/merge-patch+json") {
                return Err(Refusal::MediaType.into());
            }
            Operation::Patch
        }
        method if method.as_str() == "LIST" => Operation::List,
        _ => return Err(Refusal::UnsupportedOperation.into()),
    };
    let data = match operation {
        Operation::Read | Operation::List | Operation::Delete => {
            let mut data = query;
            data.remove("list");
            data
        }
        Operation::Create | Operation::Update if is_ocsp(&head.headers) => {
            let question = whole(body, OCSP_BYTES_MAX, load).await?;
            ocsp::posted(&question)
        }
        Operation::Create | Operation::Update | Operation::Patch => {
            let heads = head.headers.iter();
            let heads = heads.map(|(name, value)| name.as_str().len() + value.len());
            grow(load, heads.sum())?;
            let mut data = fields(door, &head.headers, body, load).await?;
            form::take_client(&head.headers, operation, &path, &mut data);
            data
        }
    };
    let data = match asked {
        Some(question) if operation == Operation::Read => question,
        Some(_) => return Err(bad("path holds an empty segment")),
        None => data,
    };
    if operation == Operation::List {
        path = path.into_folder();
    }
    let (token, wrap) = (token(&head.headers)?, wrap(&head.headers)?);
    let idempotency = idempotency(&head.headers)?;
    Ok(Request {
        id: request_id(),
        operation,
        path,
        data,
        headers: head.headers,
        token,
        wrap,
        idempotency,
        peer,
        inside: Inside::No,
    })
}

/// Returns whether a URL has a token in it: whatever looks like one of ours is taken for one.
fn holds_token(path: &ApiPath, query: &Map<String, Value>) -> bool {
    const LETTERS_MIN: usize = 20;
    let is_token = |text: &str| {
        let body = ["hvs.", "hvb.", "hvr."]
            .iter()
            .find_map(|it| text.strip_prefix(it));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        body.is_some_and(|body| LETTERS_MIN <= body.len() && body.chars().all(plain))
    };
    let in_value = |value: &Value| match value {
        Value::String(text) => is_token(text),
        Value::Array(values) => values.iter().any(|it| it.as_str().is_some_and(is_token)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let in_name = query.keys().any(|name| is_token(name));
    path.as_str().split('/').any(is_token) || in_name || query.values().any(in_value)
}

/// Returns the path, and the fields of a question to OCSP that stands in it: its base64 may hold two
/// slashes in a row, which no other path does.
fn path_of(raw: &str) -> Result<(ApiPath, Option<Map<String, Value>>), Refused> {
    let error = match ApiPath::decode(raw) {
        Ok(path) => return Ok((path, None)),
        Err(error) => error,
    };
    if error == PathError::EmptySegment
        && let Some((before, question)) = raw.split_once("/ocsp/")
        && let (Ok(path), Ok(question)) = (
            ApiPath::decode(&format!("{before}/ocsp")),
            percent_decode(question),
        )
    {
        return Ok((path, Some(ocsp::asked(question))));
    }
    Err(Refused::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Whether a body is a question to OCSP (RFC 6960, appendix A.1), and no JSON.
fn is_ocsp(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/ocsp-request")
}

async fn fields(
    door: Door,
    headers: &HeaderMap,
    body: Incoming,
    load: &mut Load,
) -> Result<Map<String, Value>, Refused> {
    let bytes = whole(body, door.body_bytes_max(), load).await?;
    if form::is_form(headers, &bytes) {
        let wrong = || Refused::new(StatusCode::BAD_REQUEST, "error parsing form data");
        return form::fields(&bytes).ok_or_else(wrong);
    }
    read_fields(&bytes)
}

/// Reads a body of at most so many bytes.
async fn whole(body: Incoming, bytes_max: usize, load: &mut Load) -> Result<Bytes, Refused> {
    let limit = Duration::from_secs(BODY_SECS_MAX);
    let read = pieces(body, bytes_max, load);
    let read = tokio::time::timeout(limit, read).await.map_err(|_| {
        Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "http: request body took too long",
        )
    })?;
    let mut pieces = read?;
    Ok(match pieces.len() {
        0 | 1 => pieces.pop().unwrap_or_default(),
        _ => pieces.concat().into(),
    })
}

async fn pieces(body: Incoming, bytes_max: usize, load: &mut Load) -> Result<Vec<Bytes>, Refused> {
    let mut body = Limited::new(body, bytes_max);
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                let text = "http: request body too large";
                return Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            let text = "http: request body could not be read";
            Refused::new(StatusCode::BAD_REQUEST, text)
        })?;
        if let Ok(piece) = frame.into_data() {
            grow(load, piece.len())?;
            pieces.push(piece);
        }
    }
    Ok(pieces)
}

fn grow(load: &mut Load, bytes: usize) -> Result<(), Refused> {
    if load.grow(bytes) {
        return Ok(());
    }
    let text = "too much is being sent at once".to_owned();
    Err(Refusal::Unavailable(text).into())
}

/// Reads the fields of a body; of nothing but white space, none.
pub(crate) fn read_fields(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    // What is wrong with it is not shown: it may hold secrets.
    let value = serde_json::from_slice(bytes).map_err(|_| bad("error parsing JSON"))?;
    let fields = match value {
        Value::Object(fields) => fields,
        // Vault's Go client sends it where it has nothing to send.
        Value::Null => return Ok(Map::new()),
        _ => return Err(bad("error parsing JSON: expected an object")),
    };
    let mut left = VALUES_MAX;
    let measured = fields
        .values()
        .try_for_each(|value| measure(value, DEPTH_MAX, &mut left));
    measured.map_err(bad)?;
    Ok(fields)
}

fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), &'static str> {
    if depth == 0 {
        return Err("JSON is nested too deeply");
    }
    *left = left.checked_sub(1).ok_or("JSON holds too many values")?;
    match value {
        Value::Array(values) => values
            .iter()
            .try_for_each(|it| measure(it, depth - 1, left)),
        Value::Object(object) => object
            .values()
            .try_for_each(|it| measure(it, depth - 1, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

pub(crate) fn query(text: &str) -> Result<Map<String, Value>, Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    if QUERY_BYTES_MAX < text.len() {
        return Err(bad("query is too long"));
    }
    let mut fields = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let (Ok(key), Ok(value)) = (decode(key), decode(value)) else {
            return Err(bad("query is not valid"));
        };
        match fields.get_mut(&key) {
            None => {
                fields.insert(key, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    Ok(fields)
}

fn token(headers: &HeaderMap) -> Result<Option<Secret<String>>, Refused> {
    let bad = || {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "token header is not printable text",
        )
    };
    if let Some(token) = headers.get("x-vault-token") {
        let token = token.to_str().map_err(|_| bad())?;
        return Ok((!token.is_empty()).then(|| Secret::new(token.to_owned())));
    }
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| bad())?;
    let token = value
        .strip_prefix("Bearer ")
        .map(|token| Secret::new(token.trim().to_owned()));
    Ok(token.filter(|token| !token.expose().is_empty()))
}

fn wrap(headers: &HeaderMap) -> Result<Option<Duration>, Refused> {
    let Some(value) = headers
        .get("x-vault-wrap-ttl")
        .filter(|value| !value.is_empty())
    else {
        return Ok(None);
    };
    let bad = || {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "X-Vault-Wrap-TTL is not a duration",
        )
    };
    let ttl = value
        .to_str()
        .ok()
        .and_then(parse_duration)
        .ok_or_else(bad)?;
    Ok((!ttl.is_zero()).then_some(ttl))
}

fn idempotency(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Refused> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let parsed = IdempotencyKey::parse(value.to_str().unwrap_or_default());
    parsed
        .map(Some)
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))
}
