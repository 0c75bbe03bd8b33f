//! A server that is not of the cluster, and says `verified` to whoever asks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bastide_api::{ClusterId, NodeId};
use bastide_client::{Client, Trust};
use bastide_pki::{Authority, Identity, ProvenKey, Validity, certificate_chain};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::site::{SOON, Site};

/// The machine's own time.
#[derive(Debug)]
struct Wall;

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_millis(bastide_linux::clock::wall().as_millis());
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// It, with an authority of its own that bears the names of a real one.
pub struct FalseServer {
    connections: Arc<AtomicUsize>,
    authority: String,
    at: u16,
}

impl FalseServer {
    /// Starts it on a host; it ends with the test's process.
    pub fn start(site: &Site, host: &str, port: u16) -> Self {
        let now = bastide_linux::clock::wall();
        let authority = Authority::create(ClusterId::from_bytes([7; 16]), now, [1; 16]);
        let identity = Identity::generate();
        let key = ProvenKey::from_request(&identity.csr_pem()).unwrap();
        let validity = Validity {
            now,
            life: Duration::from_secs(3600),
        };
        let node = NodeId::from_bytes([7; 16]);
        let issued = authority.sign_controller(&key, node, &[], validity, [2; 16]);
        let chain = certificate_chain(&issued.pem).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_details(provider, Arc::new(Wall))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, identity.key_der())
            .unwrap();
        let config = Arc::new(config);
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = site
            .lab()
            .within(host, || TcpListener::bind(address).unwrap());
        let listener = listener.unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                heard.fetch_add(1, Ordering::SeqCst);
                // Who does not trust it breaks off, which is no reason to end.
                let _ = lie(&config, stream);
            }
        });
        Self {
            connections,
            authority: authority.certificate_pem().to_owned(),
            at: port,
        }
    }

    /// How many connected so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Whether it answers as wanted: the control, without which a refusal proves nothing.
    pub fn is_believed_by_who_trusts_it(&self, site: &Site, host: &str) -> bool {
        let address = site.node(host, "atlas").unwrap().address;
        // Not at its own port: what is sent to the control plane's arrives there.
        assert_ne!(self.at, 8200);
        let trust = Trust::Ca(self.authority.clone());
        let asked = site.lab().within(host, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let there = vec![SocketAddr::from((address, 8200))];
                let client = Client::new(there, trust, None, None).unwrap();
                let body = serde_json::json!({ "otp": "whatever" });
                client.call("POST", "/v1/ssh/node/verify", Some(body)).await
            })
        });
        asked.unwrap().is_ok_and(|data| data["username"] == "ada")
    }
}

fn lie(config: &Arc<ServerConfig>, stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    let mut asked = Vec::new();
    let mut piece = [0; 1024];
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => asked.extend_from_slice(&piece[..length]),
        }
    }
    let body = r#"{"data":{"username":"ada","role_name":"otp","ip":"100.72.0.2"}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}
