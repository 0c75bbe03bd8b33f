//! Leases from outside: of memberships and tokens, and what becomes of them while nobody is there.

use bastide_control::core::request::Operation;

use super::*;
use crate::python::{HVAC, Python};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_sees_a_membership_as_a_lease_and_ends_it() {
    let Some(python) = Python::with(&[HVAC]).await else {
        return;
    };
    let site = Site::start().await;
    let node = site.node("two").await;
    assert!(node.client().renew(&node.renewal()).await.is_ok());
    let path = format!("/v1/mesh/nodes/{}", node.id());
    let shown = site.operator().call("GET", &path, None).await.unwrap();
    let lease = shown["lease_id"].as_str().unwrap();
    let ca = site.folder.path().join("ca.pem");
    std::fs::write(&ca, &site.begun.ca).unwrap();
    let at = format!("https://{}", site.api);
    let ca = ca.to_str().unwrap();
    python
        .passes(include_str!("leases.py"), &[&at, &site.root, ca, lease])
        .await;
    // What the lease granted is undone: the node is none.
    let read = site.operator().call("GET", &path, None).await;
    assert_eq!(status(read), 404);
    assert_eq!(status(node.client().renew(&node.renewal()).await), 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_the_server_was_away_is_undone_when_it_returns() {
    let site = Site::start().await;
    let operator = site.operator();
    let policy = json!({ "ttl": "1s", "policies": ["root"] });
    let made = site
        .server
        .plane()
        .ask(
            Operation::Update,
            "auth/token/create",
            serde_json::from_value(policy).unwrap(),
        )
        .await
        .unwrap();
    let token = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let holder = |api: SocketAddr, ca: &str| {
        let trust = Trust::Ca(ca.to_owned());
        Client::new(vec![api], trust, None, Some(Secret::new(token.clone()))).unwrap()
    };
    // What hangs on the token is to go with it.
    let child = holder(site.api, &site.begun.ca)
        .ask(
            "POST",
            "/v1/auth/token/create",
            Some(Secret::new(br#"{ "ttl": "1h" }"#.to_vec())),
            tokio::time::Instant::now() + SOON,
        )
        .await
        .unwrap();
    let child = child["auth"]["accessor"].as_str().unwrap().to_owned();
    let accessors = "/v1/auth/token/accessors";
    let listed = operator.call("LIST", accessors, None).await.unwrap();
    assert!(listed.to_string().contains(&child), "the positive control");
    let ended = site.server.plane().now().plus(Duration::from_secs(1));
    let clock = site.server.plane().clock().clone();
    site.server.stop().await;
    while clock.now() <= ended {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut server, _) = start(site.folder.path());
    let (_, api) = open(&mut server).await;
    let look = holder(api, &site.begun.ca);
    let looked = look.call("GET", "/v1/auth/token/lookup-self", None).await;
    assert_eq!(status(looked), 403, "it is good for no moment");
    let trust = Trust::Ca(site.begun.ca.clone());
    let root = Some(Secret::new(site.root.clone()));
    let operator = Client::new(vec![api], trust, None, root).unwrap();
    soon(async {
        loop {
            let listed = operator.call("LIST", accessors, None).await.unwrap();
            if !listed.to_string().contains(&child) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    server.stop().await;
}
