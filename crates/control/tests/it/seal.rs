//! Sealing: shares, what a sealed server says, and that nothing runs or is held meanwhile.

mod keys;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bastide_api::{ClusterId, Secret};
use bastide_client::{Client, ClientError};
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::gate::{GateConfig, Gatehouse, NoCrew};
use bastide_control::run::http::Door;
use bastide_control::run::listen::Security;
use bastide_control::run::server::{SealKey, ServerConfig};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use crate::python::{HVAC, Python};

fn config(folder: &Path, seal: SealKey) -> GateConfig {
    GateConfig {
        server: ServerConfig {
            audit: Some(bastide_control::run::outbox::AuditTo::file(
                folder.join("audit.log"),
            )),
            cluster_name: "demo".to_owned(),
            ..ServerConfig::in_folder(folder.join("data"), seal)
        },
        cluster: ClusterId::from_bytes([7; 16]),
        registry: Registry::built_in,
        seals: Vec::new(),
        seals_disabled: Vec::new(),
    }
}

/// A server behind a gate, with a socket of this host before it.
struct House {
    house: Gatehouse,
    socket: std::path::PathBuf,
}

impl House {
    async fn start(folder: &Path) -> Self {
        Self::with(folder, SealKey::Absent).await
    }

    async fn with(folder: &Path, seal: SealKey) -> Self {
        let mut house = Gatehouse::start(config(folder, seal), Box::new(NoCrew))
            .await
            .unwrap();
        let socket = folder.join("server.sock");
        house.listen_here(&socket).unwrap();
        Self { house, socket }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Result<Value, ClientError> {
        let body = Secret::new(serde_json::to_vec(&body).unwrap());
        let body = (method == "PUT").then_some(body);
        let by = tokio::time::Instant::now() + Duration::from_secs(10);
        Client::unix(&self.socket)
            .ask(method, &format!("/v1/{path}"), body, by)
            .await
    }

    async fn status(&self) -> Value {
        self.call("GET", "sys/seal-status", Value::Null)
            .await
            .unwrap()
    }

    async fn is_sealed(&self) -> bool {
        self.status().await["sealed"].as_bool().unwrap()
    }

    async fn give(&self, share: &str) -> Result<Value, ClientError> {
        self.call("PUT", "sys/unseal", json!({ "key": share }))
            .await
    }

    /// Makes the store. Returns shares, and the root token.
    async fn init(&self, shares: u8, threshold: u8) -> (Vec<String>, String) {
        let asked = json!({ "secret_shares": shares, "secret_threshold": threshold });
        let made = self.call("PUT", "sys/init", asked).await.unwrap();
        let keys = made["keys"].as_array().unwrap();
        let keys = keys.iter().map(|key| key.as_str().unwrap().to_owned());
        (
            keys.collect(),
            made["root_token"].as_str().unwrap().to_owned(),
        )
    }

    async fn ask(&self, operation: Operation, path: &str, data: Value) -> Value {
        let Value::Object(data) = data else {
            panic!("fields are an object")
        };
        let plane = self.house.gate().plane().expect("the server is open");
        let asked = plane.ask(operation, path, data).await.unwrap();
        asked
            .auth
            .or(asked.data.map(Value::Object))
            .unwrap_or_default()
    }
}

fn said(result: Result<Value, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused { status, errors }) => (status, errors.join("; ")),
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_initialises_opens_and_seals_as_it_does_with_vault() {
    let Some(python) = Python::with(&[HVAC]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), SealKey::Absent);
    let mut house = Gatehouse::start(config, Box::new(NoCrew)).await.unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let at = house.listen(any, Security::Plain, Door::API).await.unwrap();
    let at = format!("http://{at}");
    python.passes(include_str!("seal/hvac.py"), &[&at]).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_server_is_sealed_and_opens_with_enough_shares_and_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (shares, root) = house.init(3, 2).await;
    house.give(&shares[0]).await.unwrap();
    house.give(&shares[1]).await.unwrap();
    assert!(!house.is_sealed().await);
    house
        .ask(
            Operation::Update,
            "secret/data/a",
            json!({ "data": { "x": "1" } }),
        )
        .await;
    house.house.stop().await;

    let house = House::start(folder.path()).await;
    assert!(house.is_sealed().await && house.house.gate().plane().is_none());
    let token = Secret::new(root);
    let read = async |socket: &Path| {
        Client::unix_as(socket, token.duplicate())
            .call("GET", "/v1/secret/data/a", None)
            .await
    };
    let sealed = (503, "Vault is sealed".to_owned());
    assert_eq!(said(read(&house.socket).await), sealed);
    house.give(&shares[2]).await.unwrap();
    assert_eq!(said(read(&house.socket).await), sealed);
    house.give(&shares[0]).await.unwrap();
    assert_eq!(read(&house.socket).await.unwrap()["data"]["x"], json!("1"));
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_shares_open_nothing_and_do_not_tell_which_of_them_is_wrong() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (house, strange) = (
        House::start(folder.path()).await,
        House::start(other.path()).await,
    );
    let (shares, _) = house.init(5, 3).await;
    let (foreign, _) = strange.init(5, 3).await;
    strange.house.stop().await;
    let bend = |share: &str, at: usize| {
        let mut bytes = HEXLOWER.decode(share.as_bytes()).unwrap();
        bytes[at] ^= 0x40;
        BASE64.encode(&bytes)
    };
    let sets = [
        // Of another cluster: all, some.
        [&foreign[0], &foreign[1], &foreign[2]].map(String::clone),
        [&shares[0], &foreign[1], &shares[2]].map(String::clone),
        // Mistyped: in the first byte, in the last, and in the place.
        [bend(&shares[0], 0), shares[1].clone(), shares[2].clone()],
        [shares[0].clone(), shares[1].clone(), bend(&shares[2], 31)],
        [shares[0].clone(), bend(&shares[1], 32), shares[2].clone()],
        // Two that say they stand in one place.
        [shares[0].clone(), bend(&shares[0], 3), shares[1].clone()],
    ];
    let mut answers = Vec::new();
    for set in &sets {
        for (given, share) in set.iter().enumerate() {
            let answer = house.give(share).await;
            if given < 2 {
                assert_eq!(answer.unwrap()["progress"], json!(given + 1));
            } else {
                answers.push(said(answer));
            }
        }
        assert_eq!(house.status().await["progress"], json!(0));
        assert!(house.is_sealed().await);
    }
    let (status, text) = &answers[0];
    assert_eq!(*status, 400);
    assert!(text.contains("do not open this store"), "{text}");
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    // The control: the right ones open it, whatever was tried before.
    for share in &shares[2..] {
        house.give(share).await.unwrap();
    }
    assert!(!house.is_sealed().await);
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_holds_no_key_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (shares, root) = house.init(1, 1).await;
    house.give(&shares[0]).await.unwrap();
    let gate = house.house.gate().clone();
    let brief = house
        .ask(
            Operation::Update,
            "auth/token/create",
            json!({ "ttl": "1s" }),
        )
        .await;
    let accessor = brief["accessor"].as_str().unwrap().to_owned();
    let plane = gate.plane().unwrap();
    let barrier = std::sync::Arc::downgrade(plane.barrier());
    let store = std::sync::Arc::clone(plane.store());
    let ends = plane.now().plus(Duration::from_secs(2));
    // The control: whoever keeps the plane keeps the key, and that does not go unnoticed.
    let held = gate.seal().await.unwrap_err();
    assert!(held.to_string().contains("still be in memory"), "{held}");
    assert_ne!(barrier.strong_count(), 0);
    // Long past the token's end: the expiry would have written, had it run.
    let sealed_at = store.revision();
    while plane.now() < ends {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.revision(), sealed_at);
    drop(plane);
    assert_eq!(barrier.strong_count(), 0);

    house.give(&shares[0]).await.unwrap();
    // It ended while the server was sealed: it is not good for a moment, and is swept soon.
    let asked = json!({ "accessor": accessor });
    let token = Client::unix_as(&house.socket, Secret::new(root));
    let lookup = async || {
        let path = "/v1/auth/token/lookup-accessor";
        said(token.call("POST", path, Some(asked.clone())).await).0
    };
    assert_eq!(lookup().await, 400);
    let swept = async {
        loop {
            let plane = gate.plane().unwrap();
            let listed = plane
                .ask(
                    Operation::List,
                    "auth/token/accessors",
                    serde_json::Map::new(),
                )
                .await
                .unwrap();
            if !json!(listed.data).to_string().contains(&accessor) {
                return;
            }
            drop(plane);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), swept)
        .await
        .expect("the expiry works again");
    let barrier = std::sync::Arc::downgrade(gate.plane().unwrap().barrier());
    gate.seal().await.unwrap();
    assert_eq!(barrier.strong_count(), 0);
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_served_when_the_server_is_sealed_end_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (shares, root) = house.init(1, 1).await;
    house.give(&shares[0]).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..32 {
        let client = Client::unix_as(&house.socket, Secret::new(root.clone()));
        asking.spawn(async move {
            let path = format!("/v1/secret/data/{number}");
            for round in 0.. {
                let body = json!({ "data": { "round": round } });
                if let Err(error) = client.call("POST", &path, Some(body)).await {
                    return (round, error);
                }
            }
            unreachable!("it ends with the server's seal")
        });
    }
    while house.house.gate().plane().unwrap().store().revision().0 < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.house.gate().seal().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), asking.join_all());
    for (round, error) in ended.await.expect("everybody is answered") {
        assert!(
            matches!(
                &error,
                ClientError::Refused { status: 503, .. } | ClientError::Lost { .. }
            ),
            "round {round}: {error}"
        );
    }
    house.give(&shares[0]).await.unwrap();
    assert!(!house.is_sealed().await);
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_key_file_opens_when_it_starts_and_not_for_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let key = || SealKey::File(folder.path().join("seal.key"));
    let cluster = ClusterId::from_bytes([7; 16]);
    let config = config(folder.path(), key());
    let (server, root) =
        bastide_control::run::server::Server::start(&config.server, cluster, Registry::built_in())
            .unwrap();
    server.stop().await;
    let house = House::with(folder.path(), key()).await;
    assert!(!house.is_sealed().await);
    let operator = Client::unix_as(&house.socket, root.unwrap());
    let sealed = operator.call("PUT", "/v1/sys/seal", Some(json!({}))).await;
    assert!(sealed.is_ok(), "{sealed:?}");
    assert!(house.is_sealed().await);
    let (status, text) = said(house.give(&"00".repeat(32)).await);
    assert!(status == 400 && text.contains("key file"), "{text}");
    assert!(house.is_sealed().await);
    house.house.stop().await;
    let house = House::with(folder.path(), key()).await;
    assert!(!house.is_sealed().await);
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let mode = std::fs::metadata(&house.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let folder_mode = std::fs::metadata(folder.path().join("data"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(folder_mode & 0o777, 0o700);
    house.house.stop().await;
}
