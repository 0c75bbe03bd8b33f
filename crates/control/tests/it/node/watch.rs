//! The watch: snapshot, changes, resuming, and its end.

use std::time::Instant;

use bastide_api::v1::{NO_MEMBER, NodeFacts, RenewRequest, WatchEvent};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_a_signed_snapshot_and_tells_of_each_new_node() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let mut follower = node.follower();
    let mut watch = node.client().watch(START).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;
    let later = site.node("three").await;
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, later.id()).then_some(())
    })
    .await;
    let view = bastide_api::View::parse(follower.view().unwrap()).unwrap();
    assert_eq!(view.nodes[&later.id()], later.answer.node);
    assert_eq!(view.cluster, node.answer.cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_with_changes_alone_and_after_a_restart_with_a_snapshot() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let mut follower = node.follower();
    let mut watch = node.client().watch(START).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;
    drop(watch);
    let later = site.node("three").await;
    let mut watch = node.client().watch(follower.resume_from()).await.unwrap();
    let first = soon(watch.next()).await.unwrap();
    assert!(matches!(first, WatchEvent::Put { .. }), "{first:?}");
    follower.restart();
    follower.handle(first).unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, later.id()).then_some(())
    })
    .await;
    let site = site.restart().await;
    let again = Node {
        channel: site.channel,
        ..node
    };
    follower.restart();
    let mut watch = again.client().watch(follower.resume_from()).await.unwrap();
    let first = soon(watch.next()).await.unwrap();
    assert!(matches!(first, WatchEvent::Snapshot { .. }), "{first:?}");
    follower.handle(first).unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, later.id()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_reach_other_nodes_and_are_no_part_of_the_view() {
    let site = Site::start().await;
    let (one, two) = (site.node("two").await, site.node("three").await);
    let mut follower = one.follower();
    let mut watch = one.client().watch(START).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, two.id()).then_some(())
    })
    .await;
    let revision = follower.view().unwrap().revision;
    let facts = NodeFacts {
        endpoints: vec!["192.0.2.7:51820".parse().unwrap()],
        ..NodeFacts::default()
    };
    let request = RenewRequest {
        facts: Some(facts.clone()),
        ..RenewRequest::default()
    };
    two.client().renew(&request).await.unwrap();
    let told = until(&mut watch, &mut follower, |_, followed| match followed {
        Followed::Fact { node, facts } => Some((*node, facts.clone())),
        _ => None,
    })
    .await;
    assert_eq!(told, (two.id(), Some(facts)));
    assert_eq!(follower.view().unwrap().revision, revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_loses_its_watch_within_a_second_and_all_else_at_once() {
    let site = Site::start().await;
    let (gone, stays) = (site.node("two").await, site.node("three").await);
    let mut follower = stays.follower();
    let mut other = stays.client().watch(START).await.unwrap();
    until(&mut other, &mut follower, |follower, _| {
        has(follower, gone.id()).then_some(())
    })
    .await;
    let mut watch = gone.client().watch(START).await.unwrap();
    let first = soon(watch.next()).await.unwrap();
    assert!(matches!(first, WatchEvent::Snapshot { .. }));
    let path = format!("/v1/mesh/nodes/{}", gone.id());
    site.operator().call("DELETE", &path, None).await.unwrap();
    let removed = Instant::now();
    // The last that it is told, signed, is that it is gone.
    let mut own = gone.follower();
    own.handle(first).unwrap();
    soon(async {
        while let Ok(event) = watch.next().await {
            own.handle(event).unwrap();
        }
    })
    .await;
    assert!(own.view().is_some() && !has(&own, gone.id()));
    assert!(removed.elapsed() < Duration::from_secs(1));
    assert_eq!(
        status(gone.client().renew(&gone.renewal()).await),
        NO_MEMBER
    );
    assert_eq!(status(gone.client().watch(START).await), NO_MEMBER);
    until(&mut other, &mut follower, |follower, _| {
        (!has(follower, gone.id())).then_some(())
    })
    .await;
    // Its name is free, its address rests.
    let next = site.node("two").await;
    assert_eq!(next.answer.node.address.to_string(), "100.72.0.4");
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_is_a_lease_and_revoking_it_removes_the_node() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let path = format!("/v1/mesh/nodes/{}", node.id());
    let read = site.operator().call("GET", &path, None).await.unwrap();
    let body = Some(json!({ "lease_id": read["lease_id"] }));
    site.operator()
        .call("PUT", "/v1/sys/leases/revoke", body)
        .await
        .unwrap();
    assert_eq!(
        status(node.client().renew(&node.renewal()).await),
        NO_MEMBER
    );
    assert_eq!(status(site.operator().call("GET", &path, None).await), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_stack_is_part_of_the_view() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let mut follower = node.follower();
    let mut watch = node.client().watch(START).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        has(follower, node.id()).then_some(())
    })
    .await;
    let compose = "services:\n  web:\n    image: hello:1\n";
    let stack = bastide_stack::parse(&"demo".parse().unwrap(), compose).unwrap();
    let body = serde_json::to_value(&stack).unwrap();
    let path = "/v1/cluster/stacks/demo";
    site.operator()
        .call("POST", path, Some(body.clone()))
        .await
        .unwrap();
    let text = until(&mut watch, &mut follower, |follower, _| {
        follower.view()?.entries.get("stacks/demo").cloned()
    })
    .await;
    assert_eq!(
        serde_json::from_str::<bastide_stack::Stack>(&text).unwrap(),
        stack
    );
    assert_eq!(site.operator().call("GET", path, None).await.unwrap(), body);
    let wrong = Some(json!({ "services": 1 }));
    assert_eq!(status(site.operator().call("POST", path, wrong).await), 400);
    site.operator().call("DELETE", path, None).await.unwrap();
    until(&mut watch, &mut follower, |follower, _| {
        (!follower.view()?.entries.contains_key("stacks/demo")).then_some(())
    })
    .await;
}
