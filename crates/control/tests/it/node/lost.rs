//! Answers that are lost on their way, after what they tell of was done.

use bastide_api::v1::JoinReply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Carries one connection to the controller until `is_done`: what the controller says then is lost,
/// and the connection with it. Returns where it listens.
async fn losing(
    to: SocketAddr,
    is_done: impl Fn() -> bool + Send + 'static,
) -> (SocketAddr, tokio::task::JoinHandle<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let carrying = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(to).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let asking = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        });
        let mut piece = [0; 16 * 1024];
        loop {
            let length = from_server.read(&mut piece).await.unwrap_or(0);
            if length == 0 {
                return false;
            }
            // An answer is given after its commit, so a piece that comes before is of the handshake.
            if is_done() {
                asking.abort();
                return true;
            }
            to_client.write_all(&piece[..length]).await.unwrap();
        }
    });
    (address, carrying)
}

/// The ids of all nodes.
fn nodes(site: &Site) -> Vec<String> {
    let (_, ids) = site
        .server
        .plane()
        .inspect("mesh/", |ctx| {
            bastide_control::core::engines::mesh::list_entries(ctx, "nodes/")
        })
        .unwrap();
    ids
}

/// Sends a request whose answer is lost once `is_done`.
async fn lose(
    site: &Site,
    ticket: &Ticket,
    request: &JoinRequest,
    is_done: impl Fn() -> bool + Send + 'static,
) {
    let (address, carrying) = losing(site.channel, is_done).await;
    let client = Client::new(vec![address], Trust::Pin(ticket.pin), None, None).unwrap();
    let error = soon(client.apply(request)).await.unwrap_err();
    assert!(error.is_passing(), "an agent tries again after: {error}");
    assert!(soon(carrying).await.unwrap(), "an answer was on its way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_answer_was_lost_is_answered_again_and_made_one_node() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let machine = Machine::new("two");
    let request = machine.request(&ticket);
    let plane = site.server.plane().clone();
    lose(&site, &ticket, &request, move || {
        let listed = plane.inspect("mesh/", |ctx| {
            bastide_control::core::engines::mesh::list_entries(ctx, "nodes/")
        });
        !listed.unwrap().1.is_empty()
    })
    .await;
    let made = nodes(&site);
    assert_eq!(made.len(), 1, "it was done all the same");
    let answer = site.stranger(&ticket).join(&request).await.unwrap();
    assert_eq!(answer.node.id.to_string(), made[0]);
    // And again, by a server that was started anew meanwhile.
    let site = site.restart().await;
    let again = site.stranger(&ticket).join(&request).await.unwrap();
    assert_eq!(again, answer);
    assert_eq!(nodes(&site), made);
    let other = Machine::new("three").request(&ticket);
    let refused = said(site.stranger(&ticket).join(&other).await);
    assert!(refused.contains("spent"), "{refused}");
    // What it was answered is good.
    let node = Node {
        machine,
        answer,
        channel: site.channel,
        api: site.api,
    };
    node.client().renew(&node.renewal()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_missed_that_it_was_let_in_is_told_again() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({ "approve": true })).await;
    let request = Machine::new("two").request(&ticket);
    let plane = site.server.plane().clone();
    // That it waits is lost, then that it was let in.
    lose(&site, &ticket, &request, move || {
        let waiting = plane.inspect("mesh/", |ctx| {
            bastide_control::core::engines::mesh::list_entries(ctx, "joins/")
        });
        !waiting.unwrap().1.is_empty()
    })
    .await;
    let waiting = site.stranger(&ticket).apply(&request).await.unwrap();
    let JoinReply::Waiting(waiting) = waiting else {
        panic!("nobody let it in")
    };
    let path = format!("/v1/auth/join/pending/{}/admit", waiting.id);
    site.operator()
        .call("POST", &path, Some(json!({})))
        .await
        .unwrap();
    let plane = site.server.plane().clone();
    lose(&site, &ticket, &request, move || {
        let listed = plane.inspect("mesh/", |ctx| {
            bastide_control::core::engines::mesh::list_entries(ctx, "nodes/")
        });
        !listed.unwrap().1.is_empty()
    })
    .await;
    let answer = site.stranger(&ticket).join(&request).await.unwrap();
    assert_eq!(answer.node.id, waiting.id);
    assert_eq!(nodes(&site), [waiting.id.to_string()]);
}
