use std::time::Duration;

use bastide_api::ClusterId;
use bastide_store::{DevSeal, RedbStore};
use serde_json::json;

use super::*;
use crate::core::config::{Compat, Ttls};
use crate::core::lockout::Configured;
use crate::run::server;

/// A plane on a store in memory, with the audit log in `folder`.
fn plane(folder: &std::path::Path) -> Plane {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let cluster = ClusterId::from_bytes([7; 16]);
    let (barrier, _) = server::initialise(&*store, &DevSeal::new(), cluster, None).unwrap();
    let info = ServerInfo {
        version: "1.21.4".to_owned(),
        cluster_name: "test".to_owned(),
        cluster_id: cluster.to_string(),
        storage: "inmem",
        seal: "dev".to_owned(),
        audit: vec![crate::core::engine::AuditDevice {
            path: "file/".to_owned(),
            file: "audit.log".to_owned(),
        }],
        audit_by_api: false,
        started: server::now(),
        compat: Compat::Strict,
        ttls: Ttls::default(),
        lockouts: Configured::new(),
    };
    let to = AuditTo {
        path: folder.join("audit.log"),
        ahead_bytes: 0,
    };
    let started = Plane::start(store, barrier, Registry::built_in(), info, Some(to));
    started.unwrap().0
}

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn login(password: &str) -> Request {
    Request {
        id: request_id(),
        operation: Operation::Update,
        path: ApiPath::parse("auth/userpass/login/ada").unwrap(),
        data: fields(json!({ "password": password })),
        token: None,
        wrap: None,
        idempotency: None,
        headers: hyper::HeaderMap::new(),
        peer: Peer::default(),
        inside: Inside::No,
    }
}

#[tokio::test]
async fn wrong_passwords_count_before_their_records_are_durable_and_though_whoever_asked_is_gone() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let plane = plane(folder.path());
    for (path, data) in [
        ("sys/auth/userpass", json!({ "type": "userpass" })),
        ("auth/userpass/users/ada", json!({ "password": "right" })),
    ] {
        plane
            .ask(Operation::Update, path, fields(data))
            .await
            .unwrap();
    }
    // Nothing is recorded while the devices are held, so nobody is answered.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let desk = Arc::clone(&plane.0.desk);
    let holder = std::thread::spawn(move || {
        desk.with(|_| {
            tell.send(()).unwrap();
            released.recv().unwrap();
        });
    });
    told.recv().unwrap();
    let guesses: Vec<_> = (0..5)
        .map(|_| {
            let plane = plane.clone();
            tokio::spawn(async move { plane.call(&login("wrong")).await })
        })
        .collect();
    let mut facts = plane.facts();
    let is_locked = |facts: &Arc<Facts>| facts.lockouts.locked(plane.now()).count() == 1;
    let locked = tokio::time::timeout(PATIENCE, facts.wait_for(is_locked)).await;
    assert!(
        locked.is_ok(),
        "the name is open to guesses for as long as the disk takes"
    );
    for guess in &guesses {
        guess.abort();
    }
    release.send(()).unwrap();
    holder.join().unwrap();
    let refused = plane.call(&login("right")).await.outcome;
    assert!(matches!(refused, Err(Refusal::Locked)), "{refused:?}");
    plane.stop().await;
}

#[tokio::test]
async fn a_rate_limit_for_a_name_counts_each_spelling_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let plane = plane(folder.path());
    let limit = json!({ "path": "auth/userpass/login/ada", "rate": 2, "interval": "1h" });
    let kv = json!({ "path": "secret/data/a", "rate": 2, "interval": "1h" });
    for (path, data) in [
        ("sys/auth/userpass", json!({ "type": "userpass" })),
        ("sys/quotas/rate-limit/ada", limit),
        ("sys/quotas/rate-limit/a", kv),
    ] {
        plane
            .ask(Operation::Update, path, fields(data))
            .await
            .unwrap();
    }
    let ask = async |path: &str| {
        let request = Request {
            path: ApiPath::parse(path).unwrap(),
            peer: Peer {
                address: Some(([192, 0, 2, 1], 4711).into()),
                ..Peer::default()
            },
            ..login("wrong")
        };
        plane.call(&request).await.outcome
    };
    let is_limited = |outcome| matches!(outcome, Err(Refusal::Limited { .. }));
    for path in ["auth/userpass/login/ADA", "auth/userpass/login/\u{ff41}da"] {
        assert!(!is_limited(ask(path).await), "{path}");
    }
    for path in ["auth/userpass/login/ada", "auth/userpass/login/Ada"] {
        assert!(is_limited(ask(path).await), "{path}");
    }
    // The controls: another name, and a place where other letters are other ones.
    assert!(!is_limited(ask("auth/userpass/login/eve").await));
    for _ in 0..3 {
        assert!(!is_limited(ask("secret/data/A").await));
    }
    plane.stop().await;
}
