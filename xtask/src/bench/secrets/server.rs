//! A server that speaks Vault's API, started for a measurement and ended after it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::workspace::{must, output};

/// How long a server may take until it answers.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bastide,
    OpenBao,
    Vault,
}

impl Kind {
    /// Returns the program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Bastide => "bastide",
            Self::OpenBao => "bao",
            Self::Vault => "vault",
        }
    }
}

/// A running server, unsealed, with a file that audits. It ends when this is dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub address: String,
    /// Its root token.
    pub token: String,
}

impl Server {
    /// Starts a server with a fresh store, and opens it.
    pub fn start(kind: Kind, program: &Path) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!(
            "bastide-bench-{}-{}",
            kind.program(),
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("store"))
            .with_context(|| format!("could not make `{}`", folder.display()))?;
        must(
            Command::new("openssl")
                .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
                .args([
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-subj",
                    "/CN=localhost",
                ])
                .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
                .arg("-keyout")
                .arg(folder.join("key.pem"))
                .arg("-out")
                .arg(folder.join("cert.pem"))
                .stderr(Stdio::null()),
        )?;
        let port = free_port()?;
        let config = folder.join("config.json");
        let text = settings(kind, &folder, port)?.to_string();
        fs::write(&config, text)
            .with_context(|| format!("could not write `{}`", config.display()))?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(program);
        command.arg("server");
        match kind {
            Kind::Bastide => command.arg("--config").arg(&config),
            Kind::OpenBao | Kind::Vault => command.arg(format!("-config={}", config.display())),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut this = Self {
            child,
            folder,
            address: format!("https://127.0.0.1:{port}"),
            token: String::new(),
        };
        this.open(kind).with_context(|| {
            let log = fs::read_to_string(this.folder.join("log")).unwrap_or_default();
            format!("the server's log:\n{log}")
        })?;
        Ok(this)
    }

    /// Makes the store, unseals it and enables the audit file.
    fn open(&mut self, kind: Kind) -> anyhow::Result<()> {
        let until = Instant::now() + STARTS_WITHIN;
        while !self.ask("GET", "sys/init", None)?.0.eq(&200) {
            ensure!(Instant::now() < until, "it does not answer");
            if let Some(ended) = self.child.try_wait()? {
                bail!("it ended: {ended}");
            }
            std::thread::sleep(ASKED_EVERY);
        }
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let (_, made) = self.ask("PUT", "sys/init", Some(&shares))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.token = text(&made["root_token"]).context("it gave no root token")?;
        let key = text(&made["keys_base64"][0]).context("it gave no share")?;
        self.ask("PUT", "sys/unseal", Some(&json!({ "key": key })))?;
        while !self.ask("GET", "sys/health", None)?.0.eq(&200) {
            ensure!(Instant::now() < until, "it does not unseal");
            std::thread::sleep(ASKED_EVERY);
        }
        // OpenBao has its audit device in its configuration.
        if kind != Kind::OpenBao {
            let path = self.folder.join("audit.log");
            let device = json!({ "type": "file", "options": { "file_path": path } });
            let (status, said) = self.ask("PUT", "sys/audit/file", Some(&device))?;
            ensure!(status < 300, "it does not audit to a file: {said}");
        }
        Ok(())
    }

    /// Asks once; returns status and body. A server that is not there yet has status 0.
    fn ask(&self, method: &str, path: &str, data: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-X", method, "-w", "\n%{http_code}"]);
        curl.args(["-H", &format!("X-Vault-Token: {}", self.token)]);
        if let Some(data) = data {
            curl.args(["-d", &data.to_string()]);
        }
        curl.arg(format!("{}/v1/{path}", self.address));
        let done = curl
            .stderr(Stdio::null())
            .output()
            .context("could not run curl")?;
        let text = String::from_utf8_lossy(&done.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        let status = status.trim().parse().unwrap_or(0);
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// Writes; what was just mounted may need a moment. Returns whether it was done.
    pub fn write_until_served(&self, path: &str, data: &Value) -> anyhow::Result<bool> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let (status, said) = self.ask("POST", path, Some(data))?;
            if (200..300).contains(&status) {
                return Ok(true);
            }
            let is_early = said.to_string().contains("Upgrading from non-versioned");
            if !is_early || until < Instant::now() {
                return Ok(false);
            }
            std::thread::sleep(ASKED_EVERY);
        }
    }

    /// Returns its resident memory.
    pub fn resident_mb(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("could not read `{path}`"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kb.context("its memory is not shown")? / 1024.0)
    }

    /// Returns how long it has kept processors busy.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("could not read `{path}`"))?;
        // After the name, which may hold anything: the fields from the third on (proc(5)).
        let (_, rest) = text.rsplit_once(')').context("its times are not shown")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11)
            .zip(ticks(12))
            .context("its times are not shown")?;
        let hertz: f64 = output(Command::new("getconf").arg("CLK_TCK"))?
            .trim()
            .parse()?;
        Ok((user + system) / hertz)
    }

    /// Returns the folder for this server's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a port that nobody listens at.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("could not find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn settings(kind: Kind, folder: &Path, port: u16) -> anyhow::Result<Value> {
    let address = format!("127.0.0.1:{port}");
    let cluster = format!("127.0.0.1:{}", free_port()?);
    let store = folder.join("store");
    let mut settings = json!({
        "listener": { "tcp": {
            "address": address,
            "cluster_address": cluster,
            "tls_cert_file": folder.join("cert.pem"),
            "tls_key_file": folder.join("key.pem"),
        }},
        "storage": { "raft": { "path": store, "node_id": "one" } },
        "api_addr": format!("https://{address}"),
        "cluster_addr": format!("https://{cluster}"),
        "disable_mlock": true,
        "log_level": "warn",
    });
    if kind == Kind::Bastide {
        // Audit devices by the API, as Vault.
        settings["compat"] = json!("vault");
    }
    if kind == Kind::OpenBao {
        settings["audit"] = json!([{ "type": "file", "path": "file", "options": {
            "file_path": folder.join("audit.log"),
        }}]);
    }
    Ok(settings)
}
