//! An older store in the place of the one that was: nodes notice, keep what they have, and follow it
//! only when an operator says so.

use bastide_client::FollowError;

use super::*;

/// Watches as an agent does, until something is followed or refused.
async fn watch_once(node: &Node, follower: &mut ViewFollower) -> Result<(), FollowError> {
    follower.restart();
    let run = follower.run();
    let revision = follower.view().map(|view| view.revision);
    let known = revision.zip(run.as_deref());
    let mut watch = node
        .client()
        .watch_after(follower.resume_from(), known, None)
        .await
        .unwrap();
    soon(async {
        loop {
            let event = watch.next().await.expect("the watch goes on");
            match follower.handle(event) {
                Ok(Followed::View { .. }) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    })
    .await
}

impl Site {
    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("data/store.redb")
    }

    /// Stops, does something to the store, and starts again.
    pub(super) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let store = self.store();
        let Self {
            server,
            root,
            begun,
            folder,
            ..
        } = self;
        server.stop().await;
        change(&store);
        let (mut server, _) = start(folder.path());
        let (channel, api) = open(&mut server).await;
        Self {
            server,
            channel,
            api,
            root,
            begun,
            folder,
        }
    }
}

impl Node {
    /// The same node, with the controller where it is now.
    pub(super) fn at(mut self, site: &Site) -> Self {
        self.channel = site.channel;
        self.api = site.api;
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_store_is_not_followed_until_an_operator_accepts_it() {
    let site = Site::start().await;
    let node = site.node("one").await;
    let backup = site.folder.path().join("backup.redb");
    let site = site
        .restart_after(|store| {
            std::fs::copy(store, &backup).unwrap();
        })
        .await;
    let node = node.at(&site);
    let mut follower = node.follower();
    watch_once(&node, &mut follower).await.unwrap();
    let later = site.node("later").await;
    while !has(&follower, later.id()) {
        watch_once(&node, &mut follower).await.unwrap();
    }
    let known = follower.view().unwrap().revision;

    // The backup, as it was.
    let site = site
        .restart_after(|store| {
            std::fs::copy(&backup, store).unwrap();
        })
        .await;
    let node = node.at(&site);
    let refused = watch_once(&node, &mut follower).await.unwrap_err();
    assert!(matches!(refused, FollowError::Older { .. }), "{refused}");
    assert!(has(&follower, later.id()), "the node keeps what it has");

    // It goes on, past the revision that is known; that is not enough.
    let operator = site.operator();
    while site.server.plane().store().revision() <= Revision(known.0 + 5) {
        let body = json!({ "data": { "x": 1 } });
        operator
            .call("POST", "/v1/secret/data/x", Some(body))
            .await
            .unwrap();
    }
    let other = site.node("other").await;
    let refused = watch_once(&node, &mut follower).await.unwrap_err();
    assert!(
        matches!(
            refused,
            FollowError::Apart { .. } | FollowError::Signature { .. }
        ),
        "{refused}"
    );
    let refused = watch_once(&node, &mut follower).await.unwrap_err();
    assert!(matches!(refused, FollowError::Apart { .. }), "{refused}");
    assert!(refused.is_departure());
    let site = site.restart_after(|_| {}).await;
    let node = node.at(&site);
    let refused = watch_once(&node, &mut follower).await.unwrap_err();
    assert!(
        refused.is_departure(),
        "another start does not help: {refused}"
    );

    // A stranger to the operator's token cannot accept it.
    let accept = "/v1/mesh/history/accept";
    let as_node = node.client_of(site.api);
    let refused = as_node.call("POST", accept, Some(json!({}))).await;
    assert_eq!(status(refused), 403);
    let operator = site.operator();
    let accepted = operator
        .call("POST", accept, Some(json!({})))
        .await
        .unwrap();
    assert_eq!(accepted["generation"], 1);
    watch_once(&node, &mut follower).await.unwrap();
    assert!(has(&follower, other.id()) && !has(&follower, later.id()));

    // And what counted before does not count any more, for whoever has followed.
    let site = site.restart_after(|_| {}).await;
    let node = node.at(&site);
    watch_once(&node, &mut follower).await.unwrap();
    site.server.stop().await;
}
