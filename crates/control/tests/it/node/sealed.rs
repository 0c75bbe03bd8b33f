//! A controller that is sealed by shares: its listeners stay, say so, and nodes go on after it.

use std::sync::{Arc, RwLock};

use bastide_control::run::channel::{ControllerCrew, Listening};
use bastide_control::run::gate::{GateConfig, Gatehouse};
use bastide_store::{Share, Sharing};
use data_encoding::HEXLOWER;

use super::*;

const KEPT: &str = "sealed.json";

fn config(folder: &Path) -> ServerConfig {
    ServerConfig {
        audit: Some(bastide_control::run::outbox::AuditTo::file(
            folder.join("audit.log"),
        )),
        cluster_name: "demo".to_owned(),
        ..ServerConfig::in_folder(folder.join("data"), SealKey::Absent)
    }
}

/// Begins a cluster that is sealed by shares, two of three.
async fn begin(folder: &Path) -> (Vec<Share>, Begun) {
    let sharing = Sharing::new(3, 2).unwrap();
    let cluster = ClusterId::from_bytes([7; 16]);
    let (server, made) =
        Server::start_shared(&config(folder), cluster, Registry::built_in(), sharing).unwrap();
    let begun = channel::begin(server.plane(), beginning(&[]))
        .await
        .unwrap();
    server.stop().await;
    (made.shares, begun)
}

/// Starts the controller; at the first start on any free ports.
async fn start(folder: &Path) -> (Gatehouse, Arc<RwLock<Listening>>) {
    let place = |_: &bastide_api::ClusterRecord| {
        let any = vec!["127.0.0.1:0".parse().unwrap()];
        Some(Listen {
            channel: any.clone(),
            api: any,
        })
    };
    let crew = ControllerCrew::new(Some(folder.join(KEPT)), Box::new(place));
    let bound = crew.bound();
    let config = GateConfig {
        server: config(folder),
        cluster: ClusterId::from_bytes([8; 16]),
        registry: Registry::built_in,
        seals: Vec::new(),
        seals_disabled: Vec::new(),
    };
    (
        Gatehouse::start(config, Box::new(crew)).await.unwrap(),
        bound,
    )
}

async fn unseal(house: &Gatehouse, shares: &[Share]) {
    for share in &shares[1..] {
        house.gate().unseal(share.duplicate()).await.unwrap();
    }
    assert!(house.gate().plane().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_controller_says_so_to_nodes_and_operators_and_serves_them_once_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (shares, begun) = begin(folder.path()).await;
    let (house, bound) = start(folder.path()).await;
    assert_eq!(
        *bound.read().unwrap(),
        Listening::default(),
        "before it was ever open it has no certificate to show"
    );
    unseal(&house, &shares).await;
    let at = bound.read().unwrap().clone();
    let (channel, api) = (at.channel[0], at.api[0]);
    let ticket: Ticket = begun.ticket.expose().parse().unwrap();
    let machine = Machine::new("one");
    let stranger = Client::new(vec![channel], Trust::Pin(ticket.pin), None, None).unwrap();
    let answer = stranger.join(&machine.request(&ticket)).await.unwrap();
    let node = Node {
        machine,
        answer,
        channel,
        api,
    };
    let client = node.client();
    let mut watch = client.watch(START).await.unwrap();
    let mut follower = node.follower();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;

    house.gate().seal().await.unwrap();
    // The watch ends, so that the agent learns of it; what it knows stays.
    let ended = soon(async { while watch.next().await.is_ok() {} });
    ended.await;
    let sealed = |result: Result<_, ClientError>| {
        let text = said(result);
        assert_eq!(text, "Vault is sealed");
    };
    sealed(node.client().renew(&node.renewal()).await.map(drop));
    sealed(node.client().watch(START).await.map(drop));
    sealed(
        stranger
            .join(&node.machine.request(&ticket))
            .await
            .map(drop),
    );
    let read = "/v1/mesh/nodes";
    sealed(node.client_of(api).call("LIST", read, None).await.map(drop));

    // Who this is could not be told while the server was sealed. Its connection ends with that, and
    // never is the node taken for a stranger.
    let early = node.client();
    sealed(early.renew(&node.renewal()).await.map(drop));
    unseal(&house, &shares).await;
    let report = RenewRequest {
        csr: None,
        ..node.renewal()
    };
    let is_passing = |error: &ClientError| {
        matches!(error, ClientError::Lost { .. }) || error.status() == Some(503)
    };
    let mut again = early.renew(&report).await;
    for _ in 0..2 {
        if again.as_ref().is_err_and(is_passing) {
            again = early.renew(&report).await;
        }
    }
    again.unwrap();
    assert!(
        node.client()
            .renew(&node.renewal())
            .await
            .unwrap()
            .certificate
            .is_some()
    );
    let mut watch = node.client().watch(START).await.unwrap();
    let mut follower = node.follower();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;
    drop(watch);
    house.stop().await;

    // Started anew it is sealed, and says so under the certificate of the process before it, at the
    // same places.
    pin_ports(folder.path(), &at);
    let (house, bound) = start(folder.path()).await;
    assert_eq!(*bound.read().unwrap(), at);
    sealed(node.client().renew(&node.renewal()).await.map(drop));
    sealed(
        stranger
            .join(&node.machine.request(&ticket))
            .await
            .map(drop),
    );
    unseal(&house, &shares).await;
    // A certificate was renewed a moment ago: it reports only.
    node.client().renew(&report).await.unwrap();
    house.stop().await;
}

/// Writes the ports that were free into what is kept, as a configuration with fixed ones would have.
fn pin_ports(folder: &Path, at: &Listening) {
    let path = folder.join(KEPT);
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    kept["listen"] = json!({ "channel": at.channel, "api": at.api });
    std::fs::write(&path, kept.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sealed_start_needs_is_kept_for_its_owner_alone_and_may_be_missing_or_damaged() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (shares, _) = begin(folder.path()).await;
    let path = folder.path().join(KEPT);
    for kept in [None, Some("no JSON"), Some("{\"format\":99}")] {
        match kept {
            None => assert!(!path.exists()),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        let (house, bound) = start(folder.path()).await;
        assert_eq!(*bound.read().unwrap(), Listening::default());
        unseal(&house, &shares).await;
        assert_eq!(bound.read().unwrap().channel.len(), 1);
        house.stop().await;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        // The control: it holds a key, that of the certificates alone.
        assert_eq!(text.matches("PRIVATE KEY-----").count(), 4);
        for share in &shares {
            assert!(!text.contains(&HEXLOWER.encode(share.expose())));
        }
    }
}
