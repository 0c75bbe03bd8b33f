//! Vault's wire, byte by byte where clients look.

use std::net::SocketAddr;

use bastide_api::Secret;
use bastide_control::run::dev::{self, DevServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn dev() -> DevServer {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    dev::start(any, Some(Secret::new("root".to_owned())))
        .await
        .unwrap()
}

/// Sends bytes as they are, and returns status, head and body.
async fn raw(address: SocketAddr, request: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, head.to_ascii_lowercase(), body.to_owned())
}

pub(crate) async fn ask(
    address: SocketAddr,
    line: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {headers}\r\n{body}"
    );
    raw(address, request.as_bytes()).await
}

pub const ROOT: &str = "x-vault-token: root\r\n";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests and answers")]
async fn statuses_and_bodies_are_those_of_vault() {
    let dev = dev().await;
    let check = async |line: &str, headers: &str, body: &str, status: u16, has: &str| {
        let (got, head, text) = ask(dev.address, line, headers, body).await;
        assert_eq!(got, status, "{line}: {text}");
        assert!(text.contains(has), "{line}: {text:?} must hold {has:?}");
        assert!(head.contains("cache-control: no-store"), "{line}: {head}");
    };
    let denied = r#"{"errors":["permission denied"]}"#;
    check("GET /v1/sys/mounts", "", "", 403, denied).await;
    check(
        "GET /v1/sys/mounts",
        "x-vault-token: wrong\r\n",
        "",
        403,
        denied,
    )
    .await;
    check(
        "GET /v1/secret/data/none",
        ROOT,
        "",
        404,
        r#"{"errors":[]}"#,
    )
    .await;
    check("GET /v1/none", ROOT, "", 404, "no handler for route").await;
    check("GET /v1/sys/none", ROOT, "", 404, "unsupported path").await;
    check(
        "DELETE /v1/sys/health",
        ROOT,
        "",
        405,
        "unsupported operation",
    )
    .await;
    check("GET /", ROOT, "", 404, r#"{"errors":[]}"#).await;
    check(
        "LIST /v1/secret/metadata",
        ROOT,
        "",
        404,
        r#"{"errors":[]}"#,
    )
    .await;
    check(
        "PUT /v1/secret/data/a%20b",
        ROOT,
        r#"{"data":{"x":9007199254740993}}"#,
        200,
        "\"version\":1",
    )
    .await;
    check(
        "GET /v1/secret/data/a%20b",
        "authorization: Bearer root\r\n",
        "",
        200,
        "9007199254740993",
    )
    .await;
    check("LIST /v1/secret/metadata", ROOT, "", 200, r#"["a b"]"#).await;
    check(
        "GET /v1/secret/metadata?list=true",
        ROOT,
        "",
        200,
        r#"["a b"]"#,
    )
    .await;
    check(
        "GET /v1/secret/metadata?list=maybe",
        ROOT,
        "",
        400,
        "errors",
    )
    .await;
    check(
        "GET /v1/secret/data/../x",
        ROOT,
        "",
        400,
        "relative paths not supported",
    )
    .await;
    check(
        "GET /v1/secret/data/%2e%2e/x",
        ROOT,
        "",
        400,
        "relative paths not supported",
    )
    .await;
    check("GET /v1/secret//data", ROOT, "", 400, "empty segment").await;
    check(
        "GET /v1/secret/data/%00",
        ROOT,
        "",
        400,
        "control character",
    )
    .await;
    check(
        "POST /v1/secret/data/x",
        ROOT,
        "{",
        400,
        "error parsing JSON",
    )
    .await;
    check(
        "POST /v1/secret/data/x",
        ROOT,
        "[]",
        400,
        "error parsing JSON",
    )
    .await;
    check("PATCH /v1/secret/data/x", ROOT, "{}", 415, "merge-patch").await;
    let merge = "x-vault-token: root\r\ncontent-type: application/merge-patch+json\r\n";
    check(
        "PATCH /v1/secret/data/a%20b",
        merge,
        r#"{"data":{"y":1}}"#,
        200,
        "\"version\":2",
    )
    .await;
    check(
        "POST /v1/sys/policies/acl/p",
        ROOT,
        r#"{"policy":"path \"a\" {}"}"#,
        204,
        "",
    )
    .await;
    let wrap = "x-vault-token: root\r\nx-vault-wrap-ttl: 60\r\n";
    let aside = "\"creation_path\":\"secret/data/a b\"";
    check("GET /v1/secret/data/a%20b", wrap, "", 200, aside).await;
    check(
        "GET /v1/sys/health?activecode=299",
        "",
        "",
        299,
        "\"sealed\":false",
    )
    .await;
    dev.server.stop().await;
}

#[tokio::test]
async fn paths_of_sys_repeat_their_data_at_the_top() {
    let dev = dev().await;
    let (_, _, body) = ask(dev.address, "GET /v1/sys/mounts", ROOT, "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["secret/"], body["data"]["secret/"]);
    assert_eq!(body["secret/"]["options"]["version"], "2");
    let (_, _, body) = ask(dev.address, "GET /v1/secret/config", ROOT, "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body.get("max_versions").is_none());
    dev.server.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused() {
    let dev = dev().await;
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(3 << 20));
    let (status, ..) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &large).await;
    assert_eq!(status, 413);
    for deep in [
        format!(r#"{{"data":{}1{}}}"#, "[".repeat(40), "]".repeat(40)),
        format!(r#"{{"data":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000)),
        format!(r#"{{"data":[{}1]}}"#, "1,".repeat(30_000)),
    ] {
        let (status, _, body) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &deep).await;
        assert_eq!(status, 400, "{body}");
    }
    let long = format!("GET /v1/secret/data/{}", "x".repeat(2000));
    assert_eq!(ask(dev.address, &long, ROOT, "").await.0, 400);
    let stored = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(3 << 19));
    let (status, _, body) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &stored).await;
    assert_eq!(status, 400, "{body}");
    let (status, ..) = ask(dev.address, "GET /v1/sys/health", "", "").await;
    assert_eq!(status, 200, "and the server lives");
    dev.server.stop().await;
}

#[tokio::test]
async fn an_error_never_repeats_what_was_sent() {
    let dev = dev().await;
    for (line, body) in [
        ("POST /v1/secret/data/x", r#"{"data":"CANARY"}"#),
        ("POST /v1/secret/data/x", r#"{"CANARY"#),
        ("POST /v1/auth/token/create", r#"{"ttl":"CANARY"}"#),
        ("POST /v1/auth/token/lookup", r#"{"token":"CANARY"}"#),
        ("POST /v1/sys/auth/up", r#"{"type":{"x":"CANARY"}}"#),
    ] {
        let (status, _, answer) = ask(dev.address, line, ROOT, body).await;
        assert!((400..500).contains(&status), "{line}: {status}");
        assert!(!answer.contains("CANARY"), "{line}: {answer}");
    }
    dev.server.stop().await;
}

/// CVE-2020-25594: statuses told strangers apart what is mounted and what is not.
#[tokio::test]
async fn a_stranger_learns_by_no_answer_what_is_mounted() {
    let dev = dev().await;
    let kind = r#"{"type":"transit"}"#;
    ask(dev.address, "POST /v1/sys/mounts/keys", ROOT, kind).await;
    let kind = r#"{"type":"userpass"}"#;
    ask(dev.address, "POST /v1/sys/auth/people", ROOT, kind).await;
    let bad = "x-vault-token: hvs.nobody\r\n";
    let merge = "content-type: application/merge-patch+json\r\n";
    let wrapped = "x-vault-wrap-ttl: 60\r\n";
    for (there, missing) in [
        ("secret/data/x", "nowhere/data/x"),
        ("secret", "nowhere"),
        ("secret/", "nowhere/"),
        ("keys/encrypt/x", "nope/encrypt/x"),
        ("keys/no/such/path", "nope/no/such/path"),
        ("auth/people/users/x", "auth/nobody/users/x"),
        ("identity/entity", "identify/entity"),
        ("cubbyhole/x", "rubbyhole/x"),
        ("sys/mounts/keys", "sys/mounts/nope"),
        (
            "sys/internal/ui/mounts/keys/x",
            "sys/internal/ui/mounts/nope/x",
        ),
        ("sys/auth/people/tune", "sys/auth/nobody/tune"),
    ] {
        for method in ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            for (query, headers, body) in [
                ("", "", ""),
                ("", bad, "{}"),
                ("", merge, r#"{"a":1}"#),
                ("", wrapped, "{}"),
                ("", "", "{"),
                ("?list=true", "", ""),
                ("?list=perhaps", bad, ""),
                ("?help=1", "", ""),
            ] {
                let answer = async |path: &str| {
                    let line = format!("{method} /v1/{path}{query}");
                    let (status, _, body) = ask(dev.address, &line, headers, body).await;
                    (status, body)
                };
                let (one, other) = (answer(there).await, answer(missing).await);
                assert_eq!(one, other, "{method} {there}{query} {headers}");
            }
        }
    }
    dev.server.stop().await;
}

#[tokio::test]
async fn many_writers_of_one_key_are_put_in_order() {
    let dev = dev().await;
    let plane = dev.server.plane().clone();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let address = dev.address;
        writers.spawn(async move {
            let body = r#"{"data":{"x":1}}"#;
            ask(address, "POST /v1/secret/data/x", ROOT, body).await
        });
    }
    let mut versions = Vec::new();
    while let Some(done) = writers.join_next().await {
        let (status, _, body) = done.unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        versions.push(body["data"]["version"].as_u64().unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
    assert!(16 <= plane.commits().borrow().0);
    dev.server.stop().await;
}

#[tokio::test]
async fn a_mount_answers_from_the_moment_it_is_made_until_it_is_removed() {
    let dev = dev().await;
    for round in 0..20 {
        let at = format!("round{round}");
        let (status, ..) = ask(dev.address, &format!("GET /v1/{at}/x"), ROOT, "").await;
        assert_eq!(status, 404);
        let kind = r#"{"type":"kv","options":{"version":1}}"#;
        let made = ask(
            dev.address,
            &format!("POST /v1/sys/mounts/{at}"),
            ROOT,
            kind,
        )
        .await;
        assert_eq!(made.0, 204, "{}", made.2);
        let put = ask(dev.address, &format!("POST /v1/{at}/x"), ROOT, r#"{"a":1}"#).await;
        assert_eq!(put.0, 204, "{}", put.2);
        let gone = ask(
            dev.address,
            &format!("DELETE /v1/sys/mounts/{at}"),
            ROOT,
            "",
        )
        .await;
        assert_eq!(gone.0, 204, "{}", gone.2);
        let (status, _, body) = ask(dev.address, &format!("GET /v1/{at}/x"), ROOT, "").await;
        assert!(
            status == 404 && body.contains("no handler for route"),
            "{status} {body}"
        );
    }
    dev.server.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_is_good_for_one_request_and_its_repetitions() {
    let dev = dev().await;
    let write = async |key: &str, body: &str| {
        let headers = format!("{ROOT}idempotency-key: {key}\r\n");
        let (status, _, text) = ask(dev.address, "POST /v1/secret/data/k", &headers, body).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        (status, body)
    };
    let one = r#"{"data":{"a":"1"}}"#;
    for _ in 0..3 {
        let (status, body) = write("\"0a9c\"", one).await;
        assert_eq!((status, &body["data"]["version"]), (200, &1.into()));
    }
    let (status, body) = write("0a9c", r#"{"data":{"a":"2"}}"#).await;
    assert_eq!(status, 422, "{body}");
    let said = body["errors"][0].as_str().unwrap();
    assert!(said.contains("draw a new one"), "{said}");
    for bad in ["", "two words", &"x".repeat(256)] {
        assert_eq!(write(bad, one).await.0, 400, "{bad}");
    }
    let (_, body) = write("another", one).await;
    assert_eq!(body["data"]["version"], 2);
}
