//! What was answered is on the disk: a writing process is killed, and its promises are counted.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bastide_api::ClusterId;
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::server::Server;
use serde_json::{Map, Value};

use crate::{config, example};

/// Answers that are awaited before each kill.
const ANSWERS: usize = 120;
/// How often the writer is killed.
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let program = example("crash_writer");
    assert!(program.exists(), "cargo builds examples along with tests");
    let mut promised: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..KILLS {
        let mut child = Command::new(&program)
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| {
            let (writer, version) = line.split_once(' ').unwrap();
            let version: u64 = version.parse().unwrap();
            assert_ne!(version, 0, "a write was refused");
            promised.insert(writer.to_owned(), version);
        };
        for _ in 0..ANSWERS {
            note(lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died is promised as well.
        lines.map_while(Result::ok).for_each(&mut note);
    }
    assert_eq!(promised.len(), 8);

    let config = config(folder.path());
    let cluster = ClusterId::from_bytes([3; 16]);
    let (server, root) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    assert!(root.is_none(), "the store is the one that was written");
    for (writer, version) in &promised {
        let path = format!("secret/metadata/writer-{writer}");
        let found = server
            .plane()
            .ask(Operation::Read, &path, Map::new())
            .await
            .unwrap();
        let current = found.data.unwrap()["current_version"].as_u64().unwrap();
        assert!(
            *version <= current,
            "writer {writer}: promised {version}, found {current}"
        );
        assert!(
            current <= version + KILLS as u64,
            "and nothing was written twice"
        );
    }
    server.stop().await;

    // Every promised write has its record, once, and the chain has no gap.
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let (mut previous, mut writes) = (String::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["seq"].as_u64(), Some(number as u64));
        assert_eq!(record["prev"].as_str(), Some(previous.as_str()));
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
        previous = data_encoding::HEXLOWER.encode(hash.as_ref());
        let path = record["request"]["path"].as_str().unwrap_or_default();
        writes += u64::from(record["type"] == "response" && path.starts_with("secret/data/"));
    }
    assert!(promised.values().sum::<u64>() <= writes);
}
