//! consul-template, which others wrote to keep files as Vault's secrets are: it renews what it holds,
//! fetches anew what cannot be renewed, and writes a file anew when a secret has changed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bastide_api::Secret;
use bastide_control::run::dev::{self, DevServer};
use serde_json::{Value, json};

use crate::judges;
use crate::wire::{self, ask};

/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a token lives that is not renewed, in seconds.
const TOKEN_TTL: u64 = 10;
/// How long a certificate lives, in seconds.
const CERTIFICATE_TTL: u64 = 16;

/// A server with a secret, somebody who logs in for some seconds, and a role for certificates.
struct Bench(DevServer);

impl Bench {
    async fn new() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let dev = dev::start(any, Some(Secret::new("root".to_owned())));
        let this = Self(dev.await.unwrap());
        for (path, body) in [
            (
                "sys/policies/acl/files",
                json!({ "policy": r#"
                    path "secret/data/app" { capabilities = ["read"] }
                    path "pki/issue/web" { capabilities = ["update"] }"# }),
            ),
            ("secret/data/app", json!({ "data": { "word": "first" } })),
            ("sys/auth/userpass", json!({ "type": "userpass" })),
            (
                "auth/userpass/users/ada",
                json!({ "password": "some words", "token_ttl": TOKEN_TTL, "token_max_ttl": "1h" }),
            ),
            ("sys/mounts/pki", json!({ "type": "pki" })),
            (
                "pki/root/generate/internal",
                json!({ "common_name": "root", "key_type": "ec", "ttl": "1h" }),
            ),
            (
                "pki/roles/web",
                json!({ "allow_any_name": true, "key_type": "ec" }),
            ),
        ] {
            let (status, told) = this.call("POST", path, &body).await;
            assert!(status < 300, "{path}: {told}");
        }
        this
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let line = format!("{method} /v1/{path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, _, text) = ask(self.0.address, &line, wire::ROOT, &body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// A token that lives for some seconds unless it is renewed, and its accessor.
    async fn token(&self) -> (String, String) {
        let asked = json!({ "policies": ["files"], "ttl": TOKEN_TTL, "explicit_max_ttl": "1h" });
        let (_, made) = self.call("POST", "auth/token/create", &asked).await;
        let text = |name: &str| made["auth"][name].as_str().unwrap().to_owned();
        (text("client_token"), text("accessor"))
    }

    /// When a token ends, as the server tells.
    async fn token_ends(&self, accessor: &str) -> Option<String> {
        let body = json!({ "accessor": accessor });
        let (_, told) = self.call("POST", "auth/token/lookup-accessor", &body).await;
        told["data"]["expire_time"].as_str().map(str::to_owned)
    }

    /// The one lease of who logged in, as the server tells of it.
    async fn lease(&self) -> Option<Value> {
        let below = "auth/userpass/login/ada";
        let (_, listed) = self
            .call("LIST", &format!("sys/leases/lookup/{below}"), &Value::Null)
            .await;
        let key = listed["data"]["keys"][0].as_str()?.to_owned();
        let body = json!({ "lease_id": format!("{below}/{key}") });
        let (status, told) = self.call("PUT", "sys/leases/lookup", &body).await;
        (status == 200).then(|| told["data"].clone())
    }
}

/// consul-template at work; it ends with this.
struct Running(Child);

impl Running {
    fn start(program: &Path, address: SocketAddr, token: &str, folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            r#"
            vault {{
              address = "http://{address}"
              renew_token = true
              default_lease_duration = "1s"
              lease_renewal_threshold = 0.5
            }}
            template {{
              contents = "{{{{ with secret \"secret/data/app\" }}}}{{{{ .Data.data.word }}}}{{{{ end }}}}"
              destination = "{}"
            }}
            template {{
              contents = "{{{{ with secret \"auth/userpass/login/ada\" \"password=some words\" }}}}{{{{ .Auth.Accessor }}}}{{{{ end }}}}"
              destination = "{}"
            }}
            template {{
              contents = "{{{{ with secret \"pki/issue/web\" \"common_name=a.example\" \"ttl={CERTIFICATE_TTL}s\" }}}}{{{{ .Data.serial_number }}}} {{{{ .Data.expiration }}}}{{{{ end }}}}"
              destination = "{}"
            }}"#,
            file("word"),
            file("login"),
            file("certificate"),
        );
        let path = folder.join("template.hcl");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(program)
            .arg("-config")
            .arg(path)
            .args(["-log-level", "debug"])
            .env("VAULT_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks until there is something to return. Panics with consul-template's log if that takes too long.
async fn until<T>(folder: &Path, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        if end < Instant::now() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("not seen: {what}\n{log}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a file of consul-template's holds, once it is written.
fn written(folder: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(name)).ok()?;
    (!text.is_empty()).then_some(text)
}

/// The serial number and the end of the certificate that was written last.
fn certificate(folder: &Path) -> Option<(String, u64)> {
    let text = written(folder, "certificate")?;
    let (serial, end) = text.split_once(' ')?;
    Some((serial.to_owned(), end.trim().parse().ok()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_template_renews_what_it_holds_and_writes_files_as_secrets_change() {
    let words = ["github.com/hashicorp/consul-template"];
    let built = move || judges::go("consul-template", "go.mod", &words);
    let Some(program) = tokio::task::spawn_blocking(built).await.unwrap() else {
        return;
    };
    let bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (token, accessor) = bench.token().await;
    let mut token_ends = bench.token_ends(&accessor).await.unwrap();
    let running = Running::start(&program, bench.0.address, &token, at);
    let word = until(at, "the secret in its file", async || written(at, "word")).await;
    assert_eq!(word, "first");
    let first = until(at, "a certificate in its file", async || certificate(at)).await;
    until(at, "a login in its file", async || written(at, "login")).await;
    let login = until(at, "the lease of the login", async || bench.lease().await).await;

    for round in ["once", "twice"] {
        let what = format!("its token renewed {round}");
        token_ends = until(at, &what, async || {
            let ends = bench.token_ends(&accessor).await;
            let ends = ends.expect("it was not renewed in time");
            (token_ends < ends).then_some(ends)
        })
        .await;
    }
    let renewed = until(at, "the lease of the login renewed", async || {
        let told = bench.lease().await.expect("it was not renewed in time");
        (login["expire_time"].as_str() < told["expire_time"].as_str()).then_some(told)
    })
    .await;
    assert!(renewed["last_renewal"].is_string(), "{renewed}");
    assert_eq!(
        renewed["id"], login["id"],
        "it is the one from the beginning"
    );

    let second = until(at, "another certificate", async || {
        certificate(at).filter(|it| it.0 != first.0)
    })
    .await;
    let made = second.1 - CERTIFICATE_TTL;
    assert!(
        made < first.1,
        "made at {made}, when the first had ended at {}",
        first.1
    );
    for (serial, _) in [&first, &second] {
        let (status, _) = bench
            .call("GET", &format!("pki/cert/{serial}"), &Value::Null)
            .await;
        assert_eq!(status, 200, "the server made {serial}");
    }

    let body = json!({ "data": { "word": "second" } });
    bench.call("POST", "secret/data/app", &body).await;
    until(at, "the other secret in its file", async || {
        written(at, "word").filter(|it| it == "second")
    })
    .await;

    // The control: without it, what it held ends.
    drop(running);
    until(at, "the end of its token", async || {
        bench.token_ends(&accessor).await.is_none().then_some(())
    })
    .await;
    until(at, "the end of the login's lease", async || {
        bench.lease().await.is_none().then_some(())
    })
    .await;
    bench.0.server.stop().await;
}
