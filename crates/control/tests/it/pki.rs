//! Certificates before other people's judges: OpenSSL for chains, lists and OCSP, rustls for mutual TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;

use bastide_api::Secret;
use bastide_control::run::dev::{self, DevServer};
use data_encoding::BASE64;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::skipped;

/// A development server with authorities, and a folder for what OpenSSL reads.
struct Bench {
    dev: DevServer,
    folder: TempDir,
}

/// Sends one request; returns status, type and body.
fn send(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "))
        .unwrap_or_default();
    (status, kind.to_owned(), answer[end + 4..].to_vec())
}

impl Bench {
    /// Starts a server in which `pki/` has a root of this kind, and `below/` an intermediate.
    async fn new(kind: &str) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let dev = dev::start(any, Some(Secret::new("root".to_owned())));
        let bench = Self {
            dev: dev.await.unwrap(),
            folder: TempDir::new().unwrap(),
        };
        tokio::task::block_in_place(|| {
            for mount in ["pki", "below"] {
                bench.write(&format!("sys/mounts/{mount}"), json!({ "type": "pki" }));
            }
            let root = json!({ "common_name": "judged root", "key_type": kind });
            let root = bench.write("pki/root/generate/internal", root);
            bench.file("root.pem", &root["certificate"]);
            let asked = json!({ "common_name": "judged intermediate", "key_type": kind });
            let request = bench.write("below/intermediate/generate/internal", asked);
            let asked = json!({
                "csr": request["csr"], "common_name": "judged intermediate", "ttl": "700h",
            });
            let signed = bench.write("pki/root/sign-intermediate", asked);
            bench.file("below.pem", &signed["certificate"]);
            let both = format!(
                "{}\n{}",
                text(&signed["certificate"]),
                text(&root["certificate"])
            );
            bench.write(
                "below/intermediate/set-signed",
                json!({ "certificate": both }),
            );
            let ocsp = format!("http://{}/v1/below/ocsp", bench.dev.address);
            bench.write("below/config/urls", json!({ "ocsp_servers": ocsp }));
            let role = json!({
                "allowed_domains": "services.test", "allow_subdomains": true, "key_type": "ec",
                "max_ttl": "72h", "allowed_uri_sans": "spiffe://test/*",
                "policy_identifiers": "1.2.3.4",
            });
            bench.write("below/roles/service", role);
        });
        bench
    }

    fn write(&self, path: &str, data: Value) -> Value {
        let mut stream = TcpStream::connect(self.dev.address).unwrap();
        let body = data.to_string();
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-vault-token: root\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!((200..300).contains(&status), "{path}: {answer}");
        if body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str::<Value>(body).unwrap()["data"].take()
    }

    fn fetch(&self, path: &str) -> (u16, String, Vec<u8>) {
        send(self.dev.address, &format!("GET /v1/{path}"), b"")
    }

    fn issue(&self, name: &str) -> Value {
        let asked = json!({
            "common_name": format!("{name}.services.test"), "ttl": "72h",
            "uri_sans": format!("spiffe://test/{name}"), "ip_sans": "127.0.0.1",
        });
        self.write("below/issue/service", asked)
    }

    fn file(&self, name: &str, text: &Value) {
        std::fs::write(self.folder.path().join(name), self::text(text)).unwrap();
    }

    /// Makes the list anew, and puts it beside that of the root into `crls.pem`.
    fn lists(&self) {
        let mut both = Vec::new();
        for mount in ["below", "pki"] {
            let (status, kind, crl) = self.fetch(&format!("{mount}/crl/pem"));
            assert_eq!((status, kind.as_str()), (200, "application/x-pem-file"));
            both.extend(crl);
            both.push(b'\n');
        }
        std::fs::write(self.folder.path().join("crls.pem"), both).unwrap();
    }

    fn rotate(&self) {
        let mut stream = TcpStream::connect(self.dev.address).unwrap();
        let request = b"GET /v1/below/crl/rotate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                        x-vault-token: root\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"success\":true"), "{answer}");
    }

    fn openssl(&self, arguments: &str) -> Output {
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path());
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    /// What OpenSSL prints, whether it is content or not.
    fn told(&self, arguments: &str) -> String {
        let done = self.openssl(arguments);
        let both = [done.stdout, done.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output();
    let found = found.is_ok_and(|done| done.status.success());
    if !found {
        skipped("openssl");
    }
    found
}

const VERIFY: &str = "verify -x509_strict -CAfile root.pem -untrusted below.pem";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_agrees_about_chains_lists_and_answers() {
    if !has_openssl() {
        return;
    }
    for kind in ["ec", "rsa"] {
        let bench = Bench::new(kind).await;
        tokio::task::block_in_place(|| judge(&bench));
        bench.dev.server.stop().await;
    }
}

fn judge(bench: &Bench) {
    let good = bench.issue("web");
    let bad = bench.issue("db");
    bench.file("good.pem", &good["certificate"]);
    bench.file("bad.pem", &bad["certificate"]);
    for purpose in ["sslserver", "sslclient"] {
        let told = bench.told(&format!("{VERIFY} -purpose {purpose} good.pem"));
        assert!(told.contains("good.pem: OK"), "{told}");
    }
    let told = bench.told(&format!("{VERIFY} -verify_hostname other.test good.pem"));
    assert!(told.contains("hostname mismatch"), "a control: {told}");
    let shown = bench.told("x509 -in good.pem -noout -text");
    for part in [
        "DNS:web.services.test",
        "IP Address:127.0.0.1",
        "URI:spiffe://test/web",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Key Usage: critical",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
        "Policy: 1.2.3.4",
        "OCSP - URI:http://",
        "Issuer: CN = judged intermediate",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    bench.write(
        "below/revoke",
        json!({ "serial_number": bad["serial_number"] }),
    );
    bench.rotate();
    bench.lists();
    let shown = bench.told("crl -in crls.pem -noout -text -CAfile below.pem");
    assert!(shown.contains("X509v3 CRL Number"), "{shown}");
    let told = bench.told("crl -in crls.pem -noout -verify -CAfile below.pem");
    assert!(told.contains("verify OK"), "{told}");
    let check = format!("{VERIFY} -crl_check_all -CRLfile crls.pem");
    let told = bench.told(&format!("{check} good.pem"));
    assert!(told.contains("good.pem: OK"), "{told}");
    let told = bench.told(&format!("{check} bad.pem"));
    assert!(told.contains("certificate revoked"), "{told}");
    judge_ocsp(bench);
}

fn judge_ocsp(bench: &Bench) {
    let url = format!("http://{}/v1/below/ocsp", bench.dev.address);
    let ask = "ocsp -issuer below.pem -CAfile root.pem -verify_other below.pem";
    for (hash, nonce) in [("-sha1", ""), ("-sha256", ""), ("-sha256", "-no_nonce")] {
        let ask = format!("{ask} {nonce} {hash} -url {url} -cert good.pem -cert bad.pem");
        let told = bench.told(&ask);
        for part in ["Response verify OK", "good.pem: good", "bad.pem: revoked"] {
            assert!(told.contains(part), "{hash}: {part} is missing in {told}");
        }
        assert!(!told.contains("WARNING"), "{told}");
    }
    // Of an issuer that is not ours nothing is said.
    let told = bench.told(&format!("ocsp -issuer root.pem -cert below.pem -url {url}"));
    assert!(told.contains("unauthorized"), "{told}");
    // The same question by GET, as clients that let others cache do.
    bench.openssl("ocsp -issuer below.pem -cert bad.pem -no_nonce -reqout question.der");
    let question = std::fs::read(bench.folder.path().join("question.der")).unwrap();
    let question = BASE64.encode(&question);
    let escaped = question
        .replace('/', "%2F")
        .replace('+', "%2B")
        .replace('=', "%3D");
    for path in [question, escaped] {
        let (status, kind, answer) = bench.fetch(&format!("below/ocsp/{path}"));
        assert_eq!((status, kind.as_str()), (200, "application/ocsp-response"));
        std::fs::write(bench.folder.path().join("answer.der"), answer).unwrap();
        let told = bench.told(
            "ocsp -respin answer.der -issuer below.pem -cert bad.pem -no_nonce -CAfile root.pem \
             -verify_other below.pem",
        );
        assert!(
            told.contains("Response verify OK") && told.contains("bad.pem: revoked"),
            "{told}"
        );
    }
    let (status, _, answer) = bench.fetch("below/ocsp/nonsense");
    assert_eq!((status, answer.as_slice()), (200, &[0x30, 3, 10, 1, 1][..]));
    let two_slashes = bench.fetch("below/ocsp/AA//AA==");
    assert_eq!(
        (two_slashes.0, two_slashes.2.as_slice()),
        (200, &[0x30, 3, 10, 1, 1][..])
    );
    assert_eq!(
        bench.fetch("secret/data/a//b").0,
        400,
        "nothing else may have two slashes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_reads_roots_of_each_kind_of_key_and_each_form() {
    if !has_openssl() {
        return;
    }
    let bench = Bench::new("ec").await;
    tokio::task::block_in_place(|| {
        for (kind, bits, check) in [
            ("rsa", 2048, "sha512WithRSAEncryption"),
            ("ec", 384, "ecdsa-with-SHA384"),
            ("ec", 521, "ecdsa-with-SHA512"),
            ("ed25519", 0, "ED25519"),
        ] {
            for form in ["der", "pkcs8"] {
                let root = bench.write("pki/root/generate/exported", json!({
                    "common_name": "a root, GmbH & Co.", "country": "DE", "key_type": kind,
                    "key_bits": bits, "signature_bits": 512, "private_key_format": form,
                    "permitted_dns_domains": "services.test", "excluded_dns_domains": "x.services.test",
                    "permitted_ip_ranges": "10.0.0.0/8",
                }));
                bench.file("one.pem", &root["certificate"]);
                bench.file("one.key", &root["private_key"]);
                let told = bench.told("verify -x509_strict -CAfile one.pem one.pem");
                assert!(told.contains("one.pem: OK"), "{kind} {form}: {told}");
                let shown = bench.told("x509 -in one.pem -noout -text");
                for part in [
                    check,
                    "CA:TRUE",
                    "Permitted:",
                    "DNS:services.test",
                    "IP:10.0.0.0/255.0.0.0",
                    "C = DE",
                ] {
                    assert!(shown.contains(part), "{kind}: {part} is missing in {shown}");
                }
                let public = bench.told("x509 -in one.pem -noout -pubkey");
                let of_key = bench.told("pkey -in one.key -pubout");
                assert_eq!(public, of_key, "{kind} {form}");
            }
        }
        let asked = json!({ "common_name": "pss", "key_type": "rsa", "use_pss": true });
        let root = bench.write("pki/root/generate/internal", asked);
        bench.file("one.pem", &root["certificate"]);
        let told = bench.told("verify -x509_strict -CAfile one.pem one.pem");
        assert!(told.contains("one.pem: OK"), "{told}");
        assert!(
            bench
                .told("x509 -in one.pem -noout -text")
                .contains("rsassaPss")
        );
        let request =
            json!({ "common_name": "x", "key_type": "ec", "add_basic_constraints": true });
        let request = bench.write("below/intermediate/generate/internal", request);
        bench.file("one.csr", &request["csr"]);
        let told = bench.told("req -in one.csr -noout -verify -text");
        assert!(
            told.contains("verify OK") && told.contains("CA:TRUE"),
            "{told}"
        );
    });
    bench.dev.server.stop().await;
}

fn pair(issued: &Value) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut chain = format!("{}\n", text(&issued["certificate"]));
    chain.push_str(text(&issued["issuing_ca"]));
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(text(&issued["private_key"]).as_bytes());
    (chain.map(Result::unwrap).collect(), key.unwrap())
}

/// Lets two ends shake hands in memory.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = ServerName::try_from("db.services.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_with_issued_pairs_trust_each_other_until_one_is_revoked() {
    let bench = Bench::new("ec").await;
    tokio::task::block_in_place(|| {
        let web = bench.issue("web");
        let db = bench.issue("db");
        let (_, _, root) = bench.fetch("pki/ca");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root)).unwrap();
        let roots = Arc::new(roots);
        let meet = || {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
            let lists = ["below/crl", "pki/crl"].map(|path| {
                let (status, kind, crl) = bench.fetch(path);
                assert_eq!((status, kind.as_str()), (200, "application/pkix-crl"));
                CertificateRevocationListDer::from(crl)
            });
            verifier = verifier.with_crls(lists);
            let (chain, key) = pair(&db);
            let provider = Arc::new(aws_lc_rs::default_provider());
            let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
            let server =
                ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&time))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_client_cert_verifier(verifier.build().unwrap())
                    .with_single_cert(chain, key)
                    .unwrap();
            let (chain, key) = pair(&web);
            let client = ClientConfig::builder_with_details(provider, time)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(Arc::clone(&roots))
                .with_client_auth_cert(chain, key)
                .unwrap();
            shake(client, server)
        };
        meet().unwrap();
        bench.write(
            "below/revoke",
            json!({ "serial_number": web["serial_number"] }),
        );
        bench.rotate();
        let refused = meet().unwrap_err();
        assert!(format!("{refused:?}").contains("Revoked"), "{refused:?}");
    });
    bench.dev.server.stop().await;
}
