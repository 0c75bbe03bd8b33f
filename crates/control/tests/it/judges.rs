//! Programs of other people's that judge the server: how they are built, and what they judge.
//!
//! Each is pinned by a lock file of its own under `tests/judges`, so that what it is made of does not
//! come into the product's, and is built below the workspace's target folder, where later runs find
//! it. Where its tools or its sources cannot be had, the test says so and ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bastide_api::{ClusterId, NodeId};
use bastide_control::core::config;
use bastide_control::run::standalone::Standalone;
use bastide_pki::{Authority, Identity, ProvenKey, Validity};

use crate::skipped;

/// A server that was not begun yet, over TLS, and the file with the authority that vouches for it.
pub(crate) struct Judged {
    server: Standalone,
    authority: PathBuf,
}

impl Judged {
    /// Starts one in memory, with these lines in its configuration besides.
    pub(crate) async fn start(folder: &Path, more: &str) -> Self {
        let cluster = ClusterId::from_bytes([7; 16]);
        let now = bastide_linux::clock::wall();
        let authority = Authority::create(cluster, now, [1; 16]);
        let identity = Identity::generate();
        let day = Validity {
            now,
            life: Duration::from_secs(86_400),
        };
        let issued = authority.sign_controller(
            &ProvenKey::from_request(&identity.csr_pem()).unwrap(),
            NodeId::from_bytes([8; 16]),
            &["127.0.0.1".parse().unwrap()],
            day,
            [2; 16],
        );
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let certificate = write("server.pem", &issued.pem);
        let key = write("server.key", identity.key_pem().expose());
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{ address = \"127.0.0.1:0\"\n\
             tls_cert_file = \"{}\"\ntls_key_file = \"{}\" }}\n{more}\n",
            certificate.display(),
            key.display(),
        );
        let config = config::parse(&[("test.hcl".to_owned(), text)]).unwrap();
        Self {
            server: Standalone::start(&config, cluster).await.unwrap(),
            authority: write("authority.pem", authority.certificate_pem()),
        }
    }

    /// Runs a judge to its end. Panics with what it told if it ends with an error, or if not this
    /// many things held.
    pub(crate) async fn run(&self, mut judge: Command, held: usize) {
        judge
            .env(
                "VAULT_ADDR",
                format!("https://{}", self.server.addresses()[0]),
            )
            .env("VAULT_CACERT", &self.authority)
            // Where a judgement failed.
            .env("RUST_BACKTRACE", "1");
        let judged = tokio::task::spawn_blocking(move || judge.stdin(Stdio::null()).output());
        let judged = judged.await.unwrap().unwrap();
        assert_held(&judged, held);
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Panics with what a judge told if it ended with an error, or if not this many things held.
pub(crate) fn assert_held(judged: &Output, held: usize) {
    let told = String::from_utf8_lossy(&judged.stdout);
    let wrong = String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success(), "{told}{wrong}");
    let lines = told.lines().filter(|it| it.starts_with("held: "));
    assert_eq!(lines.count(), held, "{told}");
}

/// Where the sources of a judge are.
fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/judges")
        .join(name)
}

/// Where a judge is built: below the folder into which cargo built this test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // `target/PROFILE/deps/it-…`
    let target = test.ancestors().nth(3).unwrap();
    target.join("judges").join(name)
}

/// Runs a tool of a language in a judge's sources; `None` if there is no such tool.
fn tool(program: &str, sources: &Path, words: &[&str]) -> Option<Result<(), String>> {
    let mut command = Command::new(program);
    command
        .args(words)
        .current_dir(sources)
        .env("GOFLAGS", "-mod=readonly")
        // No other Go is fetched than the one that is here.
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    let done = command.output().ok()?;
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    Some(if done.status.success() {
        Ok(())
    } else {
        Err(why)
    })
}

/// Builds a judge in Rust; `None`, and aloud, where the crates that it is made of cannot be had.
pub(crate) fn rust(name: &str) -> Option<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let from = sources(name);
    let into = built(name);
    match tool(&cargo, &from, &["fetch", "--locked"]) {
        None => {
            skipped("cargo");
            return None;
        }
        Some(Err(why)) => {
            // What does not fit its lock file is no missing crate.
            assert!(!why.contains("--locked"), "{why}");
            skipped(&format!("what the judge {name} is made of (cargo fetch)"));
            return None;
        }
        Some(Ok(())) => {}
    }
    let folder = into.to_str().unwrap();
    let words = [
        "build",
        "--quiet",
        "--locked",
        "--offline",
        "--target-dir",
        folder,
    ];
    tool(&cargo, &from, &words).unwrap().unwrap();
    Some(into.join("debug/judge"))
}

/// Builds a Go program of the modules that a file such as `go.mod` lists; `None`, and aloud, where
/// there is no Go or the modules cannot be had.
pub(crate) fn go(name: &str, modules: &str, words: &[&str]) -> Option<PathBuf> {
    let from = sources(name);
    let modules = format!("-modfile={modules}");
    match tool("go", &from, &["mod", "download", &modules]) {
        None => {
            skipped("go");
            return None;
        }
        Some(Err(why)) => {
            // What is not as it was when it was locked is no missing module.
            assert!(!why.contains("checksum mismatch"), "{why}");
            skipped(&format!(
                "what the judge {name} is made of (go mod download)"
            ));
            return None;
        }
        Some(Ok(())) => {}
    }
    let folder = built(name);
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join(modules.trim_start_matches("-modfile=").replace(".mod", ""));
    let fixed = ["build", &modules, "-o", program.to_str().unwrap()];
    tool("go", &from, &[&fixed, words].concat())
        .unwrap()
        .unwrap();
    Some(program)
}
