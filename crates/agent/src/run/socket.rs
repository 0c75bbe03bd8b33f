//! The agent's socket: what `bastide` on this host asks. Root alone may open it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bastide_api::NodeId;
use bastide_api::paths::PathAnswer;
use bastide_api::status::{RebuildPlan, Status, SwarmStatus};
use bastide_cluster::core::swarm::rebuild::Way;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::engine::Order;

/// Questions that may wait: more are refused, because the loop that answers is stuck then.
const QUESTIONS_MAX: usize = 64;

/// What the agent's loop is asked.
pub enum Question {
    /// Its picture of the cluster.
    Status(oneshot::Sender<Status>),
    /// How and why one node reaches another.
    Why {
        /// The node at which the path begins.
        from: NodeId,
        /// The node to which it leads.
        to: NodeId,
        /// What is known.
        reply: oneshot::Sender<PathAnswer>,
    },
    /// To have an image in this host's store; answers with its reference by digest.
    Image(String, oneshot::Sender<Result<String, String>>),
    /// How much of the Swarm this node's engine has.
    Swarm(oneshot::Sender<SwarmStatus>),
    /// What the engine's loop is to do.
    Order(Order),
}

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on the agent's socket `{path}`")]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens the socket; the receiver gets what is asked.
pub fn open(
    path: &std::path::Path,
) -> Result<(UnixListener, Router, mpsc::Receiver<Question>), SocketError> {
    let fail = |source| SocketError {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        bastide_linux::file::create_private_dir(folder).map_err(fail)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    // The folder is closed to others, so nobody gets in before the mode is set.
    let listener = UnixListener::bind(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let (questions, inbox) = mpsc::channel(QUESTIONS_MAX);
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/mesh/why/{from}/{to}", get(why))
        .route("/v1/images", post(image))
        .route("/v1/swarm", get(swarm))
        .route("/v1/swarm/plan", post(plan_rebuild))
        .route("/v1/swarm/rebuild", post(rebuild))
        .with_state(questions);
    Ok((listener, router, inbox))
}

/// Removes the socket, so that nobody waits for an answer of an agent that has ended, and its folder
/// if nothing else is in it.
pub fn close(path: &std::path::Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "the agent's socket was gone already");
    }
    if let Some(folder) = path.parent() {
        // It fails if it holds something of others, and then it stays.
        let _ = fs::remove_dir(folder);
    }
}

type Questions = mpsc::Sender<Question>;

async fn status(State(questions): State<Questions>) -> Response {
    match ask(&questions, Question::Status).await {
        Some(status) => data(&status),
        None => busy(),
    }
}

async fn why(
    State(questions): State<Questions>,
    Path((from, to)): Path<(NodeId, NodeId)>,
) -> Response {
    match ask(&questions, |reply| Question::Why { from, to, reply }).await {
        Some(answer) => data(&answer),
        None => busy(),
    }
}

#[derive(Deserialize)]
struct ImageBody {
    image: String,
}

async fn image(State(questions): State<Questions>, Json(body): Json<ImageBody>) -> Response {
    match ask(&questions, |reply| Question::Image(body.image, reply)).await {
        Some(Ok(reference)) => data(&json!({"reference": reference})),
        Some(Err(error)) => refused(StatusCode::NOT_FOUND, &error),
        None => busy(),
    }
}

async fn swarm(State(questions): State<Questions>) -> Response {
    match ask(&questions, Question::Swarm).await {
        Some(status) => data(&status),
        None => busy(),
    }
}

#[derive(Deserialize)]
struct RebuildBody {
    #[serde(default)]
    anew: bool,
}

async fn plan_rebuild(
    State(questions): State<Questions>,
    Json(body): Json<RebuildBody>,
) -> Response {
    let anew = body.anew;
    let order = |reply| Question::Order(Order::PlanRebuild { anew, reply });
    match ask(&questions, order).await {
        Some(Ok(plan)) => data(&RebuildPlan {
            keeps: plan.way == Way::Keep,
            now: plan.now,
            nodes: plan.nodes,
            services: plan.services,
        }),
        Some(Err(error)) => refused(StatusCode::CONFLICT, &error),
        None => busy(),
    }
}

async fn rebuild(State(questions): State<Questions>, Json(body): Json<RebuildBody>) -> Response {
    let anew = body.anew;
    let order = |reply| Question::Order(Order::Rebuild { anew, reply });
    match ask(&questions, order).await {
        Some(Ok(())) => data(&json!({})),
        Some(Err(error)) => refused(StatusCode::CONFLICT, &error),
        None => busy(),
    }
}

async fn ask<T>(
    questions: &Questions,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    questions.try_send(question(reply)).ok()?;
    answer.await.ok()
}

fn data(value: &impl serde::Serialize) -> Response {
    Json(json!({"data": value})).into_response()
}

fn busy() -> Response {
    refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is starting or ending",
    )
}

fn refused(status: StatusCode, error: &str) -> Response {
    let body: Value = json!({"errors": [error]});
    (status, Json(body)).into_response()
}
