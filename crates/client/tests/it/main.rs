//! The client against small servers that misbehave on purpose.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bastide_api::Revision;
use bastide_client::{Client, ClientError, Patience, TaskGroup};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A server that answers every request with the same bytes, and counts connections and requests.
struct Canned {
    path: PathBuf,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
    _tasks: TaskGroup,
}

impl Canned {
    /// `closes`: whether it closes each connection after an answer without saying so.
    #[expect(clippy::unwrap_used, reason = "a test's set-up")]
    fn start(answer: impl Into<Vec<u8>>, closes: Closes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (connections, requests) = (Arc::default(), Arc::default());
        let counts: [Arc<AtomicUsize>; 2] = [Arc::clone(&connections), Arc::clone(&requests)];
        let answer = answer.into();
        let mut tasks = TaskGroup::new();
        tasks.spawn("server", async move {
            let mut open = TaskGroup::new();
            loop {
                let (stream, _) = listener.accept().await?;
                counts[0].fetch_add(1, Ordering::SeqCst);
                let (answer, count) = (answer.clone(), Arc::clone(&counts[1]));
                open.spawn("connection", serve(stream, answer, count, closes));
            }
            #[expect(unreachable_code, reason = "tells the error's type")]
            Ok::<(), std::io::Error>(())
        });
        Self {
            path,
            connections,
            requests,
            _folder: folder,
            _tasks: tasks,
        }
    }

    fn client(&self) -> Client {
        Client::unix(&self.path)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Never,
    AfterAnAnswer,
}

async fn serve(
    mut stream: UnixStream,
    answer: Vec<u8>,
    count: Arc<AtomicUsize>,
    closes: Closes,
) -> std::io::Result<()> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        heard.extend_from_slice(&buffer[..length]);
        // Requests of these tests have no body.
        if heard.windows(4).any(|window| window == b"\r\n\r\n") {
            heard.clear();
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&answer).await?;
            if closes == Closes::AfterAnAnswer {
                return Ok(());
            }
        }
    }
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn requests_share_one_connection() {
    let server = Canned::start(response("200 OK", r#"{"data": {"a": 1}}"#), Closes::Never);
    let client = server.client();
    for _ in 0..5 {
        assert_eq!(
            client.call("GET", "/v1/a", None).await.unwrap(),
            json!({"a": 1})
        );
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let server = Canned::start(response("200 OK", r#"{"data": 1}"#), Closes::Never);
    let patience = Patience {
        idle: Duration::ZERO,
        ..Patience::default()
    };
    let client = Client::unix_with(&server.path, patience);
    for _ in 0..3 {
        assert_eq!(client.call("GET", "/v1/a", None).await.unwrap(), json!(1));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
    assert!(
        Patience::default().idle < Duration::from_secs(10),
        "ours closes after 10 s"
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced_unseen() {
    let server = Canned::start(response("200 OK", r#"{"data": 1}"#), Closes::AfterAnAnswer);
    let client = server.client();
    for _ in 0..5 {
        assert_eq!(client.call("GET", "/v1/a", None).await.unwrap(), json!(1));
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_refusal_is_told_apart_from_silence() {
    let server = Canned::start(
        response("403 Forbidden", r#"{"errors": ["no"]}"#),
        Closes::Never,
    );
    match server.client().call("GET", "/v1/a", None).await {
        Err(error @ ClientError::Refused { .. }) => {
            assert_eq!(error.status(), Some(403));
            assert!(
                !error.is_passing() && error.to_string().ends_with(": no"),
                "{error}"
            );
        }
        other => panic!("this is a refusal: {other:?}"),
    }
    let nobody = Client::unix(&server.path.with_extension("none"));
    match nobody.call("GET", "/v1/a", None).await {
        Err(error @ ClientError::Unreachable(_)) => {
            assert!(
                error.is_passing() && error.to_string().contains("socket.none"),
                "{error}"
            );
        }
        other => panic!("nobody answers there: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_and_an_empty_one_is_null() {
    for (answer, is_valid) in [
        (response("200 OK", "not json"), false),
        ("this is not HTTP\r\n\r\n".to_owned(), false),
        (response("204 No Content", ""), true),
        (response("200 OK", "{}"), true),
    ] {
        let server = Canned::start(answer, Closes::AfterAnAnswer);
        let result = server.client().call("GET", "/v1/a", None).await;
        assert_eq!(result.is_ok(), is_valid, "{result:?}");
        assert!(!is_valid || result.unwrap().is_null());
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        answer.extend_from_slice(b"100000\r\n");
        answer.extend_from_slice(&vec![b' '; 1 << 20]);
        answer.extend_from_slice(b"\r\n");
    }
    let server = Canned::start(answer, Closes::AfterAnAnswer);
    let result = server.client().call("GET", "/v1/a", None).await;
    assert!(
        matches!(result, Err(ClientError::Answer { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_watch_of_something_else_is_an_error() {
    let server = Canned::start(
        response("200 OK", "{\"op\": \"ping\"}\nsomething\n"),
        Closes::Never,
    );
    let mut watch = server.client().watch(Revision(0)).await.unwrap();
    assert!(watch.next().await.is_ok());
    let result = watch.next().await;
    assert!(
        matches!(result, Err(ClientError::Answer { .. })),
        "{result:?}"
    );
    let refused = Canned::start(
        response("403 Forbidden", r#"{"errors": ["no"]}"#),
        Closes::Never,
    );
    let result = refused.client().watch(Revision(0)).await.err();
    assert_eq!(result.and_then(|error| error.status()), Some(403));
}

fn impatient() -> Patience {
    Patience {
        answer: Duration::from_millis(100),
        silence: Duration::from_millis(100),
        ..Patience::default()
    }
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_given_up() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Canned::start(answer, Closes::Never);
    let client = Client::unix_with(&server.path, impatient());
    let mut watch = client.watch(Revision(0)).await.unwrap();
    let result = watch.next().await;
    assert!(
        matches!(result, Err(ClientError::Unreachable(_))),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Canned::start("", Closes::Never);
    let client = Client::unix_with(&server.path, impatient());
    let result = client.call("GET", "/v1/a", None).await;
    assert!(
        matches!(result, Err(ClientError::Unreachable(_))),
        "{result:?}"
    );
}

#[test]
fn the_silence_of_a_watch_outlasts_two_pings() {
    assert!(20 <= Patience::default().silence.as_secs());
}
