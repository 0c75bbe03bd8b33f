//! Floods that a server must bear: of wrong passwords, and of requests beyond a limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bastide_api::Secret;
use bastide_control::run::dev::{self, DevServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::wire::ask;

const ROOT: &str = "x-vault-token: root\r\n";

async fn dev() -> DevServer {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Some(Secret::new("root".to_owned()));
    dev::start(any, token).await.unwrap()
}

async fn write(address: SocketAddr, path: &str, body: &str) {
    let (status, _, text) = ask(address, &format!("POST /v1/{path}"), ROOT, body).await;
    assert!(status < 300, "{path}: {status} {text}");
}

async fn log_in(address: SocketAddr, name: &str, password: &str) -> (u16, String) {
    let line = format!("POST /v1/auth/userpass/login/{name}");
    let body = format!(r#"{{"password":"{password}"}}"#);
    let (status, _, text) = ask(address, &line, "", &body).await;
    (status, text)
}

/// Logs in with the right password from another address, and returns the status.
async fn log_in_from_elsewhere(address: SocketAddr) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let body = r#"{"password":"right"}"#;
    let request = format!(
        "POST /v1/auth/userpass/login/ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap();
    status.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_wrong_passwords_locks_one_name_and_keeps_nobody_else_out() {
    let dev = dev().await;
    let address = dev.address;
    write(address, "sys/auth/userpass", r#"{"type":"userpass"}"#).await;
    for name in ["ada", "bob"] {
        let path = format!("auth/userpass/users/{name}");
        write(address, &path, r#"{"password":"right"}"#).await;
    }
    // How long one login takes on this machine, alone.
    let begun = Instant::now();
    assert_eq!(log_in(address, "bob", "right").await.0, 200);
    let alone = begun.elapsed();
    let judged = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let storm: Vec<_> = (0..32)
        .map(|number| {
            let (judged, refused) = (Arc::clone(&judged), Arc::clone(&refused));
            tokio::spawn(async move {
                for attempt in 0..25 {
                    let guess = format!("guess {number} {attempt}");
                    match log_in(address, "Ada", &guess).await {
                        (400, _) => judged.fetch_add(1, Ordering::Relaxed),
                        (403, text) => {
                            assert!(text.contains("permission denied"), "{text}");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other:?}"),
                    };
                }
            })
        })
        .collect();
    // Bob is served meanwhile: at worst he waits for what is in the pool before him.
    let begun = Instant::now();
    assert_eq!(log_in(address, "bob", "right").await.0, 200);
    let within = begun.elapsed();
    let queue = alone.max(Duration::from_millis(20)) * 64 + Duration::from_secs(2);
    assert!(within < queue, "{within:?}, and {alone:?} alone");
    for one in storm {
        one.await.unwrap();
    }
    let (judged, refused) = (
        judged.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed),
    );
    assert_eq!(judged + refused, 32 * 25);
    // Five lock; what was in the pool by then was judged before it, or refused by it.
    assert!((5..=5 + 32).contains(&judged), "{judged} were judged");
    // The right password is not looked at either, from wherever it comes, until somebody unlocks.
    assert_eq!(log_in(address, "ada", "right").await.0, 403);
    assert_eq!(log_in_from_elsewhere(address).await, 403);
    let (status, _, text) = ask(address, "GET /v1/sys/locked-users", ROOT, "").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#""alias_identifiers":["ada"]"#), "{text}");
    let accessor = text.split("auth_userpass_").nth(1).unwrap();
    let accessor = accessor.split('"').next().unwrap();
    let unlock = format!("sys/locked-users/auth_userpass_{accessor}/unlock/ada");
    write(address, &unlock, "{}").await;
    assert_eq!(log_in(address, "ada", "right").await.0, 200);
    assert_eq!(log_in_from_elsewhere(address).await, 200);
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_a_limit_requests_are_told_when_to_come_again_and_others_pass() {
    let dev = dev().await;
    let address = dev.address;
    write(
        address,
        "sys/quotas/config",
        r#"{"enable_rate_limit_response_headers":true}"#,
    )
    .await;
    let rule = r#"{"rate":3,"interval":"60s","path":"secret/"}"#;
    write(address, "sys/quotas/rate-limit/few", rule).await;
    let read = async |path: &str| ask(address, &format!("GET /v1/{path}"), ROOT, "").await;
    for left in (0..3).rev() {
        let (status, head, _) = read("secret/data/none").await;
        assert_eq!(status, 404);
        assert!(head.contains("x-ratelimit-limit: 3"), "{head}");
        assert!(
            head.contains(&format!("x-ratelimit-remaining: {left}")),
            "{head}"
        );
    }
    let (status, head, text) = read("secret/data/none").await;
    assert_eq!(status, 429);
    assert!(
        text.contains(r#"request path \"secret/data/none\": rate limit quota exceeded"#),
        "{text}"
    );
    assert!(head.contains("retry-after: 20"), "{head}");
    // Neither a path that is no mount's nor what always passes is held up; nor is what undoes it.
    for (path, expected) in [
        ("cubbyhole/x", 404),
        ("sys/health", 200),
        ("sys/mounts", 200),
    ] {
        assert_eq!(read(path).await.0, expected, "{path}");
    }
    let (status, ..) = ask(address, "DELETE /v1/sys/quotas/rate-limit/few", ROOT, "").await;
    assert_eq!(status, 204);
    assert_eq!(read("secret/data/none").await.0, 404);
    dev.server.stop().await;
}
