//! The disk: nothing of a secret on it, a full one refuses, and what becomes of the audit file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bastide_api::ClusterId;
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::outbox::AuditTo;
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

/// Runs one test of this program again, in a mount namespace with a small file system at
/// `BASTIDE_TEST_TINY`.
fn in_tiny_disk(test: &str, disk: Disk) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mount = match disk {
        Disk::Memory(size) => format!("mount -t tmpfs -o size={size} tiny \"$1\""),
        Disk::Ext4(size) => format!(
            "truncate -s {size} \"$1.img\" && mkfs.ext4 -q -m 0 \"$1.img\" \
             && mount -o loop \"$1.img\" \"$1\""
        ),
    };
    let script = format!("{mount} && exec \"$2\" --exact \"$3\" --nocapture");
    let mountpoint = folder.path().join("disk");
    std::fs::create_dir(&mountpoint).unwrap();
    let done = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(&mountpoint)
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(TINY, &mountpoint)
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
                ["unshare: ", "mount: ", "mkfs.ext4: not found"]
                    .iter()
                    .any(|why| errors.contains(why)),
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

/// A small file system, and its size.
#[derive(Clone, Copy)]
pub(crate) enum Disk {
    Memory(&'static str),
    /// On a loop device, where this machine has them.
    Ext4(&'static str),
}

/// Where the small file system is, in the namespace that has one.
const TINY: &str = "BASTIDE_TEST_TINY";

/// Returns the small file system; outside of its namespace the test `name` is run there instead.
pub(crate) async fn tiny_disk(name: &'static str, disk: Disk) -> Option<PathBuf> {
    if let Some(tiny) = std::env::var_os(TINY) {
        return Some(tiny.into());
    }
    tokio::task::spawn_blocking(move || in_tiny_disk(name, disk))
        .await
        .unwrap();
    None
}

/// Fills a file system to its last page; dropped, it makes room again.
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    pub(crate) fn fill(disk: &Path) -> Self {
        let path = disk.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Reads an audit log: its lines in an unbroken chain from the first on.
pub(crate) fn chained(paths: &[PathBuf]) -> Vec<Value> {
    let mut previous = String::new();
    let mut records = Vec::new();
    for path in paths {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["seq"].as_u64(), Some(records.len() as u64));
            assert_eq!(record["prev"].as_str(), Some(previous.as_str()));
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
            previous = data_encoding::HEXLOWER.encode(hash.as_ref());
            records.push(record);
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_file_without_room_takes_what_was_paid_ahead_then_refuses_then_goes_on() {
    let name =
        "disk::an_audit_file_without_room_takes_what_was_paid_ahead_then_refuses_then_goes_on";
    let Some(tiny) = tiny_disk(name, Disk::Memory("2m")).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let log = tiny.join("audit.log");
    let config = ServerConfig {
        audit: Some(AuditTo {
            path: log.clone(),
            ahead_bytes: 128 << 10,
        }),
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
    let ballast = Ballast::fill(&tiny);
    let (mut taken, mut refused) = (0, None);
    for number in 0..2000 {
        let name = format!("full-{number}");
        match write(&name).await {
            Ok(_) => taken += 1,
            Err(why) => {
                refused = Some((name, format!("{why:?}")));
                break;
            }
        }
    }
    let (refused, why) = refused.expect("a full disk refuses in the end");
    assert!(30 < taken, "what was allocated ahead was used: {taken}");
    assert!(why.contains("the audit device takes no records"), "{why}");
    // What keeps alive or ends what is there still goes on, from the part that is kept for it.
    for number in 0..20 {
        let path = format!("secret/data/full-{number}");
        plane
            .ask(Operation::Delete, &path, Map::new())
            .await
            .unwrap();
    }
    drop(ballast);
    until("writes go on by themselves", async || {
        write("after").await.is_ok()
    })
    .await;
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
    let records = chained(&[log]);
    let done = records.iter().filter(|record| {
        let path = record["request"]["path"].as_str().unwrap_or_default();
        record["type"] == "response"
            && path.starts_with("secret/data/full-")
            && record["request"]["operation"] == "create"
    });
    assert_eq!(done.count(), taken, "each has its record, and no other");
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let by = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < by, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_deleted_a_cut_and_a_moved_audit_file_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let cluster = ClusterId::from_bytes([8; 16]);
    let config = config(folder.path());
    let (server, _) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    let plane = server.plane().clone();
    let mut next = 0;
    let mut write = async || {
        let path = format!("secret/data/{next}");
        next += 1;
        let data = fields(json!({ "data": { "x": 1 } }));
        plane.ask(Operation::Update, &path, data).await.unwrap();
    };
    // Moved away, as logrotate does it, with writes before and after, and no word to the server.
    for _ in 0..10 {
        write().await;
    }
    let first = folder.path().join("audit.log.1");
    std::fs::rename(&log, &first).unwrap();
    for _ in 0..10 {
        write().await;
    }
    until("a moved file is made anew", async || log.exists()).await;
    // Again, and this time the server is told.
    for _ in 0..10 {
        write().await;
    }
    let second = folder.path().join("audit.log.2");
    std::fs::rename(&log, &second).unwrap();
    plane.reopen_audit().await;
    until("a file is made anew when told", async || log.exists()).await;
    for _ in 0..10 {
        write().await;
    }
    let kept = [first, second, log.clone()];
    until("all is in the files", async || last(&log) == Some(79)).await;
    assert_eq!(chained(&kept).len(), 80);
    // Deleted: what was durable went with it. Nothing after that does.
    std::fs::remove_file(&log).unwrap();
    for _ in 0..10 {
        write().await;
    }
    until(
        "a deleted file is made anew with what it missed",
        async || last(&log) == Some(99),
    )
    .await;
    assert!(numbers(&log)[0] <= 80, "{:?}", numbers(&log));
    // Cut, as copytruncate does it.
    std::fs::write(&log, "").unwrap();
    for _ in 0..10 {
        write().await;
    }
    until("a file that was cut gets what it missed", async || {
        last(&log) == Some(119)
    })
    .await;
    drop(plane);
    server.stop().await;
    let found = numbers(&log);
    assert!(found[0] <= 100, "{found:?}");
    assert!(
        found.is_sorted_by(|one, next| one + 1 == *next),
        "{found:?}"
    );
}

/// Reads the numbers of the records in an audit file.
fn numbers(log: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let number = |line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64();
    text.lines().filter_map(number).collect()
}

fn last(log: &Path) -> Option<u64> {
    numbers(log).pop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_refuses_a_store_of_a_newer_version_and_leaves_it_as_it_is() {
    use bastide_store::{Barrier, Batch, Key, Op, RedbStore, Store};
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cluster = ClusterId::from_bytes([9; 16]);
    let (server, _) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    server.stop().await;
    let path = folder.path().join("server/store.redb");
    let store = RedbStore::open(&path).unwrap();
    let header = Key::new(Barrier::TABLE, "header");
    let batch = Batch {
        compares: Vec::new(),
        ops: vec![Op::Put(header, br#"{"format":2,"new":[]}"#.to_vec())],
    };
    let mut begun = store.begin().unwrap();
    begun.apply(&batch).unwrap().unwrap();
    begun.commit().unwrap();
    drop(store);
    let before = std::fs::read(&path).unwrap();
    let log = std::fs::read(folder.path().join("audit.log")).unwrap();
    let refused = Server::start(&config, cluster, Registry::built_in());
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("newer version of this program"), "{why}");
    assert!(std::fs::read(&path).unwrap() == before);
    assert!(std::fs::read(folder.path().join("audit.log")).unwrap() == log);
}
