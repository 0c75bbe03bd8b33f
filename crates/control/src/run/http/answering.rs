//! An answer as it is written: status, headers, body.

use super::Reply;
use crate::core::pipeline::{Envelope, Response, Shape};
use crate::core::refusal::Refusal;
use crate::core::request::Peer;
use crate::run::plane::Plane;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

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
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![error.into()],
        }
    }

    pub(super) fn into_response(self) -> hyper::Response<Reply> {
        let body = json!({ "errors": self.errors });
        Self::retried(with_body(self.status, &body))
    }

    /// Says when to try again, where that makes sense.
    pub(super) fn retried(mut response: hyper::Response<Reply>) -> hyper::Response<Reply> {
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

pub(super) fn answer(plane: &Plane, peer: &Peer, response: Response) -> hyper::Response<Reply> {
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

pub(super) fn with_body(status: StatusCode, body: &impl Serialize) -> hyper::Response<Reply> {
    let mut text = serde_json::to_vec(body).expect("answers are plain JSON");
    text.push(b'\n');
    respond(status, Reply::Whole(Full::new(text.into())))
}

pub(super) fn respond(status: StatusCode, body: Reply) -> hyper::Response<Reply> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
