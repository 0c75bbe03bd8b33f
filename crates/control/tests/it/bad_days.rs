//! Bad days of the control plane's core, over the wire: what is too large, too deep, misspelt, replayed,
//! or taken away while it is used.

use std::net::SocketAddr;
use std::time::Duration;

use bastide_api::Secret;
use bastide_control::run::dev::{self, DevServer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::disk::chained;
use crate::wire::{ROOT, ask};

async fn dev() -> DevServer {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    dev::start(any, Some(Secret::new("root".to_owned())))
        .await
        .unwrap()
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Writes as root what must be accepted, and returns the answer.
async fn write(dev: &DevServer, path: &str, data: &Value) -> Value {
    let line = format!("POST /v1/{path}");
    let (status, _, body) = ask(dev.address, &line, ROOT, &data.to_string()).await;
    assert!(status == 200 || status == 204, "{path}: {status} {body}");
    if body.is_empty() {
        Value::Null
    } else {
        parsed(&body)
    }
}

/// Makes a token of one policy.
async fn token(dev: &DevServer, policy: &str) -> String {
    let made = json!({ "policies": [policy], "ttl": "1h" });
    let made = write(dev, "auth/token/create", &made).await;
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// This process's memory, in KiB: what it has, and the most it ever had.
fn memory() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_33_mb_is_refused_and_takes_no_memory() {
    let dev = dev().await;
    let chunk = vec![b'x'; 64 << 10];
    for head in [
        format!("content-length: {}", 33 << 20),
        "transfer-encoding: chunked".to_owned(),
    ] {
        // From here on the most that the process ever had is counted anew.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before, _) = memory();
        let mut stream = TcpStream::connect(dev.address).await.unwrap();
        let request = format!("POST /v1/secret/data/x HTTP/1.1\r\nhost: x\r\n{ROOT}{head}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        let send = async {
            for _ in 0..(33 << 20) / chunk.len() {
                if head.starts_with("transfer") {
                    let length = format!("{:x}\r\n", chunk.len());
                    to.write_all(length.as_bytes()).await?;
                }
                to.write_all(&chunk).await?;
                if head.starts_with("transfer") {
                    to.write_all(b"\r\n").await?;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        let mut answer = Vec::new();
        let receive = from.read_to_end(&mut answer);
        // It is answered and closed before it was sent whole, or read to its end and then refused.
        let both = async { tokio::join!(send, receive) };
        let (_, _) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("the connection is closed");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{head}: {answer:?}");
        assert!(answer.contains("http: request body too large"), "{answer}");
        let (_, peak) = memory();
        assert!(
            peak.saturating_sub(before) < 16 << 10,
            "{head}: {before} {peak} KiB"
        );
        let (status, ..) = ask(dev.address, "GET /v1/sys/health", "", "").await;
        assert_eq!(status, 200, "it still serves");
    }
    dev.server.stop().await;
}

/// Sends most of a body of 2 MB and waits for the answer, whichever comes: `None` if there is none.
async fn begin_large(to: SocketAddr, from: [u8; 4]) -> Option<(TcpStream, u16)> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let head = "POST /v1/secret/data/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n";
    let body = vec![b'x'; 1_990_000];
    let _ = stream.write_all(head.as_bytes()).await;
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 12];
    let send = async {
        let _ = writer.write_all(&body).await;
    };
    let ((), read) = tokio::join!(send, reader.read_exact(&mut answer));
    read.ok()?;
    let status = String::from_utf8_lossy(&answer[9..]).parse().unwrap();
    Some((stream, status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_never_end_take_bounded_memory_and_hold_up_no_other_source() {
    const CLIENTS: usize = 70;
    // 64 MiB for one source hold 33 of them.
    const HELD: usize = 33;
    let dev = dev().await;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, _) = memory();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(begin_large(dev.address, [127, 0, 0, 2]));
    }
    // Those that found no room are told so at once; the others wait for the rest of their bodies.
    for _ in 0..CLIENTS - HELD {
        let told = tokio::time::timeout(Duration::from_secs(60), clients.join_next());
        let told = told.await.expect("too many are held").unwrap().unwrap();
        // A connection that was cut while it still sent may have lost its answer.
        assert!(told.is_none_or(|(_, status)| status == 503));
    }
    let (_, peak) = memory();
    let grown = peak.saturating_sub(before);
    println!("{CLIENTS} bodies of 2 MB that do not end: {grown} KiB more");
    // What is held, and what the tests' own ends of the connections hold.
    assert!(
        grown < (64 << 10) + (CLIENTS << 11) + (32 << 10),
        "{grown} KiB"
    );
    let large = json!({ "data": { "a": "x".repeat(900_000) } }).to_string();
    let (status, _, body) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &large).await;
    assert_eq!(status, 200, "another source has room: {body}");
    // With their connections goes what they held.
    clients.shutdown().await;
    let again = async {
        loop {
            let (status, ..) = ask_from(dev.address, [127, 0, 0, 2], &large).await;
            if status == 200 {
                break;
            }
            assert_eq!(status, 503);
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again).await;
    again.expect("what is over is given back");
    dev.server.stop().await;
}

async fn ask_from(to: SocketAddr, from: [u8; 4], body: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST /v1/secret/data/y HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{ROOT}\
         content-length: {length}\r\n\r\n{body}"
    );
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let _ = writer.write_all(request.as_bytes()).await;
    };
    let mut answer = Vec::new();
    let ((), _) = tokio::join!(send, reader.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    // Cut while it still sent.
    (status.unwrap_or(503), text)
}

#[tokio::test]
async fn json_a_thousand_levels_deep_is_refused_whatever_it_is_made_of() {
    let dev = dev().await;
    let (open, close) = (r#"{"a":"#, "}");
    for deep in [
        format!(r#"{{"data":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000)),
        format!(r#"{{"data":{}1{}}}"#, open.repeat(1000), close.repeat(1000)),
        format!(r#"{{"data":{}"#, "[".repeat(1_000_000)),
    ] {
        let (status, _, body) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &deep).await;
        assert_eq!(status, 400, "{body}");
    }
    // Nothing at all is no field, as Vault takes it.
    let (status, ..) = ask(dev.address, "POST /v1/auth/token/lookup-self", ROOT, "null").await;
    assert_eq!(status, 200);
    let shallow = format!(
        r#"{{"data":{{"a":{}1{}}}}}"#,
        "[".repeat(20),
        "]".repeat(20)
    );
    let (status, _, body) = ask(dev.address, "POST /v1/secret/data/x", ROOT, &shallow).await;
    assert_eq!(status, 200, "{body}");
    dev.server.stop().await;
}

#[tokio::test]
async fn a_token_in_a_url_opens_nothing_and_is_recorded_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let dev = dev().await;
    let device = json!({ "type": "file", "options": { "file_path": log } });
    write(&dev, "sys/audit/file", &device).await;
    let policy = json!({ "policy": "path \"secret/*\" { policy = \"write\" }" });
    write(&dev, "sys/policies/acl/all", &policy).await;
    let good = token(&dev, "all").await;
    for line in [
        format!("GET /v1/auth/token/lookup?token={good}"),
        format!("GET /v1/auth/token/lookup/{good}"),
        format!("GET /v1/secret/data/x?token={good}"),
        format!("GET /v1/secret/data/x?x-vault-token={good}"),
        format!(
            "GET /v1/secret/data/x?X-Vault-Token={}",
            good.replace("hvs.", "%68vs%2e")
        ),
        format!("GET /v1/{good}/secret/data/x"),
        format!("POST /v1/auth/token/revoke/{good}"),
        format!("LIST /v1/secret/metadata?after={good}"),
        format!("GET /v1/secret/data/x?{good}"),
        format!("GET /v1/secret/data/x?{good}=token"),
    ] {
        for headers in ["", ROOT] {
            let (status, _, body) = ask(dev.address, &line, headers, "").await;
            assert_eq!(status, 400, "{line}: {body}");
            assert!(body.contains("a token does not belong in a URL"), "{body}");
            assert!(!body.contains(&good), "{body}");
        }
    }
    // As a field of another name it is no token, and nobody is let in.
    let (status, ..) = ask(dev.address, "GET /v1/secret/data/x?token=root", "", "").await;
    assert_eq!(status, 403);
    // In the header it is one.
    let header = format!("x-vault-token: {good}\r\n");
    let (status, ..) = ask(dev.address, "GET /v1/secret/data/x", &header, "").await;
    assert_eq!(status, 404);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("secret/data/x") && !text.contains(&good),
        "{text}"
    );
    dev.server.stop().await;
}

#[tokio::test]
async fn a_path_has_one_spelling_and_all_others_are_refused_or_other_places() {
    let dev = dev().await;
    write(&dev, "sys/mounts/kv", &json!({ "type": "kv" })).await;
    write(&dev, "kv/Name", &json!({ "which": "upper" })).await;
    write(&dev, "kv/caf%C3%A9", &json!({ "which": "composed" })).await;
    let policy = "path \"kv/*\" { capabilities = [\"read\"] } \
                  path \"kv/Name\" { capabilities = [\"deny\"] } \
                  path \"kv/caf\u{e9}\" { capabilities = [\"deny\"] }";
    write(&dev, "sys/policies/acl/most", &json!({ "policy": policy })).await;
    let token = token(&dev, "most").await;
    let header = format!("x-vault-token: {token}\r\n");
    let look = async |spelt: &str| {
        let line = format!("GET /v1/{spelt}");
        let (status, _, body) = ask(dev.address, &line, &header, "").await;
        assert!(
            !body.contains("upper") && !body.contains("composed"),
            "{spelt}: {body}"
        );
        status
    };
    // The place itself, however its letters are written, and with a slash behind it.
    for denied in [
        "kv/Name",
        "kv/%4eame",
        "kv/Name/",
        "kv/caf%c3%a9",
        "kv/caf%C3%A9/",
    ] {
        assert_eq!(look(denied).await, 403, "{denied}");
    }
    // Another place, where nothing is: letters of another case or form are other letters.
    for other in ["kv/name", "kv/Name%20", "kv/%20Name", "kv/cafe%CC%81"] {
        assert_eq!(look(other).await, 404, "{other}");
    }
    // No place at all.
    for wrong in [
        "kv/x/../Name",
        "kv/x/%2e%2e/Name",
        "kv/./Name",
        "kv//Name",
        "kv/x/..%2fName",
        "kv%2f%2fName",
        "kv/x%5c..%5cName",
        "kv/Name%00",
        "kv/Name%0a",
        "kv/%ff",
        "../v1/kv/Name",
        "kv/..",
    ] {
        assert_eq!(look(wrong).await, 400, "{wrong}");
    }
    // A mount of another case is another mount, and does not answer for this one.
    assert_eq!(look("KV/Name").await, 403);
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_changed_or_deleted_counts_from_the_next_request_on() {
    let dev = dev().await;
    let data = json!({ "data": { "a": 1 } });
    write(&dev, "secret/data/x", &data).await;
    let read = json!({ "policy": "path \"secret/data/x\" { capabilities = [\"read\"] }" });
    write(&dev, "sys/policies/acl/reader", &read).await;
    let header = format!("x-vault-token: {}\r\n", token(&dev, "reader").await);
    let status = async || {
        ask(dev.address, "GET /v1/secret/data/x", &header, "")
            .await
            .0
    };
    let narrow = json!({ "policy": "path \"secret/data/y\" { capabilities = [\"read\"] }" });
    // Others read all the while, so that what is remembered of the policies is in use.
    let (address, busy) = (dev.address, header.clone());
    let readers = (0..2).map(|_| {
        let busy = busy.clone();
        tokio::spawn(async move {
            let mut seen = [0_u32; 2];
            for _ in 0..150 {
                match ask(address, "GET /v1/secret/data/x", &busy, "").await.0 {
                    200 => seen[0] += 1,
                    403 => seen[1] += 1,
                    other => panic!("{other}"),
                }
            }
            seen
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..12 {
        assert_eq!(status().await, 200);
        let (deleted, ..) = ask(dev.address, "DELETE /v1/sys/policies/acl/reader", ROOT, "").await;
        assert_eq!(deleted, 204);
        assert_eq!(status().await, 403, "deleted while in use");
        write(&dev, "sys/policies/acl/reader", &read).await;
        assert_eq!(status().await, 200);
        write(&dev, "sys/policies/acl/reader", &narrow).await;
        assert_eq!(status().await, 403, "changed while in use");
        write(&dev, "sys/policies/acl/reader", &read).await;
    }
    let mut seen = [0; 2];
    for reader in readers {
        let [granted, denied] = reader.await.unwrap();
        seen = [seen[0] + granted, seen[1] + denied];
    }
    assert!(0 < seen[0] && 0 < seen[1], "{seen:?}");
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_racers_one_opens_a_wrapped_answer_and_the_others_show_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let dev = dev().await;
    let device = json!({ "type": "file", "options": { "file_path": log } });
    write(&dev, "sys/audit/file", &device).await;
    let data = json!({ "data": { "word": "CANARY" } });
    write(&dev, "secret/data/x", &data).await;
    let wrap = format!("{ROOT}x-vault-wrap-ttl: 2m\r\n");
    let (status, _, body) = ask(dev.address, "GET /v1/secret/data/x", &wrap, "").await;
    assert_eq!(status, 200, "{body}");
    assert!(!body.contains("CANARY"), "{body}");
    let wrapped = parsed(&body);
    let info = &wrapped["wrap_info"];
    assert_eq!(
        (&wrapped["data"], &wrapped["request_id"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!(
        (&info["ttl"], &info["creation_path"]),
        (&json!(120), &json!("secret/data/x"))
    );
    let wrapping = info["token"].as_str().unwrap().to_owned();
    let racers = (0..100).map(|racer| {
        let (address, wrapping) = (dev.address, wrapping.clone());
        tokio::spawn(async move {
            let own = format!("x-vault-token: {wrapping}\r\n");
            let line = "PUT /v1/sys/wrapping/unwrap";
            let named = json!({ "token": wrapping }).to_string();
            let (status, _, body) = if racer % 2 == 0 {
                ask(address, line, &own, "").await
            } else {
                ask(address, line, ROOT, &named).await
            };
            let refused = "wrapping token is not valid or does not exist";
            match status {
                200 => assert!(body.contains("CANARY"), "{body}"),
                400 => assert!(body.contains(refused), "{body}"),
                other => panic!("{other}: {body}"),
            }
            status
        })
    });
    let racers: Vec<_> = racers.collect();
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.unwrap() == 200);
    }
    assert_eq!(winners, 1);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(&wrapping) && !text.contains("CANARY"));
    let records = chained(std::slice::from_ref(&log));
    let tries: Vec<&Value> = records
        .iter()
        .filter(|it| it["request"]["path"] == "sys/wrapping/unwrap" && it["type"] == "response")
        .collect();
    assert_eq!(tries.len(), 100);
    let refused = tries.iter().filter(|it| it["error"] == "invalid request");
    assert_eq!(refused.count(), 99, "each replay shows");
    dev.server.stop().await;
}
