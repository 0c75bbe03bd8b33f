//! The audit log's checkpoints, as nodes keep them: what is done to the log behind the server's back
//! shows.

use std::process::Command;

use bastide_client::{KnownLog, LogError, LogFollower};
use bastide_pki::log::{Chain, Checkpoint, Fault};

use super::*;

/// Watches until a checkpoint comes that is of `lines` at least, and has `log` judge it.
async fn hear(
    node: &Node,
    log: &mut LogFollower,
    lines: u64,
) -> Result<Option<KnownLog>, LogError> {
    let client = node.client();
    let watching = client.watch_after(START, None, Some(log.lines()));
    let mut watch = watching.await.unwrap();
    let mut follower = node.follower();
    let mut heard = Vec::new();
    soon(async {
        loop {
            let event = watch.next().await.expect("the watch goes on");
            match follower.handle(event).unwrap() {
                Followed::Log { note, proof } => heard.push((note, proof)),
                Followed::View { view, .. } if !heard.is_empty() => {
                    // Each one's proof begins where the one before ends.
                    let mut known = None;
                    for (note, proof) in heard.drain(..) {
                        known = log.handle(&view, &note, &proof)?;
                    }
                    if lines <= log.lines() {
                        return Ok(known);
                    }
                    // Not told of yet: come again.
                    let again = client.watch_after(START, None, Some(log.lines()));
                    watch = again.await.unwrap();
                    follower = node.follower();
                }
                _ => {}
            }
        }
    })
    .await
}

impl Site {
    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("audit.log")
    }

    fn lines(&self) -> u64 {
        std::fs::read_to_string(self.log()).unwrap().lines().count() as u64
    }

    async fn write(&self, count: usize) {
        let operator = self.operator();
        for _ in 0..count {
            let body = json!({ "data": { "x": 1 } });
            let path = "/v1/secret/data/x";
            operator.call("POST", path, Some(body)).await.unwrap();
        }
    }
}

/// Judges the log's file offline, by a checkpoint that a node kept.
fn faults(log: &str, known: &KnownLog) -> Vec<Fault> {
    let key = known.key.parse().unwrap();
    let mut chain = Chain::new(vec![Checkpoint::read(&known.note, &key).unwrap()]);
    for line in log.lines() {
        chain.take(line.as_bytes());
    }
    chain.end().into_iter().map(|found| found.fault).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_put_back_behind_the_servers_back_is_noticed_by_nodes_and_by_whoever_verifies() {
    let site = Site::start().await;
    let node = site.node("one").await;
    let mut log = LogFollower::default();
    site.write(150).await;
    let lines = site.lines();
    let first = hear(&node, &mut log, lines).await.unwrap().unwrap();
    assert_eq!(
        faults(&std::fs::read_to_string(site.log()).unwrap(), &first),
        []
    );
    judge_with_go(&first).await;

    // It grows, and the server starts anew: each checkpoint follows from the one before.
    let backup = site.folder.path().join("backup.redb");
    let log_backup = site.folder.path().join("backup.log");
    let path = site.log();
    let site = site
        .restart_after(|store| {
            std::fs::copy(store, &backup).unwrap();
            std::fs::copy(&path, &log_backup).unwrap();
        })
        .await;
    let node = node.at(&site);
    site.write(200).await;
    let later = hear(&node, &mut log, site.lines()).await.unwrap().unwrap();
    let whole = std::fs::read_to_string(site.log()).unwrap();
    assert_eq!(faults(&whole, &later), []);
    assert_eq!(faults(&whole, &first), []);

    // The file alone: a cut, an edit, a line taken out.
    let lines: Vec<_> = whole.lines().collect();
    let cut = lines[..lines.len() - 3].join("\n");
    let from = lines.len() as u64 - 3;
    let known = log.lines();
    assert!(faults(&cut, &later).contains(&Fault::Cut { from, known }));
    let edited = whole.replacen("\"seq\":42,", "\"seq\":42 ,", 1);
    assert_eq!(faults(&edited, &later)[0], Fault::Changed { line: 42 });
    let without: Vec<_> = lines
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 99)
        .collect();
    let without: Vec<_> = without.into_iter().map(|(_, line)| *line).collect();
    let missing = Fault::Missing {
        from: 99,
        until: 100,
    };
    assert_eq!(faults(&without.join("\n"), &later)[0], missing);

    // Store and log of an older day: behind at first, and another log once it has gone on.
    let path = site.log();
    let site = site
        .restart_after(|store| {
            std::fs::copy(&backup, store).unwrap();
            std::fs::copy(&log_backup, &path).unwrap();
        })
        .await;
    let node = node.at(&site);
    let refused = hear(&node, &mut log, 0).await.unwrap_err();
    assert!(matches!(refused, LogError::Behind { .. }), "{refused}");
    let old = std::fs::read_to_string(site.log()).unwrap();
    assert!(matches!(faults(&old, &later)[..], [Fault::Cut { .. }]));
    site.write(300).await;
    let lines = site.lines();
    let refused = loop {
        match hear(&node, &mut log, 0).await.unwrap_err() {
            LogError::Behind { offered, .. } => assert!(offered < lines),
            other => break other,
        }
    };
    assert!(matches!(refused, LogError::Forked { .. }), "{refused}");
    let forked = std::fs::read_to_string(site.log()).unwrap();
    assert!(matches!(
        faults(&forked, &later)[..],
        [Fault::Forked { .. }]
    ));

    // An operator says that it was on purpose.
    let accept = site.operator();
    let accept = accept.call("POST", "/v1/mesh/history/accept", Some(json!({})));
    accept.await.unwrap();
    hear(&node, &mut log, lines).await.unwrap().unwrap();
    // What an operator asks the server for is the same.
    let told = site
        .operator()
        .call("GET", "/v1/sys/audit-log", None)
        .await
        .unwrap();
    let told = KnownLog {
        key: told["key"].as_str().unwrap().to_owned(),
        note: told["checkpoint"].as_str().unwrap().to_owned(),
        generation: 1,
    };
    assert_eq!(
        faults(&std::fs::read_to_string(site.log()).unwrap(), &told),
        []
    );
    site.server.stop().await;
}

/// Go's own reader of signed notes says the same of a checkpoint.
async fn judge_with_go(known: &KnownLog) {
    const PROGRAM: &str = r#"package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	if err != nil {
		panic(err)
	}
	opened, err := note.Open([]byte(os.Args[2]), note.VerifierList(verifier))
	if err != nil {
		panic(err)
	}
	lines := strings.Split(opened.Text, "\n")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != 32 || lines[0] != verifier.Name() {
		panic("this is no checkpoint")
	}
	fmt.Print(lines[1])
}
"#;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("main.go", PROGRAM);
    write(
        "go.mod",
        "module judge\n\ngo 1.24\n\nrequire golang.org/x/mod v0.30.0\n",
    );
    let go = |words: &[&str]| {
        let mut command = Command::new("nice");
        command.args(["go"]).args(words).current_dir(folder.path());
        command.env("GOFLAGS", "-mod=mod");
        tokio::task::spawn_blocking(move || command.output())
    };
    let built = go(&["build", "-o", "judge", "."]).await.unwrap();
    if !built.is_ok_and(|built| built.status.success()) {
        crate::skipped("go with golang.org/x/mod");
        return;
    }
    let judge = |note: &str| {
        Command::new(folder.path().join("judge"))
            .args([&known.key, note])
            .output()
            .unwrap()
    };
    let judged = judge(&known.note);
    let errors = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert!(judged.status.success(), "{errors}");
    let key = known.key.parse().unwrap();
    let size = Checkpoint::read(&known.note, &key).unwrap().size;
    assert_eq!(String::from_utf8_lossy(&judged.stdout), size.to_string());
    // The control: it notices a checkpoint that was changed.
    let changed = known.note.replacen(&size.to_string(), "1", 1);
    assert!(!judge(&changed).status.success());
}
