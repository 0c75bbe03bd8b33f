//! The disk: nothing of a secret on it, and a full one refuses.

use std::path::Path;
use std::process::Command;

use bastide_api::ClusterId;
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::server::{Server, ServerConfig};
use serde_json::{Map, Value, json};

use crate::{config, skipped};

const CANARY: &str = "canary-51c7e0-never-in-clear";
/// A text that stands in clear by design: paths do.
const CONTROL: &str = "control-path-90ab11";

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => panic!("fields are an object"),
    }
}

/// Counts the files below `folder` that hold `needle`.
fn holding(folder: &Path, needle: &str) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found += holding(&path, needle);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let needle = needle.as_bytes();
            found += usize::from(bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_stands_in_clear_in_store_or_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ClusterId::from_bytes([4; 16]);
    let config = config(folder.path());
    let (server, root) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    let root = root.unwrap();
    let plane = server.plane().clone();
    let path = format!("secret/data/{CONTROL}");
    let data = fields(json!({ "data": { "password": CANARY } }));
    plane.ask(Operation::Update, &path, data).await.unwrap();
    plane.ask(Operation::Read, &path, Map::new()).await.unwrap();
    let user = fields(json!({ "type": "userpass" }));
    plane
        .ask(Operation::Update, "sys/auth/userpass", user)
        .await
        .unwrap();
    let user = fields(json!({ "password": CANARY }));
    plane
        .ask(Operation::Update, "auth/userpass/users/ada", user.clone())
        .await
        .unwrap();
    let login = plane
        .ask(Operation::Update, "auth/userpass/login/ada", user)
        .await
        .unwrap();
    let token = login.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(plane);
    server.stop().await;
    assert_eq!(
        holding(folder.path(), CONTROL),
        2,
        "the search finds what is in clear"
    );
    for secret in [CANARY, token.as_str(), root.expose()] {
        assert_eq!(holding(folder.path(), secret), 0);
    }
    let again = Server::start(&config, cluster, Registry::built_in()).unwrap();
    assert!(again.1.is_none());
    let found = again
        .0
        .plane()
        .ask(Operation::Read, &path, Map::new())
        .await
        .unwrap();
    assert_eq!(found.data.unwrap()["data"]["password"], CANARY);
    again.0.stop().await;
}

/// Runs one test of this program again, in a mount namespace with a small file system at `TINY`.
fn in_tiny_disk(test: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8m tiny \"$1\" && exec \"$2\" --exact \"$3\" --nocapture";
    let done = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("BASTIDE_TEST_TINY", folder.path())
        .output();
    match done {
        Ok(done) if done.status.success() => {
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(said.contains("1 passed"), "{said}");
            true
        }
        Ok(done) => {
            let errors = String::from_utf8_lossy(&done.stderr);
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(
                errors.contains("unshare") || errors.contains("mount:"),
                "{errors}{said}"
            );
            skipped("the right to mount a small file system");
            false
        }
        Err(_) => {
            skipped("the program unshare");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_record_finds_no_room_is_refused() {
    let Some(tiny) = std::env::var_os("BASTIDE_TEST_TINY") else {
        let name = "disk::a_request_whose_record_finds_no_room_is_refused";
        tokio::task::spawn_blocking(move || in_tiny_disk(name))
            .await
            .unwrap();
        return;
    };
    let tiny = Path::new(&tiny);
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        audit: Some(tiny.join("audit.log")),
        ..config(folder.path())
    };
    let cluster = ClusterId::from_bytes([5; 16]);
    let (server, _) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    let plane = server.plane().clone();
    let write = async |name: &str| {
        let data = fields(json!({ "data": { "x": 1 } }));
        plane
            .ask(Operation::Update, &format!("secret/data/{name}"), data)
            .await
    };
    write("before").await.unwrap();
    let ballast = tiny.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    // The page that the log ends in may still have room for some.
    let mut refused = None;
    for number in 0..200 {
        let name = format!("full-{number}");
        if write(&name).await.is_err() {
            refused = Some(name);
            break;
        }
    }
    let refused = refused.expect("a full disk refuses");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    write("after").await.unwrap();
    let read = plane
        .ask(
            Operation::Read,
            &format!("secret/data/{refused}"),
            Map::new(),
        )
        .await;
    assert!(read.is_err(), "what was refused was not done");
    drop(plane);
    server.stop().await;
    let text = std::fs::read_to_string(tiny.join("audit.log")).unwrap();
    let numbers: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(
        numbers,
        (0..numbers.len() as u64).collect::<Vec<_>>(),
        "no record is missing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_room_refuses_and_keeps_what_it_acknowledged() {
    let Some(tiny) = std::env::var_os("BASTIDE_TEST_TINY") else {
        let name = "disk::a_store_without_room_refuses_and_keeps_what_it_acknowledged";
        tokio::task::spawn_blocking(move || in_tiny_disk(name))
            .await
            .unwrap();
        return;
    };
    let tiny = Path::new(&tiny);
    let config = config(tiny);
    let cluster = ClusterId::from_bytes([6; 16]);
    let (server, _) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    let plane = server.plane().clone();
    let large = "x".repeat(64 << 10);
    let mut acknowledged = Vec::new();
    for number in 0..1000 {
        let path = format!("secret/data/{number}");
        let data = fields(json!({ "data": { "x": large } }));
        match plane.ask(Operation::Update, &path, data).await {
            Ok(_) => acknowledged.push(path),
            Err(_) => break,
        }
    }
    assert!(
        (1..1000).contains(&acknowledged.len()),
        "{} were taken",
        acknowledged.len()
    );
    server.failed().await;
    drop(plane);
    server.stop().await;
    let (server, _) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    for path in &acknowledged {
        let found = server.plane().inspect("secret/", |ctx| {
            let meta = path.replace("secret/data/", "meta/");
            Ok(ctx.get(&meta)?.is_some())
        });
        assert!(found.unwrap().1, "{path}");
    }
    server.stop().await;
}
