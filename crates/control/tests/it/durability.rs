//! What was answered is on the disk: a server is killed at random moments, and its promises are
//! counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bastide_api::{ClusterId, Ticket};
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::plane::Plane;
use bastide_control::run::server::Server;
use bastide_store::simulation::Draw;
use serde_json::{Map, json};

use crate::disk::chained;
use crate::{config, example};

/// How often the server is killed.
const KILLS: u64 = 100;

/// What the server promised before it was killed.
#[derive(Default)]
struct Promises {
    /// The highest version of each writer's secret.
    versions: BTreeMap<String, u64>,
    /// How many versions were promised, and by how many lives of the server.
    writes: u64,
    made: Vec<Ticket>,
    /// Who joined with which ticket.
    spent: BTreeMap<String, BTreeSet<String>>,
}

impl Promises {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["wrote", writer, version] => {
                let version = version.parse().unwrap();
                let before = self.versions.insert(writer.to_owned(), version);
                assert!(before < Some(version), "a version was given out twice");
                self.writes += 1;
            }
            ["made", ticket] => self.made.push(ticket.parse().unwrap()),
            ["spent", ticket, name] => {
                let names = self.spent.entry(ticket.to_owned()).or_default();
                names.insert(name.to_owned());
            }
            _ => panic!("the server said `{line}`"),
        }
    }
}

fn spawn(folder: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let program = example("crash_writer");
    assert!(program.exists(), "build the examples along with the tests");
    let mut child = Command::new(&program)
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Lets the server live for a while, kills it, and takes down all that it promised.
fn live(folder: &Path, draw: &mut Draw, promises: &mut Promises) {
    let (mut child, mut lines) = spawn(folder);
    if draw.below(5) == 0 {
        // While it starts, or soon after. The time itself is what is drawn.
        std::thread::sleep(Duration::from_millis(draw.below(400)));
    } else {
        for _ in 0..draw.below(60) {
            let Some(line) = lines.next() else {
                let mut said = String::new();
                let mut errors = child.stderr.take().unwrap();
                errors.read_to_string(&mut said).unwrap();
                panic!("the server ended by itself: {said}");
            };
            promises.note(&line.unwrap());
        }
    }
    assert!(child.try_wait().unwrap().is_none(), "it lives until now");
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died is promised as well.
    for line in lines.map_while(Result::ok) {
        promises.note(&line);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_no_acknowledged_write_and_spend_no_ticket_twice() {
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).unwrap();
    let seed = u64::from_be_bytes(seed);
    eprintln!("the moments are drawn by seed {seed}");
    let mut draw = Draw::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut promises = Promises::default();
    for _ in 0..KILLS {
        live(folder.path(), &mut draw, &mut promises);
    }
    assert_eq!(promises.versions.len(), 6);
    assert!(50 < promises.spent.len(), "{} joins", promises.spent.len());

    let config = config(folder.path());
    let cluster = ClusterId::from_bytes([3; 16]);
    let (server, root) = Server::start(&config, cluster, Registry::built_in()).unwrap();
    assert!(root.is_none(), "the store is the one that was written");
    let plane = server.plane().clone();
    for (writer, version) in &promises.versions {
        let path = format!("secret/metadata/writer-{writer}");
        let found = read(&plane, &path).await;
        let current = found["current_version"].as_u64().unwrap();
        assert!(
            *version <= current,
            "writer {writer}: promised {version}, found {current}"
        );
        assert!(
            current <= version + KILLS,
            "and at most one more in each life"
        );
    }
    judge_tickets(&plane, &promises).await;
    drop(plane);
    server.stop().await;

    // Every promised write has its record, once, and the chain has no gap.
    let records = chained(&[folder.path().join("audit.log")]);
    let writes = records.iter().filter(|record| {
        let path = record["request"]["path"].as_str().unwrap_or_default();
        record["type"] == "response" && path.starts_with("secret/data/")
    });
    assert!(promises.writes <= writes.count() as u64);
    eprintln!(
        "{} writes and {} joins were promised, and kept",
        promises.writes,
        promises.spent.len()
    );
}

async fn read(plane: &Plane, path: &str) -> Map<String, serde_json::Value> {
    let found = plane.ask(Operation::Read, path, Map::new()).await.unwrap();
    found.data.unwrap()
}

/// Each ticket has at most one node, and the one that was promised.
async fn judge_tickets(plane: &Plane, promises: &Promises) {
    let listed = plane
        .ask(Operation::List, "mesh/nodes/", Map::new())
        .await
        .unwrap();
    let mut names = BTreeSet::new();
    for id in listed.data.unwrap()["keys"].as_array().unwrap() {
        let node = read(plane, &format!("mesh/nodes/{}", id.as_str().unwrap())).await;
        names.insert(node["name"].as_str().unwrap().to_owned());
    }
    for ticket in &promises.made {
        let id = ticket.id.to_string();
        let tag = &id[id.len() - 12..];
        let joined: BTreeSet<_> = names
            .iter()
            .filter(|name| name.starts_with(tag))
            .cloned()
            .collect();
        assert!(joined.len() <= 1, "ticket {id} was spent by {joined:?}");
        let Some(promised) = promises.spent.get(&id) else {
            continue;
        };
        assert_eq!(&joined, promised, "ticket {id}");
        // And it stays spent for whoever else comes with it.
        let other = json!({
            "ticket": ticket.id,
            "secret": data_encoding::BASE64.encode(ticket.secret.expose()),
            "name": format!("{tag}-c"),
            "site": "home",
            "arch": "amd64",
            "wireguard": bastide_api::WireGuardKey::from_bytes([9; 32]),
            "discovery": bastide_api::DiscoveryKey::from_bytes([1; 32]),
            "csr": bastide_pki::Identity::generate().csr_pem(),
        });
        let serde_json::Value::Object(other) = other else {
            unreachable!("it was made as an object")
        };
        let again = plane.ask(Operation::Update, "auth/join/login", other).await;
        assert!(again.is_err(), "ticket {id} let another machine in");
    }
}
