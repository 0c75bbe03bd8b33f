//! Tickets and what they are good for; each weakness of the registrar that came before is shown to
//! be impossible here.

use std::collections::BTreeSet;

use bastide_api::TicketId;
use bastide_api::v1::{NodeFacts, RenewRequest, TaskFact};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_with_a_ticket_and_is_a_node_like_the_controllers_own() {
    let site = Site::start().await;
    let own: Ticket = site.begun.ticket.expose().parse().unwrap();
    let machine = Machine::new("one");
    let second = site.node("two").await;
    let first = site
        .stranger(&own)
        .join(&machine.request(&own))
        .await
        .unwrap();
    assert_eq!(
        first.node.id, site.begun.node,
        "the controller's id was known before"
    );
    assert_eq!(first.node.address.to_string(), "100.72.0.1");
    assert!(own.controllers[0].ip().is_loopback());
    assert_eq!(second.answer.node.address.to_string(), "100.72.0.2");
    assert_eq!(second.answer.node.containers.to_string(), "10.128.1.0/24");
    assert_eq!(second.answer.ca, site.begun.ca);
    let renewed = second.client().renew(&second.renewal()).await.unwrap();
    assert!(renewed.certificate.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_spent_once_and_repeats_its_answer_to_the_same_keys_alone() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let (first, other) = (Machine::new("two"), Machine::new("three"));
    let client = site.stranger(&ticket);
    let answer = client.join(&first.request(&ticket)).await.unwrap();
    let again = client.join(&first.request(&ticket)).await.unwrap();
    assert_eq!(again, answer);
    let refused = client.join(&other.request(&ticket)).await;
    assert!(said(refused).contains("spent"));
    // One key of two is not enough.
    let mut mixed = other.request(&ticket);
    mixed.wireguard = first.wireguard;
    assert_eq!(status(client.join(&mixed).await), 403);
    let mut mixed = first.request(&ticket);
    mixed.wireguard = other.wireguard;
    assert_eq!(status(client.join(&mixed).await), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_machines_that_race_for_a_ticket_make_one_node() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..50 {
        let client = site.stranger(&ticket);
        let machine = Machine::new(&format!("racer-{number}"));
        let request = machine.request(&ticket);
        racing.spawn(async move { client.join(&request).await });
    }
    let results = soon(racing.join_all()).await;
    let joined = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(joined, 1);
    for lost in results.into_iter().filter(Result::is_err) {
        assert!(said(lost).contains("spent"));
    }
    let nodes = site
        .operator()
        .call("LIST", "/v1/mesh/nodes", None)
        .await
        .unwrap();
    assert_eq!(nodes["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_join_at_once_get_names_addresses_and_ids_of_their_own() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({ "uses": 20 })).await;
    let mut joining = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = site.stranger(&ticket);
        let request = Machine::new(&format!("node-{number}")).request(&ticket);
        joining.spawn(async move { client.join(&request).await.unwrap().node });
    }
    let nodes = soon(joining.join_all()).await;
    let addresses: BTreeSet<_> = nodes.iter().map(|node| node.address).collect();
    let subnets: BTreeSet<_> = nodes.iter().map(|node| node.containers).collect();
    let ids: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
    assert_eq!((addresses.len(), subnets.len(), ids.len()), (20, 20, 20));
    // Among them .9 and .10, after which an order of texts would begin again.
    assert!(addresses.contains(&"100.72.0.20".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_wrong_expired_or_revoked_is_refused_with_a_reason() {
    let site = Site::start().await;
    let machine = Machine::new("two");
    let good = site.ticket(json!({})).await;
    let client = site.stranger(&good);
    let mut wrong = machine.request(&good);
    wrong.secret = BASE64.encode(&[0; 32]);
    let wrong_secret = said(client.join(&wrong).await);
    let mut unknown = machine.request(&good);
    unknown.ticket = TicketId::from_bytes([9; 16]);
    let unknown = said(client.join(&unknown).await);
    assert_eq!(
        wrong_secret, unknown,
        "whoever has no secret learns of no ticket"
    );
    let path = format!("/v1/auth/join/tickets/{}", good.id);
    site.operator().call("DELETE", &path, None).await.unwrap();
    let revoked = said(client.join(&machine.request(&good)).await);
    assert!(revoked.contains("revoked at"), "{revoked}");
    assert_eq!(said(client.join(&wrong).await), unknown);
    let brief = site.ticket(json!({ "ttl": "1s" })).await;
    let expired = soon(async {
        loop {
            // Until then the name is wrong, which spends nothing.
            let mut request = machine.request(&brief);
            request.routes = vec!["127.0.0.0/8".parse().unwrap()];
            let text = said(client.join(&request).await);
            if text.contains("ended") {
                return text;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(expired.contains("bastide ticket"), "{expired}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_behind_one_address_are_two_nodes_and_cannot_touch_each_other() {
    let site = Site::start().await;
    let (one, two) = (site.node("two").await, site.node("three").await);
    assert_ne!(one.id(), two.id());
    // Where a request comes from, or says it comes from, means nothing.
    let facts = |trouble: &str| NodeFacts {
        troubles: vec![trouble.to_owned()],
        ..NodeFacts::default()
    };
    for (node, trouble) in [(&one, "of one"), (&two, "of two")] {
        let request = RenewRequest {
            facts: Some(facts(trouble)),
            ..RenewRequest::default()
        };
        node.client().renew(&request).await.unwrap();
    }
    let observed = site.server.plane().facts().borrow().clone();
    assert_eq!(observed.nodes[&one.id()].facts.troubles, ["of one"]);
    assert_eq!(observed.nodes[&two.id()].facts.troubles, ["of two"]);
    let other = format!("/v1/mesh/nodes/{}", two.id());
    let own = format!("/v1/mesh/nodes/{}", one.id());
    let client = one.client_of(one.api);
    assert!(client.call("GET", &own, None).await.is_ok());
    assert_eq!(status(client.call("GET", &other, None).await), 403);
    assert_eq!(status(client.call("DELETE", &other, None).await), 403);
    assert_eq!(status(client.call("DELETE", &own, None).await), 403);
    assert_eq!(
        status(client.call("LIST", "/v1/mesh/nodes", None).await),
        403
    );
    let renewed = one
        .client()
        .renew(&one.renewal())
        .await
        .unwrap()
        .certificate
        .unwrap();
    let roots = bastide_pki::Roots::from_pem(&one.answer.ca).unwrap();
    let leaf = &bastide_pki::certificate_chain(&renewed).unwrap()[0];
    let now = site.server.plane().now();
    let peer = roots
        .verify(leaf, bastide_pki::Claim::NodeClient, now)
        .unwrap();
    assert_eq!(
        peer.node(),
        one.id(),
        "a node renews itself whatever it asks for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_made_up_token_nor_none_reads_or_removes_nodes() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let path = format!("/v1/mesh/nodes/{}", node.id());
    for token in [None, Some("anything"), Some("hvs.AAAAAAAAAAAAAAAAAAAAAAAA")] {
        let token = token.map(|text| Secret::new(text.to_owned()));
        let trust = Trust::Ca(site.begun.ca.clone());
        let client = Client::new(vec![site.api], trust, None, token).unwrap();
        assert_eq!(
            status(client.call("LIST", "/v1/mesh/nodes", None).await),
            403
        );
        assert_eq!(status(client.call("GET", &path, None).await), 403);
        assert_eq!(status(client.call("DELETE", &path, None).await), 403);
        assert_eq!(
            status(client.call("GET", "/v1/cluster/swarm", None).await),
            403
        );
        let body = Some(json!({}));
        assert_eq!(
            status(client.call("POST", "/v1/auth/join/tickets", body).await),
            403
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_a_ticket_for_a_name_makes_no_other() {
    let site = Site::start().await;
    let first = site.node("two").await;
    let ticket = site.ticket(json!({})).await;
    let client = site.stranger(&ticket);
    let taken = said(client.join(&Machine::new("two").request(&ticket)).await);
    assert!(
        taken.contains("--name") && taken.contains(&first.id().to_string()),
        "{taken}"
    );
    // A refused join spends nothing.
    assert!(
        client
            .join(&Machine::new("three").request(&ticket))
            .await
            .is_ok()
    );
    let named = site.ticket(json!({ "name": "four" })).await;
    let other = said(client.join(&Machine::new("five").request(&named)).await);
    assert!(other.contains("--name four"), "{other}");
    assert!(
        client
            .join(&Machine::new("four").request(&named))
            .await
            .is_ok()
    );
    let mut same_key = Machine::new("six").request(&site.ticket(json!({})).await);
    same_key.wireguard = first.machine.wireguard;
    assert!(said(client.join(&same_key).await).contains("WireGuard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_their_secrets_are_not_kept_in_the_audit_log_or_the_store() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let secret = BASE64.encode(ticket.secret.expose());
    let machine = Machine::new("two");
    site.stranger(&ticket)
        .join(&machine.request(&ticket))
        .await
        .unwrap();
    let folder = site.folder.path().to_owned();
    let site = site.restart().await;
    let audit = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    assert!(audit.contains("auth/join/login"), "the positive control");
    assert!(!audit.contains(&secret) && !audit.contains(ticket.reveal().expose()));
    let store = std::fs::read(folder.join("data/store.redb")).unwrap();
    let holds = |bytes: &[u8]| store.windows(bytes.len()).any(|window| window == bytes);
    assert!(
        holds(ticket.id.to_string().as_bytes()),
        "the positive control"
    );
    assert!(!holds(ticket.secret.expose()) && !holds(secret.as_bytes()));
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reports_only_its_own_containers() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let task = |address: &str| TaskFact {
        address: address.parse().unwrap(),
        service: None,
        name: Some("web".to_owned()),
        healthy: true,
    };
    let facts = NodeFacts {
        tasks: vec![task("10.128.0.5"), task("10.128.1.5"), task("192.0.2.1")],
        ..NodeFacts::default()
    };
    let request = RenewRequest {
        facts: Some(facts),
        ..RenewRequest::default()
    };
    node.client().renew(&request).await.unwrap();
    let observed = site.server.plane().facts().borrow().clone();
    assert_eq!(observed.nodes[&node.id()].facts.tasks, [task("10.128.1.5")]);
    let large = NodeFacts {
        troubles: vec!["x".repeat(600)],
        ..NodeFacts::default()
    };
    let request = RenewRequest {
        facts: Some(large),
        ..RenewRequest::default()
    };
    assert_eq!(status(node.client().renew(&request).await), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn subnets_behind_a_node_are_offered_by_it_and_approved_by_an_operator() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({ "uses": 2 })).await;
    let client = site.stranger(&ticket);
    let mut request = Machine::new("two").request(&ticket);
    request.routes = vec!["192.168.7.0/24".parse().unwrap()];
    let gateway = client.join(&request).await.unwrap().node;
    assert!(gateway.routes.is_empty(), "an offer is not yet a route");
    let other = client
        .join(&Machine::new("three").request(&ticket))
        .await
        .unwrap()
        .node;
    let approve = async |node: NodeId, route: &str| {
        let path = format!("/v1/mesh/nodes/{node}/routes");
        site.operator()
            .call("POST", &path, Some(json!({ "routes": [route] })))
            .await
    };
    approve(gateway.id, "192.168.7.0/24").await.unwrap();
    let path = format!("/v1/mesh/nodes/{}", gateway.id);
    let read = site.operator().call("GET", &path, None).await.unwrap();
    assert_eq!(read["routes"], json!(["192.168.7.0/24"]));
    assert_eq!(read["offered_routes"], json!(["192.168.7.0/24"]));
    assert!(said(approve(other.id, "192.168.0.0/16").await).contains("overlaps"));
    for own in [
        "100.72.3.0/24",
        "10.0.0.0/8",
        "10.144.0.0/24",
        "10.145.0.0/24",
    ] {
        assert!(
            said(approve(other.id, own).await).contains("own range"),
            "{own}"
        );
    }
    for wrong in ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/8", "192.168.9.1/24"] {
        assert_eq!(status(approve(other.id, wrong).await), 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_swarms_tokens_are_for_nodes_in_their_role_and_for_nobody_else() {
    let site = Site::start().await;
    let own: Ticket = site.begun.ticket.expose().parse().unwrap();
    let machine = Machine::new("one");
    let answer = site
        .stranger(&own)
        .join(&machine.request(&own))
        .await
        .unwrap();
    let controller = Node {
        machine,
        answer,
        channel: site.channel,
        api: site.api,
    };
    let worker = site.node("two").await;
    let report = json!({
        "swarm": "abcdef", "managers": ["100.72.0.1"],
        "worker_token": "SWMTKN-1-worker", "manager_token": "SWMTKN-1-manager",
    });
    let path = "/v1/cluster/swarm";
    let tell = async |client: Client| client.call("POST", path, Some(report.clone())).await;
    assert_eq!(status(tell(worker.client_of(site.api)).await), 403);
    assert_eq!(status(tell(site.operator()).await), 403);
    tell(controller.client_of(site.api)).await.unwrap();
    let ask = async |client: Client| client.call("GET", path, None).await;
    assert_eq!(
        ask(worker.client_of(site.api)).await.unwrap()["token"],
        "SWMTKN-1-worker"
    );
    assert_eq!(
        ask(controller.client_of(site.api)).await.unwrap()["token"],
        "SWMTKN-1-manager"
    );
    assert_eq!(status(ask(site.operator()).await), 403);
    let audit = std::fs::read_to_string(site.folder.path().join("audit.log")).unwrap();
    assert!(audit.contains("cluster/swarm") && !audit.contains("SWMTKN"));
}
