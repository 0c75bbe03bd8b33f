//! A disk without room: writes are refused, reads and renewals go on, and it recovers by itself.

use bastide_control::core::request::Operation;
use bastide_control::run::plane::Plane;
use serde_json::Map;

use super::*;
use crate::disk::{Ballast, Disk, chained, tiny_disk, until};

fn renewal_of(token: &Value) -> Map<String, Value> {
    match json!({ "token": token }) {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made as an object"),
    }
}

/// Renews a token so often, sixteen times at a time.
async fn renew_often(plane: &Plane, fields: &Map<String, Value>, times: usize) {
    for _ in 0..times / 16 {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (plane, fields) = (plane.clone(), fields.clone());
            all.spawn(async move {
                let done = plane.ask(Operation::Update, "auth/token/renew", fields);
                done.await.map(|_| ())
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_writes_are_refused_and_reads_and_renewals_go_on() {
    let name = "node::full::on_a_full_disk_writes_are_refused_and_reads_and_renewals_go_on";
    if let Some(tiny) = tiny_disk(name, Disk::Memory("96m")).await {
        // A month of a cluster of fifty nodes.
        on_a_full_disk(&tiny, 3000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_ext4_writes_are_refused_and_reads_and_renewals_go_on() {
    let name = "node::full::on_a_full_ext4_writes_are_refused_and_reads_and_renewals_go_on";
    if let Some(tiny) = tiny_disk(name, Disk::Ext4("110M")).await {
        on_a_full_disk(&tiny, 160).await;
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one disk, filled once, seen through to its end"
)]
async fn on_a_full_disk(tiny: &Path, renewals: usize) {
    let site = Site::start_in(tempfile::tempdir_in(tiny).unwrap()).await;
    let operator = site.operator();
    let nodes = [
        site.node("one").await,
        site.node("two").await,
        site.node("three").await,
    ];
    let token = operator
        .ask(
            "POST",
            "/v1/auth/token/create",
            Some(Secret::new(br#"{"ttl":"1h"}"#.to_vec())),
            tokio::time::Instant::now() + SOON,
        )
        .await
        .unwrap()["auth"]["client_token"]
        .clone();
    let large = "x".repeat(64 << 10);
    let write = async |operator: &Client, number: usize| {
        let path = format!("/v1/secret/data/{number}");
        let body = json!({ "data": { "x": large } });
        operator.call("POST", &path, Some(body)).await
    };
    write(&operator, 0).await.unwrap();

    let ballast = Ballast::fill(tiny);
    let mut acknowledged = 0;
    let refused = loop {
        acknowledged += 1;
        match write(&operator, acknowledged).await {
            Ok(_) => assert!(acknowledged < 1000, "a full disk refuses in the end"),
            Err(refused) => break refused,
        }
    };
    let ClientError::Refused {
        status: 507,
        errors,
    } = &refused
    else {
        panic!("it should be refused for want of room, not with {refused}");
    };
    assert!(errors[0].contains("disk is full"), "{errors:?}");
    assert!(
        errors[0].contains("`df -h`"),
        "it says what to do: {errors:?}"
    );

    for number in (0..acknowledged).cycle().take(500) {
        let path = format!("/v1/secret/data/{number}");
        let found = operator.call("GET", &path, None).await.unwrap();
        assert_eq!(found["data"]["x"].as_str().unwrap().len(), large.len());
    }
    for node in &nodes {
        let renewed = node.client().renew(&node.renewal()).await.unwrap();
        assert!(renewed.certificate.is_some());
    }
    let plane = site.server.plane().clone();
    let fields = renewal_of(&token);
    renew_often(&plane, &fields, renewals).await;
    // Another start on the full disk: it opens, and all is as before.
    drop(plane);
    let site = site.restart().await;
    let operator = site.operator();
    assert_eq!(status(write(&operator, 1001).await), 507);
    operator
        .call("GET", "/v1/secret/data/0", None)
        .await
        .unwrap();
    let fields = renewal_of(&token);
    let plane = site.server.plane().clone();
    for _ in 0..100 {
        plane
            .ask(Operation::Update, "auth/token/renew", fields.clone())
            .await
            .unwrap();
    }
    // What ends something goes on as well.
    operator
        .call("DELETE", "/v1/secret/metadata/0", None)
        .await
        .unwrap();
    let removed = format!("/v1/mesh/nodes/{}", nodes[2].id());
    operator.call("DELETE", &removed, None).await.unwrap();

    drop(ballast);
    until("writes go on by themselves", async || {
        write(&operator, 1002).await.is_ok()
    })
    .await;
    drop(plane);
    let log = site.folder.path().join("audit.log");
    let site = site.restart().await;
    let operator = site.operator();
    for number in (1..acknowledged).chain([1002]) {
        let path = format!("/v1/secret/data/{number}");
        let found = operator.call("GET", &path, None).await.unwrap();
        assert_eq!(found["data"]["x"].as_str().unwrap().len(), large.len());
    }
    for refused in [0, acknowledged, 1001] {
        let path = format!("/v1/secret/data/{refused}");
        assert_eq!(status(operator.call("GET", &path, None).await), 404);
    }
    site.server.stop().await;
    assert!(2 * renewals < chained(&[log]).len(), "each is recorded");
}
