use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

/// A node's blobs, served to peers and to the engine.
struct Node {
    blobs: Arc<Blobs>,
    loopback: SocketAddr,
    peers: SocketAddr,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Node {
    async fn start(peers: Vec<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(folder.path()).unwrap());
        let (_, addresses) = watch::channel(peers);
        let fetcher = Fetcher::new(
            Arc::clone(&blobs),
            Peers {
                addresses,
                tls: None,
            },
        );
        let (engine, loopback) = listener().await;
        let (mesh, peers) = listener().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_loopback(engine, Arc::new(fetcher)));
        tasks.spawn(serve_peers(mesh, Arc::clone(&blobs), None));
        Self {
            blobs,
            loopback,
            peers,
            _folder: folder,
            _tasks: tasks,
        }
    }
}

/// An answer: status, head in lower case, body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn request(to: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let text = format!("{text}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Answer {
        status,
        head: lines.map(field).collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

async fn get(to: SocketAddr, path: &str) -> Answer {
    request(to, &format!("GET {path} HTTP/1.1\r\nHost: {to}")).await
}

fn manifest(layer: Digest, config: Digest) -> String {
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\
         \"config\":{{\"mediaType\":\"x\",\"digest\":\"{config}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"y\",\"digest\":\"{layer}\",\"size\":10}}]}}",
        kind = manifest::OCI_MANIFEST
    )
}

#[tokio::test]
async fn an_engine_finds_what_its_node_has() {
    let node = Node::start(vec![]).await;
    let layer = node.blobs.put(b"0123456789").unwrap();
    let text = manifest(layer, node.blobs.put(b"{}").unwrap());
    let digest = node.blobs.put(text.as_bytes()).unwrap();
    node.blobs
        .name(&"hello:1".parse().unwrap(), digest)
        .unwrap();
    let to = node.loopback;

    let base = get(to, "/v2/").await;
    assert_eq!((base.status, base.body.as_slice()), (200, &b"{}"[..]));
    assert_eq!(base.head["docker-distribution-api-version"], "registry/2.0");
    for reference in [digest.to_string(), "1".to_owned()] {
        let answer = get(to, &format!("/v2/hello/manifests/{reference}")).await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, text.as_bytes())
        );
        assert_eq!(answer.head["content-type"], manifest::OCI_MANIFEST);
        assert_eq!(answer.head["docker-content-digest"], digest.to_string());
    }
    let answer = get(to, &format!("/v2/team/hello/blobs/{layer}")).await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"0123456789"[..])
    );
    let head = request(
        to,
        &format!("HEAD /v2/hello/blobs/{layer} HTTP/1.1\r\nHost: {to}"),
    )
    .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.head["content-length"], "10");
    let part = format!("GET /v2/hello/blobs/{layer} HTTP/1.1\r\nHost: {to}\r\nRange: bytes=4-");
    let part = request(to, &part).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"456789"[..]));
    assert_eq!(part.head["content-range"], "bytes 4-9/10");
}

#[tokio::test]
async fn what_is_unknown_or_not_allowed_is_refused() {
    let node = Node::start(vec![]).await;
    let digest = node.blobs.put(b"no manifest").unwrap();
    let to = node.loopback;
    let unknown = "sha256:".to_owned() + &"0".repeat(64);
    let check = async |path: &str, status: u16| {
        let answer = get(to, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.body.starts_with(b"{\"errors\":[{\"code\":\""),
            "{path}"
        );
    };
    check(&format!("/v2/hello/blobs/{unknown}"), 404).await;
    check(&format!("/v2/hello/manifests/{unknown}"), 404).await;
    check(&format!("/v2/hello/manifests/{digest}"), 404).await;
    check("/v2/hello/manifests/latest", 404).await;
    check("/v2/hello/blobs/sha256:../../names.json", 400).await;
    check("/v2/hello/blobs/..", 400).await;
    check("/v2/HELLO/blobs/x", 400).await;
    check("/v2/_catalog", 404).await;
    check("/", 404).await;
    check("/v2/../../etc/passwd", 400).await;
    for method in ["PUT", "POST", "PATCH", "DELETE"] {
        let text = format!("{method} /v2/hello/blobs/{digest} HTTP/1.1\r\nHost: {to}");
        assert_eq!(request(to, &text).await.status, 405, "{method}");
    }
    assert!(node.blobs.has(digest));
}

#[tokio::test]
async fn a_page_under_another_name_reads_nothing_from_loopback() {
    let node = Node::start(vec![]).await;
    let digest = node.blobs.put(b"private").unwrap();
    let text = |host: &str| format!("GET /v2/hello/blobs/{digest} HTTP/1.1\r\nHost: {host}");
    for (host, status) in [
        ("127.0.0.1:5443", 200),
        ("localhost:5443", 200),
        ("[::1]:5443", 200),
        ("attacker.example:5443", 403),
        ("192.168.1.2:5443", 403),
    ] {
        assert_eq!(
            request(node.loopback, &text(host)).await.status,
            status,
            "{host}"
        );
    }
}

#[tokio::test]
async fn missing_blobs_come_from_the_first_peer_that_has_them() {
    let (one, two) = (Node::start(vec![]).await, Node::start(vec![]).await);
    let layer = two.blobs.put(b"0123456789").unwrap();
    let config = two.blobs.put(b"{}").unwrap();
    let digest = two.blobs.put(manifest(layer, config).as_bytes()).unwrap();
    let (gone, dead) = listener().await;
    drop(gone);
    let node = Node::start(vec![dead, one.peers, two.peers]).await;
    let answer = get(node.loopback, &format!("/v2/hello/manifests/{digest}")).await;
    assert_eq!(answer.status, 200);
    let answer = get(node.loopback, &format!("/v2/hello/blobs/{layer}")).await;
    assert_eq!(answer.body, b"0123456789");
    assert!(node.blobs.has(layer) && node.blobs.has(digest) && !node.blobs.has(config));
    assert!(!one.blobs.has(layer));
    // A peer answers with what it has; it asks nobody.
    let third = get(one.peers, &format!("/v2/hello/blobs/{layer}")).await;
    assert_eq!(third.status, 404);
    // And it does not say what a name means.
    two.blobs.name(&"hello:1".parse().unwrap(), digest).unwrap();
    assert_eq!(get(two.peers, "/v2/hello/manifests/1").await.status, 404);
}

#[tokio::test]
async fn a_whole_image_is_fetched_at_once() {
    let two = Node::start(vec![]).await;
    let layer = two.blobs.put(b"0123456789").unwrap();
    let config = two.blobs.put(b"{}").unwrap();
    let digest = two.blobs.put(manifest(layer, config).as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let blobs = Arc::new(Blobs::open(folder.path()).unwrap());
    let (_, addresses) = watch::channel(vec![two.peers]);
    let fetcher = Fetcher::new(
        Arc::clone(&blobs),
        Peers {
            addresses,
            tls: None,
        },
    );
    fetcher.ensure_image(digest).await.unwrap();
    assert!(
        [layer, config, digest]
            .iter()
            .all(|digest| blobs.has(*digest))
    );
    let nowhere = Digest::from_sha256([7; 32]);
    let error = fetcher.ensure_image(nowhere).await.unwrap_err();
    assert!(matches!(error, FetchError::Nowhere { asked: 1, .. }));
}

/// A peer that answers every request with `answer`, and counts.
async fn liar(answer: Vec<u8>, tasks: &mut JoinSet<()>) -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, address) = listener().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 1_024];
            // Long enough for all who ask at once to be waiting.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_lying_peer_is_passed_over() {
    let honest = Node::start(vec![]).await;
    let digest = honest.blobs.put(b"truth").unwrap();
    let mut tasks = JoinSet::new();
    for lie in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ntruth",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
    ] {
        let (liar, asked) = liar(lie.to_vec(), &mut tasks).await;
        let node = Node::start(vec![liar, honest.peers]).await;
        let answer = get(node.loopback, &format!("/v2/hello/blobs/{digest}")).await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"truth"[..])
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_blob_that_many_ask_for_crosses_the_mesh_once() {
    let body = b"once";
    let folder = tempfile::tempdir().unwrap();
    let digest = Blobs::open(folder.path()).unwrap().put(body).unwrap();
    let mut tasks = JoinSet::new();
    let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"[..], body].concat();
    let (peer, asked) = liar(answer, &mut tasks).await;
    let node = Node::start(vec![peer]).await;
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let (to, path) = (node.loopback, format!("/v2/hello/blobs/{digest}"));
        asking.spawn(async move { get(to, &path).await.status });
    }
    assert!(asking.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Certificates made by somebody else's program: a CA, and one that it signed for 127.0.0.1.
/// `None` if that program is not installed.
fn certificates(folder: &std::path::Path) -> Option<()> {
    let openssl = |words: &str| {
        let mut command = std::process::Command::new("openssl");
        let output = command.args(words.split(' ')).current_dir(folder).output();
        output
            .ok()
            .filter(|output| output.status.success())
            .map(drop)
    };
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"
    ))?;
    openssl(&format!(
        "req {key} -keyout key.pem -out csr.pem -subj /CN=node"
    ))?;
    let sign = "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial";
    openssl(&format!("{sign} -out cert.pem -days 2 -extfile ext"))
}

#[tokio::test]
async fn with_certificates_only_members_are_served() {
    use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::time_provider::{DefaultTimeProvider, TimeProvider};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

    let folder = tempfile::tempdir().unwrap();
    if certificates(folder.path()).is_none() {
        eprintln!("skipped: openssl is missing");
        return;
    }
    let read = |name: &str| CertificateDer::from_pem_file(folder.path().join(name)).unwrap();
    let key = || PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.pem")).unwrap();
    let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
    let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let server = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&time))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![read("cert.pem")], key())
        .unwrap();
    let client = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let member = client
        .clone()
        .with_client_auth_cert(vec![read("cert.pem")], key());
    let stranger = client.with_no_client_auth();

    let origin = Arc::new(Blobs::open(folder.path().join("origin")).unwrap());
    let digest = origin.put(b"for members").unwrap();
    let (listener, address) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_peers(listener, origin, Some(Arc::new(server))));
    let ensure = async |name: &str, tls: Option<ClientConfig>| {
        let blobs = Arc::new(Blobs::open(folder.path().join(name)).unwrap());
        let (_, addresses) = watch::channel(vec![address]);
        let tls = tls.map(Arc::new);
        Fetcher::new(blobs, Peers { addresses, tls })
            .ensure(digest)
            .await
    };
    assert!(ensure("plain", None).await.is_err());
    assert!(ensure("stranger", Some(stranger)).await.is_err());
    assert_eq!(ensure("member", Some(member.unwrap())).await.unwrap(), 11);
}
