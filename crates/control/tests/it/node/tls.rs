//! What the wire shows, and who is let in.

use std::sync::{Arc, Mutex};

use bastide_api::{CaPin, TicketId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A proxy that keeps what it carries, in both directions.
struct Tee {
    address: SocketAddr,
    heard: Arc<Mutex<[Vec<u8>; 2]>>,
    _task: tokio::task::JoinSet<()>,
}

impl Tee {
    async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
        let mut task = tokio::task::JoinSet::new();
        let kept = Arc::clone(&heard);
        task.spawn(async move {
            let mut pumps = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.unwrap();
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                pumps.spawn(pump(client_read, server_write, Arc::clone(&kept), 0));
                pumps.spawn(pump(server_read, client_write, Arc::clone(&kept), 1));
            }
        });
        Self {
            address,
            heard,
            _task: task,
        }
    }

    fn heard(&self) -> [Vec<u8>; 2] {
        self.heard.lock().unwrap().clone()
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    heard: Arc<Mutex<[Vec<u8>; 2]>>,
    side: usize,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        heard.lock().unwrap()[side].extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Returns the extensions' types of a ClientHello (RFC 8446, section 4.1.2).
fn extensions(record: &[u8]) -> Vec<u16> {
    let body = &record[5 + 4..];
    let mut at = 2 + 32;
    at += 1 + usize::from(body[at]);
    at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    at += 1 + usize::from(body[at]);
    let end = at + 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    at += 2;
    let mut found = Vec::new();
    while at < end {
        found.push(u16::from_be_bytes([body[at], body[at + 1]]));
        at += 4 + usize::from(u16::from_be_bytes([body[at + 2], body[at + 3]]));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_shows_no_server_name_no_name_no_address_and_no_key() {
    let site = Site::start().await;
    let tee = Tee::before(site.channel).await;
    let ticket = site.ticket(json!({})).await;
    let machine = Machine::new("secretive");
    let client = Client::new(vec![tee.address], Trust::Pin(ticket.pin), None, None).unwrap();
    let answer = client.join(&machine.request(&ticket)).await.unwrap();
    let node = Node {
        machine,
        answer,
        channel: tee.address,
        api: site.api,
    };
    node.client().renew(&node.renewal()).await.unwrap();
    let mut watch = node.client().watch(START).await.unwrap();
    soon(watch.next()).await.unwrap();
    let [sent, received] = tee.heard();
    assert_eq!(
        &sent[..3],
        [22, 3, 1],
        "the positive control: a handshake record"
    );
    assert_eq!(sent[5], 1, "the positive control: a ClientHello");
    let extensions = extensions(&sent);
    assert!(
        extensions.contains(&43),
        "the positive control: supported_versions"
    );
    assert!(!extensions.contains(&0), "server_name");
    let record = &node.answer.node;
    for bytes in [&sent, &received] {
        assert!(1000 < bytes.len());
        let keys = [record.wireguard.as_bytes(), record.discovery.as_bytes()];
        let texts = [
            "secretive".to_owned(),
            "demo".to_owned(),
            "home".to_owned(),
            record.address.to_string(),
            record.id.to_string(),
            record.wireguard.to_string(),
            node.answer.cluster.id.to_string(),
            ticket.id.to_string(),
            BASE64.encode(ticket.secret.expose()),
            "spiffe".to_owned(),
        ];
        for text in &texts {
            assert!(!holds(bytes, text.as_bytes()), "the wire shows {text}");
        }
        assert!(keys.iter().all(|key| !holds(bytes, key.as_slice())));
        assert!(!holds(bytes, &record.address.octets()[..]) || record.address.octets()[3] < 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_pinned_authority_never_sees_the_tickets_secret() {
    let (site, impostor) = (Site::start().await, Site::start().await);
    let ticket = site.ticket(json!({})).await;
    let tee = Tee::before(impostor.channel).await;
    let client = Client::new(vec![tee.address], Trust::Pin(ticket.pin), None, None).unwrap();
    let refused = client.join(&Machine::new("two").request(&ticket)).await;
    assert!(
        matches!(refused, Err(ClientError::Untrusted { .. })),
        "{refused:?}"
    );
    let audit = std::fs::read_to_string(impostor.folder.path().join("audit.log")).unwrap();
    assert!(!audit.contains("auth/join/login"), "no request reached it");
    // The control: with the impostor's own pin it does.
    let own = impostor.ticket(json!({})).await;
    let client = Client::new(vec![tee.address], Trust::Pin(own.pin), None, None).unwrap();
    client
        .join(&Machine::new("two").request(&own))
        .await
        .unwrap();
    let nobody = Client::new(vec![site.channel], Trust::Pin(CaPin([0; 32])), None, None).unwrap();
    let refused = nobody.join(&Machine::new("two").request(&ticket)).await;
    assert!(matches!(refused, Err(ClientError::Untrusted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_controller_that_answers_and_is_trusted_is_asked() {
    let (site, impostor) = (Site::start().await, Site::start().await);
    let ticket = site.ticket(json!({})).await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let list = vec![closed, impostor.channel, site.channel];
    let client = Client::new(list, Trust::Pin(ticket.pin), None, None).unwrap();
    client
        .join(&Machine::new("two").request(&ticket))
        .await
        .unwrap();
    let nobody = Client::new(vec![closed], Trust::Pin(ticket.pin), None, None).unwrap();
    match nobody.join(&Machine::new("three").request(&ticket)).await {
        Err(ClientError::Unreachable(attempts)) => {
            assert_eq!(attempts[0].address, closed.to_string());
        }
        other => panic!("a closed port is unreachable: {other:?}"),
    }
}

/// Lets openssl shake hands; returns whether it was content, and what it said.
async fn openssl(folder: &Path, arguments: &str) -> Option<(bool, String)> {
    let line = format!("s_client -no_ticket -brief -verify_return_error {arguments}");
    let mut openssl = tokio::process::Command::new("openssl");
    openssl
        .current_dir(folder)
        .args(line.split(' '))
        .stdin(std::process::Stdio::null());
    let Ok(output) = soon(openssl.output()).await else {
        eprintln!("skipped: openssl is missing");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_the_apis_address_and_gets_tls_1_3_and_nothing_older() {
    let site = Site::start().await;
    let folder = site.folder.path();
    std::fs::write(folder.join("ca.pem"), &site.begun.ca).unwrap();
    let to = |address: SocketAddr| format!("-CAfile ca.pem -connect {address}");
    let checked = format!("{} -verify_ip 127.0.0.1", to(site.api));
    let Some((is_content, said)) = openssl(folder, &checked).await else {
        return;
    };
    assert!(is_content && said.contains("TLSv1.3"), "{said}");
    let elsewhere = format!("{} -verify_ip 192.0.2.1", to(site.api));
    let (is_content, said) = openssl(folder, &elsewhere).await.unwrap();
    assert!(!is_content, "{said}");
    for address in [site.api, site.channel] {
        let (is_content, said) = openssl(folder, &to(address)).await.unwrap();
        assert!(is_content, "{said}");
        let old = format!("{} -tls1_2", to(address));
        let (is_content, said) = openssl(folder, &old).await.unwrap();
        assert!(!is_content, "{said}");
    }
    // The channel's certificate names no address to whoever knocks.
    let (is_content, said) = openssl(
        folder,
        &format!("{} -verify_ip 127.0.0.1", to(site.channel)),
    )
    .await
    .unwrap();
    assert!(!is_content, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_the_channel_gets_no_answer() {
    let site = Site::start().await;
    let mut stream = TcpStream::connect(site.channel).await.unwrap();
    stream
        .write_all(b"GET /v1/mesh/nodes HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    // At most a TLS alert (RFC 8446, section 6): nothing of HTTP.
    assert!(
        answer.is_empty() || (answer[0] == 21 && answer.len() == 7),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_members_certificate_renew_and_watch_are_refused() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let stranger = site.stranger(&ticket);
    assert_eq!(status(stranger.renew(&RenewRequest::default()).await), 403);
    assert_eq!(status(stranger.watch(START).await), 403);
    // Nor does an operator's token open them, nor a certificate of another cluster.
    let token = Some(Secret::new(site.root.clone()));
    let trust = Trust::Pin(ticket.pin);
    let operator = Client::new(vec![site.channel], trust, None, token).unwrap();
    assert_eq!(status(operator.renew(&RenewRequest::default()).await), 403);
    assert_eq!(status(operator.watch(START).await), 403);
    let other = Site::start().await;
    let foreigner = other.node("two").await;
    let own =
        ClientIdentity::new(&foreigner.answer.certificate, &foreigner.machine.identity).unwrap();
    let trust = Trust::Pin(ticket.pin);
    let client = Client::new(vec![site.channel], trust, Some(own), None).unwrap();
    let refused = client.renew(&RenewRequest::default()).await;
    assert!(refused.is_err() && !matches!(refused, Err(ClientError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_to_the_world_knows_three_paths() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let token = Some(Secret::new(site.root.clone()));
    let client = Client::new(vec![site.channel], Trust::Pin(ticket.pin), None, token).unwrap();
    let node = site.node("two").await;
    for path in [
        "sys/health",
        "sys/mounts",
        "mesh/nodes",
        "cluster/swarm",
        "auth/join/tickets",
    ] {
        for client in [&client, &node.client()] {
            let path = format!("/v1/{path}");
            assert_eq!(status(client.call("GET", &path, None).await), 404, "{path}");
        }
    }
    // The same token on the API is an operator's.
    assert!(
        site.operator()
            .call("GET", "/v1/sys/mounts", None)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_larger_than_any_request_is_refused_at_the_door() {
    let site = Site::start().await;
    let node = site.node("two").await;
    let body = json!({ "csr": "x".repeat(70_000) });
    let refused = node
        .client()
        .call("POST", "/v1/mesh/renew", Some(body))
        .await;
    assert_eq!(status(refused), 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_again_and_again_has_to_wait() {
    let site = Site::start().await;
    let ticket = site.ticket(json!({})).await;
    let client = site.stranger(&ticket);
    let machine = Machine::new("two");
    let mut request = machine.request(&ticket);
    request.secret = BASE64.encode(&[1; 32]);
    // Each time another ticket: it is the address that wears patience out.
    let mut last = 403;
    for number in 0..100_u8 {
        request.ticket = TicketId::from_bytes([number; 16]);
        last = status(client.join(&request).await);
        if last != 403 {
            break;
        }
    }
    assert_eq!(last, 429);
    // What is refused without a look makes the log no longer.
    let length = || {
        std::fs::metadata(site.folder.path().join("audit.log"))
            .unwrap()
            .len()
    };
    let before = length();
    for _ in 0..10 {
        assert_eq!(status(client.join(&request).await), 429);
        assert_eq!(status(client.renew(&RenewRequest::default()).await), 429);
    }
    assert_eq!(length(), before);
    // A machine behind the same address with a good ticket is not held up, nor is a member.
    let answer = client.join(&machine.request(&ticket)).await.unwrap();
    let node = Node {
        machine,
        answer,
        channel: site.channel,
        api: site.api,
    };
    node.client().renew(&node.renewal()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_can_be_bound_to_an_address_that_the_host_has_not_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, _) = start(folder.path());
    channel::begin(server.plane(), beginning(&[]))
        .await
        .unwrap();
    let mesh: SocketAddr = "100.72.255.1:0".parse().unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listen = Listen {
        channel: vec![any],
        api: vec![any, mesh],
    };
    let at = channel::open(&mut server, &listen).await.unwrap();
    assert_eq!(at.api[1].ip(), mesh.ip());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_once() {
    let site = Site::start().await;
    assert!(
        channel::begin(site.server.plane(), beginning(&[]))
            .await
            .is_err()
    );
    let record = channel::cluster(site.server.plane()).unwrap().unwrap();
    assert_eq!(record.controllers[0].node, site.begun.node);
    // Nobody else can begin one, or certify a controller.
    let body = Some(json!({}));
    assert_eq!(
        status(site.operator().call("POST", "/v1/mesh/create", body).await),
        403
    );
    let path = format!("/v1/mesh/controllers/{}/certificate", site.begun.node);
    let body = Some(json!({ "csr": Identity::generate().csr_pem() }));
    assert_eq!(status(site.operator().call("POST", &path, body).await), 403);
}
