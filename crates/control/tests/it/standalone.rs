//! A server as a configuration file in Vault's words describes it, and what opens it by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bastide_api::ClusterId;
use bastide_control::core::config;
use bastide_control::run::standalone::{Standalone, StandaloneError};
use serde_json::{Value, json};

use crate::skipped;
use crate::wire::ask;

const PLAIN: &str = r#"listener "tcp" { address = "127.0.0.1:0" tls_disable = true }"#;

async fn try_start(text: &str) -> Result<Standalone, StandaloneError> {
    let config = config::parse(&[("test.hcl".to_owned(), text.to_owned())]).unwrap();
    Standalone::start(&config, ClusterId::from_bytes([3; 16])).await
}

async fn start(text: &str) -> Standalone {
    try_start(text).await.unwrap()
}

/// Asks over the first listener. Returns the status and what was answered.
async fn call(at: &Standalone, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let header = format!("x-vault-token: {token}\r\n");
    let header = if token.is_empty() { "" } else { &header };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let line = format!("{method} /v1/{path}");
    let (status, _, text) = ask(at.addresses()[0], &line, header, &body).await;
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn is_sealed(at: &Standalone) -> bool {
    let (_, status) = call(at, "", "GET", "sys/seal-status", Value::Null).await;
    status["sealed"].as_bool().unwrap()
}

/// Makes a store that one share opens, and opens it. Returns the share and the root token.
async fn begin(at: &Standalone) -> (String, String) {
    let (status, _) = call(at, "", "GET", "sys/health", Value::Null).await;
    assert_eq!(status, 501);
    let asked = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let (_, made) = call(at, "", "PUT", "sys/init", asked).await;
    let share = made["keys"][0].as_str().unwrap().to_owned();
    call(at, "", "PUT", "sys/unseal", json!({ "key": share })).await;
    assert!(!is_sealed(at).await);
    (share, made["root_token"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_as_large_as_its_listener_allows() {
    let listener = |bytes: u32| {
        format!(
            "listener \"tcp\" {{ address = \"127.0.0.1:0\" tls_disable = true \
             max_request_size = {bytes} }}\n"
        )
    };
    let text = format!(
        "storage \"inmem\" {{}}\n{}{}",
        listener(8 << 20),
        listener(1000)
    );
    let server = start(&text).await;
    let (_, root) = begin(&server).await;
    let header = format!("x-vault-token: {root}\r\n");
    let send = async |listener: usize, bytes: usize| {
        let body = json!({ "input": "x".repeat(bytes) }).to_string();
        let line = "POST /v1/sys/tools/hash";
        ask(server.addresses()[listener], line, &header, &body)
            .await
            .0
    };
    assert_eq!(send(0, 7 << 20).await, 200, "as many letters are base64");
    assert_eq!(send(0, 9 << 20).await, 413);
    assert_eq!(send(1, 500).await, 200);
    assert_eq!(send(1, 2000).await, 413);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_lives_longer_than_the_configuration_says() {
    let text = format!(
        "storage \"inmem\" {{}}\ndefault_lease_ttl = \"10m\"\nmax_lease_ttl = \"1h\"\n\
         cluster_name = \"ours\"\n{PLAIN}"
    );
    let server = start(&text).await;
    let (_, root) = begin(&server).await;
    let (_, health) = call(&server, "", "GET", "sys/health", Value::Null).await;
    assert_eq!(health["cluster_name"], "ours");
    let (_, status) = call(&server, "", "GET", "sys/seal-status", Value::Null).await;
    assert_eq!(
        (&status["storage_type"], &status["type"]),
        (&json!("inmem"), &json!("shamir"))
    );
    for (asked, lives) in [
        (Value::Null, 600),
        (json!("30m"), 1800),
        (json!("500h"), 3600),
    ] {
        let body = json!({ "ttl": asked, "policies": ["default"] });
        let (_, made) = call(&server, &root, "POST", "auth/token/create", body).await;
        assert_eq!(made["auth"]["lease_duration"], json!(lives), "{asked}");
    }
    let (_, tuned) = call(&server, &root, "GET", "sys/mounts/secret/tune", Value::Null).await;
    assert_eq!(tuned["data"]["default_lease_ttl"], json!(600));
    assert_eq!(tuned["data"]["max_lease_ttl"], json!(3600));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_as_strict_as_its_configuration_says() {
    for (compat, expect) in [("", 403), ("compat = \"vault\"", 200)] {
        let server = start(&format!("storage \"inmem\" {{}}\n{compat}\n{PLAIN}")).await;
        begin(&server).await;
        let asked = call(&server, "", "GET", "sys/generate-root/attempt", Value::Null).await;
        assert_eq!(asked.0, expect, "{compat}");
        server.stop().await;
    }
}

/// A certificate for 127.0.0.1, and its key.
fn certificate(folder: &Path) -> bool {
    let mut made = Command::new("openssl");
    made.current_dir(folder)
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args("-subj /CN=other -keyout key.pem -out cert.pem".split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    made.output().is_ok_and(|made| made.status.success())
}

/// Makes a store that `seal` opens beside shares, and starts the server again: open. Returns the
/// shares.
async fn opens_by_itself(folder: &Path, seal: &str, kind: &str) -> (String, Vec<String>) {
    let data = folder.join("data");
    let text = format!(
        "storage \"file\" {{ path = \"{}\" }}\n{PLAIN}\n{seal}",
        data.display()
    );
    let server = start(&text).await;
    let asked = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let (status, refused) = call(&server, "", "PUT", "sys/init", asked).await;
    assert_eq!(status, 400, "{refused}");
    let asked = json!({ "recovery_shares": 3, "recovery_threshold": 2 });
    let (_, made) = call(&server, "", "PUT", "sys/init", asked).await;
    let shares = made["recovery_keys"].as_array().unwrap();
    let shares = shares
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    assert!(!is_sealed(&server).await, "{made}");
    server.stop().await;
    let server = start(&text).await;
    let (_, status) = call(&server, "", "GET", "sys/seal-status", Value::Null).await;
    assert_eq!(
        (&status["sealed"], &status["type"]),
        (&json!(false), &json!(kind))
    );
    assert_eq!(status["recovery_seal"], json!(true));
    server.stop().await;
    (text, shares)
}

/// The server waits for shares, which open it.
async fn opens_with_shares(text: &str, shares: &[String]) -> Standalone {
    let server = start(text).await;
    assert!(is_sealed(&server).await);
    for share in &shares[1..] {
        call(&server, "", "PUT", "sys/unseal", json!({ "key": share })).await;
    }
    assert!(!is_sealed(&server).await);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_opens_this_one_and_if_it_cannot_shares_do() {
    let folder = tempfile::tempdir().unwrap();
    if !certificate(folder.path()) {
        skipped("openssl");
        return;
    }
    let at = |name: &str| folder.path().join(name).display().to_string();
    let other = start(&format!(
        "storage \"inmem\" {{}}\n{PLAIN}\nlistener \"tcp\" {{ address = \"127.0.0.1:0\"\n\
         tls_cert_file = \"{}\" tls_key_file = \"{}\" }}",
        at("cert.pem"),
        at("key.pem")
    ))
    .await;
    let (share, root) = begin(&other).await;
    call(
        &other,
        &root,
        "POST",
        "sys/mounts/transit",
        json!({ "type": "transit" }),
    )
    .await;
    let (status, made) = call(&other, &root, "POST", "transit/keys/ours", json!({})).await;
    assert!(status < 300, "{made}");
    let policy = "path \"transit/+/ours\" { capabilities = [\"update\"] }";
    call(
        &other,
        &root,
        "PUT",
        "sys/policies/acl/ours",
        json!({ "policy": policy }),
    )
    .await;
    let body = json!({ "policies": ["ours"], "period": "720h", "no_parent": true });
    let (_, made) = call(&other, &root, "POST", "auth/token/create", body).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    std::fs::write(folder.path().join("token"), token).unwrap();
    let seal = |address: SocketAddr| {
        format!(
            "seal \"transit\" {{ address = \"https://{address}\" key_name = \"ours\"\n\
             token_file = \"{}\" tls_ca_cert = \"{}\" }}",
            at("token"),
            at("cert.pem")
        )
    };
    let seal = seal(other.addresses()[1]);
    let (text, shares) = opens_by_itself(folder.path(), &seal, "transit").await;
    // The other is sealed, as after a power cut of both.
    call(&other, &root, "PUT", "sys/seal", json!({})).await;
    assert!(is_sealed(&other).await);
    opens_with_shares(&text, &shares).await.stop().await;
    call(&other, "", "PUT", "sys/unseal", json!({ "key": share })).await;
    let server = start(&text).await;
    assert!(!is_sealed(&server).await);
    server.stop().await;
    // Taken away again: shares alone open it.
    let without = text.replace("seal \"transit\" {", "seal \"transit\" { disabled = true");
    let server = opens_with_shares(&without, &shares).await;
    server.stop().await;
    let server = start(&text.replace(&seal, "")).await;
    let (_, status) = call(&server, "", "GET", "sys/seal-status", Value::Null).await;
    assert_eq!(
        (&status["sealed"], &status["type"]),
        (&json!(true), &json!("shamir"))
    );
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_opens_the_server_and_without_it_shares_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tpm.sock");
    let run = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", folder.path().display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut tpm) = run else {
        skipped("swtpm");
        return;
    };
    let by = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < by, "swtpm did not start");
        tokio::task::yield_now().await;
    }
    let seal = format!(
        "seal \"tpm\" {{ device = \"{}\" pcrs = [7] }}",
        socket.display()
    );
    let (text, shares) = opens_by_itself(folder.path(), &seal, "tpm").await;
    tpm.kill().unwrap();
    tpm.wait().unwrap();
    opens_with_shares(&text, &shares).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_told_before_a_store_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let none = folder.path().join("none.pem");
    let text = format!(
        "storage \"file\" {{ path = \"{}\" }}\nlistener \"tcp\" {{ tls_cert_file = \"{none}\" \
         tls_key_file = \"{none}\" }}",
        data.display(),
        none = none.display()
    );
    let error = try_start(&text).await.err().unwrap();
    assert!(error.to_string().contains("none.pem"), "{error}");
    assert!(!data.exists());
}
