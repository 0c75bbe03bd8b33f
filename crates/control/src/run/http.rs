//! Vault's HTTP API: requests in, responses out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use bastide_api::Secret;
use bastide_pki::x509::OCSP_BYTES_MAX;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};
use hyper::{HeaderMap, Method, StatusCode, Version};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::engines::pki::ocsp;
use crate::core::fields::{parse_bool, parse_duration};
use crate::core::idempotency::IdempotencyKey;
use crate::core::path::{ApiPath, PathError, percent_decode};
use crate::core::pipeline::{Envelope, Response, Shape};
use crate::core::refusal::Refusal;
use crate::core::reply::{Step, StepKind};
use crate::core::request::{Inside, Operation, Peer, Request};
use crate::run::form;
use crate::run::gate::Phase;
use crate::run::gate::answers::{self, Answered};
use crate::run::gate::ceremony;
use crate::run::listen::Front;
use crate::run::plane::{Plane, request_id};
use crate::run::sources::Load;

/// Largest body, in bytes: twice the largest value.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Largest body at the door facing the world, in bytes: a report of some hundred containers.
const CHANNEL_BODY_BYTES_MAX: usize = 64 << 10;
/// Deepest JSON.
const DEPTH_MAX: usize = 32;
/// Most values in one JSON body.
const VALUES_MAX: usize = 20_000;
/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 8 << 10;
/// How long a body may take.
const BODY_SECS_MAX: u64 = 30;
/// How long a request may take once it is read.
const REQUEST_SECS_MAX: u64 = 90;

/// Which paths a listener lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// All: the API on loopback and mesh.
    Api,
    /// Join, renew, watch and leave: what faces the world.
    Channel,
}

/// What the door facing the world lets through.
const CHANNEL_PATHS: &[&str] = &[LOGIN, "mesh/renew", "mesh/watch", "mesh/leave"];
/// The one path where what a stranger brings can be good.
pub const LOGIN: &str = "auth/join/login";

impl Door {
    fn admits(self, path: &ApiPath) -> bool {
        match self {
            Self::Api => true,
            Self::Channel => CHANNEL_PATHS.contains(&path.as_str()),
        }
    }

    fn body_bytes_max(self) -> usize {
        match self {
            Self::Api => BODY_BYTES_MAX,
            Self::Channel => CHANNEL_BODY_BYTES_MAX,
        }
    }
}

/// A body: whole, or a stream of lines.
pub enum Reply {
    /// Whole.
    Whole(Full<Bytes>),
    /// Lines as they come.
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Polling<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Lines(lines) => lines
                .poll_recv(cx)
                .map(|line| line.map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

/// Serves one request. Never fails: what goes wrong is an answer. Until `unknown_until` is cancelled it
/// could not be told who a client with a certificate is; afterwards he must come again.
pub async fn serve(
    front: Front,
    door: Door,
    peer: Peer,
    unknown_until: Option<CancellationToken>,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Reply> {
    let head = request.method() == Method::HEAD;
    let is_http1 = request.version() < Version::HTTP_2;
    let codes = health_codes(request.uri().query());
    // Until it is answered: what was read is in memory for as long.
    let mut load = Load::of(peer.address.map(|address| address.ip()));
    let served = match parse(door, peer, request, &mut load).await {
        Err(refused) => refused.into_response(),
        Ok(parsed) => match front.admit(&parsed, unknown_until.as_ref()).await {
            Admitted::Answered((status, body)) => Refused::retried(with_body(status, &body)),
            Admitted::Late => {
                let (status, body) = answers::sealed();
                let mut response = Refused::retried(with_body(status, &body));
                if is_http1 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            }
            Admitted::Plane(plane, turn) => {
                let served = tokio::select! {
                    biased;
                    served = ask(plane, &parsed, codes) => Some(served),
                    () = ended(turn.as_ref()) => None,
                };
                match served {
                    Some(Served::Whole(served)) => served,
                    Some(Served::Next(step)) => front.step(&parsed, step).await,
                    None => {
                        let (status, body) = answers::sealed();
                        Refused::retried(with_body(status, &body))
                    }
                }
            }
        },
    };
    if head {
        let (parts, _) = served.into_parts();
        return hyper::Response::from_parts(parts, Reply::Whole(Full::default()));
    }
    served
}

/// Waits until the phase in which a request came is over.
async fn ended(turn: Option<&CancellationToken>) {
    match turn {
        Some(turn) => turn.cancelled().await,
        None => std::future::pending().await,
    }
}

/// What the plane made of a request.
enum Served {
    /// An answer.
    Whole(hyper::Response<Reply>),
    /// Whoever asked may; it is to be done now.
    Next(Step),
}

async fn ask(plane: Plane, parsed: &Request, codes: StatusCode) -> Served {
    let health = parsed.path.as_str() == "sys/health";
    let limit = Duration::from_secs(REQUEST_SECS_MAX);
    let Ok(mut response) = tokio::time::timeout(limit, plane.call(parsed)).await else {
        let refusal = Refusal::Unavailable("request took too long".to_owned());
        return Served::Whole(Refused::from(refusal).into_response());
    };
    if let Ok(envelope) = &response.outcome
        && let Shape::Step(step) = envelope.shape
    {
        if step.kind != StepKind::Rotate {
            return Served::Next(step);
        }
        response.outcome = plane.rotate().await.map(|_| Envelope::default());
    }
    let mut response = answer(&plane, &parsed.peer, response);
    if health && response.status() == StatusCode::OK {
        *response.status_mut() = codes;
    }
    Served::Whole(response)
}

/// Where a request goes.
enum Admitted {
    /// Nowhere: it is answered.
    Answered(Answered),
    /// Nowhere: its connection is of the time before, and whose it is was not known then.
    Late,
    /// To the plane, until the token is cancelled.
    Plane(Plane, Option<CancellationToken>),
}

impl Front {
    async fn admit(
        &self,
        request: &Request,
        unknown_until: Option<&CancellationToken>,
    ) -> Admitted {
        match self {
            Self::Plane(plane) => Admitted::Plane(plane.clone(), None),
            Self::Gate(gate) => {
                if let Some(answered) = answers::answer(gate, request).await {
                    return Admitted::Answered(answered);
                }
                let state = gate.state();
                // Looked at after the state: the one before is over when this one is seen.
                let is_late = unknown_until.is_some_and(CancellationToken::is_cancelled);
                match state.phase {
                    Phase::Open(_) if is_late => Admitted::Late,
                    Phase::Open(plane) => Admitted::Plane(plane, Some(state.turn)),
                    Phase::Empty | Phase::Sealed => Admitted::Answered(answers::sealed()),
                }
            }
        }
    }

    /// Does what the plane has allowed and recorded. No plane is held here: a seal would wait for it.
    async fn step(&self, request: &Request, step: Step) -> hyper::Response<Reply> {
        let (status, body) = match (self, step.kind) {
            (Self::Plane(_), _) => {
                answers::refuse(StatusCode::BAD_REQUEST, "this server cannot be sealed")
            }
            (Self::Gate(gate), StepKind::Seal) => match gate.seal().await {
                Ok(()) => (StatusCode::NO_CONTENT, Value::Null),
                Err(error) => answers::failed(&error),
            },
            (Self::Gate(gate), kind) => ceremony::answer(gate, request, kind, step.by).await,
        };
        if status == StatusCode::NO_CONTENT {
            return respond(status, Reply::Whole(Full::default()));
        }
        Refused::retried(with_body(status, &body))
    }
}

/// Returns whether a machine wants to join.
pub fn is_login<T>(request: &hyper::Request<T>) -> bool {
    request.uri().path().strip_prefix("/v1/") == Some(LOGIN)
}

/// Answers what was refused too often.
pub fn too_many(wait: Duration) -> hyper::Response<Reply> {
    let mut response = Refused::from(Refusal::TooMany(wait)).into_response();
    let secs = wait.as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, secs.into());
    response
}

fn too_often(wait: Duration) -> String {
    let secs = wait.as_secs().max(1);
    format!("this was tried too often: try again in {secs} seconds")
}

/// A request that is refused before it is one.
pub(crate) struct Refused {
    status: StatusCode,
    errors: Vec<String>,
}

impl Refused {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![error.into()],
        }
    }

    fn into_response(self) -> hyper::Response<Reply> {
        let body = json!({ "errors": self.errors });
        Self::retried(with_body(self.status, &body))
    }

    /// Says when to try again, where that makes sense.
    fn retried(mut response: hyper::Response<Reply>) -> hyper::Response<Reply> {
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn multi(text: &str) -> String {
    format!("1 error occurred:\n\t* {text}\n\n")
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        use StatusCode as S;
        let (status, error) = match refusal {
            Refusal::Invalid(text) => (S::BAD_REQUEST, text),
            Refusal::Unauthenticated => (S::FORBIDDEN, "permission denied".to_owned()),
            Refusal::Denied | Refusal::Locked => (S::FORBIDDEN, multi("permission denied")),
            Refusal::Forbidden(text) | Refusal::Ticket { text, .. } => (S::FORBIDDEN, text),
            Refusal::NoMember => (
                S::GONE,
                "this node was removed from the cluster: to come back, `bastide down --forget`, \
                 then `bastide join -` with a new ticket"
                    .to_owned(),
            ),
            Refusal::Rival(text) => (S::CONFLICT, text),
            Refusal::Limited { path, .. } => (
                S::TOO_MANY_REQUESTS,
                format!("request path \"{path}\": rate limit quota exceeded"),
            ),
            Refusal::TooMany(wait) => (S::TOO_MANY_REQUESTS, too_often(wait)),
            Refusal::Absent => {
                return Self {
                    status: S::NOT_FOUND,
                    errors: Vec::new(),
                };
            }
            Refusal::NoMount(path) => (
                S::NOT_FOUND,
                format!("no handler for route \"{path}\". route entry not found."),
            ),
            Refusal::UnsupportedPath => (S::NOT_FOUND, multi("unsupported path")),
            Refusal::UnsupportedOperation => {
                (S::METHOD_NOT_ALLOWED, multi("unsupported operation"))
            }
            Refusal::MediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "PATCH requires Content-Type of application/merge-patch+json".to_owned(),
            ),
            Refusal::Precondition(text) => (S::PRECONDITION_FAILED, text),
            Refusal::Unavailable(text) => (S::SERVICE_UNAVAILABLE, text),
            Refusal::NoRoom(text) => (S::INSUFFICIENT_STORAGE, text),
            Refusal::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request: draw a new one".to_owned(),
            ),
            Refusal::Failed(text) => (S::INTERNAL_SERVER_ERROR, multi(&text)),
            Refusal::Internal(_) | Refusal::Needs(_) => {
                (S::INTERNAL_SERVER_ERROR, multi("internal error"))
            }
        };
        Self::new(status, error)
    }
}

async fn parse(
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

/// Returns the status that a healthy server answers `sys/health` with.
fn health_codes(text: Option<&str>) -> StatusCode {
    query(text.unwrap_or_default())
        .ok()
        .and_then(|query| query.get("activecode")?.as_str()?.parse().ok())
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::OK)
}

fn answer(plane: &Plane, peer: &Peer, response: Response) -> hyper::Response<Reply> {
    let Response {
        request_id,
        mount_kind,
        spread,
        left,
        outcome,
    } = response;
    let mut response = told(plane, peer, request_id, mount_kind, spread, outcome);
    if let Some(left) = left {
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-limit", left.limit.into());
        headers.insert("x-ratelimit-remaining", left.remaining.into());
        headers.insert("x-ratelimit-reset", left.reset.as_secs().into());
    }
    response
}

fn told(
    plane: &Plane,
    peer: &Peer,
    request_id: String,
    mount_kind: String,
    spread: bool,
    outcome: Result<Envelope, Refusal>,
) -> hyper::Response<Reply> {
    let envelope = match outcome {
        Ok(envelope) => envelope,
        Err(Refusal::TooMany(wait)) => return too_many(wait),
        Err(refusal @ Refusal::Limited { wait, .. }) => {
            let mut response = Refused::from(refusal).into_response();
            let secs = wait.as_millis().div_ceil(1000).max(1);
            let secs = u64::try_from(secs).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, secs.into());
            return response;
        }
        Err(refusal) => return Refused::from(refusal).into_response(),
    };
    let status = match &envelope.shape {
        Shape::Stream(stream) => {
            return match plane.stream(stream.clone(), peer.clone()) {
                Some(lines) => respond(StatusCode::OK, Reply::Lines(lines)),
                None => Refused::from(Refusal::Unavailable("streams are not served".to_owned()))
                    .into_response(),
            };
        }
        Shape::Bare | Shape::Told(_) => {
            let status = match envelope.shape {
                Shape::Told(code) => StatusCode::from_u16(code).unwrap_or(StatusCode::OK),
                _ => StatusCode::OK,
            };
            return with_body(status, &Value::Object(envelope.data.unwrap_or_default()));
        }
        Shape::Raw(raw) => {
            let status = if raw.body.is_empty() {
                StatusCode::NO_CONTENT
            } else {
                StatusCode::OK
            };
            let mut response = respond(status, Reply::Whole(raw.body.clone().into()));
            let kind = HeaderValue::from_static(raw.content_type);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            return response;
        }
        Shape::Step(_) => {
            let refusal = Refusal::Internal("a step was not made".to_owned());
            return Refused::from(refusal).into_response();
        }
        Shape::Accepted => StatusCode::ACCEPTED,
        Shape::Absent => StatusCode::NOT_FOUND,
        Shape::Status(code) => {
            StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Shape::Plain => StatusCode::OK,
    };
    if envelope.is_empty() {
        if status == StatusCode::OK {
            return respond(StatusCode::NO_CONTENT, Reply::Whole(Full::default()));
        }
        if status == StatusCode::ACCEPTED {
            return respond(status, Reply::Whole(Full::default()));
        }
    }
    let body = Shown {
        request_id: match envelope.wrap_info {
            Some(_) => String::new(),
            None => request_id,
        },
        lease_id: envelope.lease_id,
        renewable: envelope.renewable,
        lease_duration: envelope.lease_duration,
        data: envelope.data,
        wrap_info: envelope.wrap_info,
        warnings: (!envelope.warnings.is_empty()).then_some(envelope.warnings),
        auth: envelope.auth,
        mount_type: mount_kind,
    };
    if !spread {
        return with_body(status, &body);
    }
    let mut all = body.data.clone().unwrap_or_default();
    if let Ok(Value::Object(own)) = serde_json::to_value(&body) {
        all.extend(own);
    }
    with_body(status, &all)
}

/// The envelope, as clients of Vault read it: all of its fields, always.
#[derive(Serialize)]
struct Shown {
    request_id: String,
    lease_id: String,
    renewable: bool,
    lease_duration: u64,
    data: Option<Map<String, Value>>,
    wrap_info: Option<Value>,
    warnings: Option<Vec<String>>,
    auth: Option<Value>,
    mount_type: String,
}

fn with_body(status: StatusCode, body: &impl Serialize) -> hyper::Response<Reply> {
    let mut text = serde_json::to_vec(body).expect("answers are plain JSON");
    text.push(b'\n');
    respond(status, Reply::Whole(Full::new(text.into())))
}

fn respond(status: StatusCode, body: Reply) -> hyper::Response<Reply> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
