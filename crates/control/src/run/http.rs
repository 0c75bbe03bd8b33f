//! Vault's HTTP API: requests in, responses out.

mod answering;
pub(crate) mod reading;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, StatusCode, Version};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::path::ApiPath;
use crate::core::pipeline::{Envelope, Shape};
use crate::core::refusal::Refusal;
use crate::core::reply::{Step, StepKind};
use crate::core::request::{Peer, Request};
use crate::run::gate::Phase;
use crate::run::gate::answers::{self, Answered};
use crate::run::gate::ceremony;
use crate::run::listen::Front;
use crate::run::plane::Plane;
use crate::run::sources::Load;
pub(crate) use answering::Refused;
pub use answering::too_many;
use answering::{answer, respond, with_body};
use reading::{parse, query};

/// Largest body, in bytes: twice the largest value.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Largest body at the door facing the world, in bytes: a report of some hundred containers.
const CHANNEL_BODY_BYTES_MAX: usize = 64 << 10;
/// How long a request may take once it is read.
const REQUEST_SECS_MAX: u64 = 90;

/// Which paths a listener lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// All: the API on loopback and mesh. Bodies may have so many bytes.
    Api(usize),
    /// Join, renew, watch and leave: what faces the world.
    Channel,
}

/// What the door facing the world lets through.
const CHANNEL_PATHS: &[&str] = &[LOGIN, "mesh/renew", "mesh/watch", "mesh/leave"];
/// The one path where what a stranger brings can be good.
pub const LOGIN: &str = "auth/join/login";

impl Door {
    /// The API, with bodies as large as they are where nothing is said.
    pub const API: Self = Self::Api(BODY_BYTES_MAX);

    fn admits(self, path: &ApiPath) -> bool {
        match self {
            Self::Api(_) => true,
            Self::Channel => CHANNEL_PATHS.contains(&path.as_str()),
        }
    }

    fn body_bytes_max(self) -> usize {
        match self {
            Self::Api(bytes) => bytes,
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

/// Returns the status that a healthy server answers `sys/health` with.
fn health_codes(text: Option<&str>) -> StatusCode {
    query(text.unwrap_or_default())
        .ok()
        .and_then(|query| query.get("activecode")?.as_str()?.parse().ok())
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::OK)
}
