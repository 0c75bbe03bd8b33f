//! What people type: logging in, secrets, policies, leases, tokens and the audit log, against a
//! development server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use bastide_api::Secret;
use bastide_client::Client;
use serde_json::{Value, json};

mod policy;

const BASTIDE: &str = env!("CARGO_BIN_EXE_bastide");
const ROOT: &str = "dev-only-root";

/// A development server, and a person's home.
struct Desk {
    server: Child,
    address: String,
    home: tempfile::TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    fn shows(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }
}

impl Desk {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let mut server = Command::new(BASTIDE)
            .args(["server", "--dev", "--listen", &listen, "--root-token", ROOT])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let out = server.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut first).unwrap();
        assert!(first.contains(ROOT), "the server said `{first}`");
        Self {
            server,
            address: format!("http://{listen}"),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Types a command, with this on its standard input.
    fn type_with(&self, token: Option<&str>, words: &[&str], input: &str) -> Said {
        let mut command = Command::new(BASTIDE);
        command
            .args(words)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_LOG", "trace")
            .env("VAULT_ADDR", &self.address)
            .env("EDITOR", self.path("editor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(token) = token {
            command.env("VAULT_TOKEN", token);
        }
        let mut child = command.spawn().unwrap();
        // What does not read its input may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Said::of(&child.wait_with_output().unwrap())
    }

    fn root(&self, words: &[&str]) -> Said {
        self.type_with(Some(ROOT), words, "")
    }

    /// As whoever logged in.
    fn own(&self, words: &[&str]) -> Said {
        self.type_with(None, words, "")
    }

    /// Asks the server without the program.
    fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let address = self
            .address
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = Client::plain(address, Some(Secret::new(ROOT.to_owned())));
        runtime
            .block_on(client.call(method, path, Some(body)))
            .unwrap()
    }

    /// With which status the server refuses somebody; `None` if it does not.
    fn status(&self, token: &str, method: &str, path: &str) -> Option<u16> {
        let address = self.address.strip_prefix("http://").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = Client::plain(
            address.parse().unwrap(),
            Some(Secret::new(token.to_owned())),
        );
        let asked = runtime.block_on(client.call(method, &format!("/v1/{path}"), None));
        asked.err().and_then(|error| error.status())
    }

    /// Ada, who may do what this policy says.
    fn with_ada(policy: &str) -> Self {
        let desk = Self::new();
        desk.type_with(Some(ROOT), &["policy", "put", "app", "-"], policy)
            .ok();
        let put = ["user", "put", "ada", "--policy", "app"];
        let said = desk.type_with(Some(ROOT), &put, "CANARY-PASSWORD\n");
        assert!(!said.shows("CANARY-PASSWORD"));
        said.ok();
        let said = desk.type_with(None, &["login", "userpass", "ada"], "CANARY-PASSWORD\n");
        assert!(
            said.err.contains("logged in as ada with app, default"),
            "{}",
            said.err
        );
        assert!(!said.shows("CANARY-PASSWORD"));
        said.ok();
        desk
    }
}

const POLICY: &str = "path \"secret/data/app/*\" {
  capabilities = [\"create\", \"read\", \"update\", \"delete\"]
}
path \"secret/metadata/app/*\" { capabilities = [\"list\", \"read\"] }
path \"secret/data/app/closed\" {
  capabilities = [\"deny\"]
}
";

#[test]
fn a_person_logs_in_and_works_with_secrets_and_no_value_shows_that_was_not_asked_for() {
    let desk = Desk::with_ada(POLICY);
    let kept = desk.path(".bastide/token");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(kept.parent().unwrap()).unwrap().mode() & 0o777,
        0o700
    );

    let put = ["secret", "put", "secret/app/db", "user=ada", "password"];
    let said = desk.type_with(None, &put, "CANARY-VALUE\n");
    assert!(said.err.contains("warning: values on the command line"));
    assert!(!said.shows("CANARY-VALUE"), "{}{}", said.out, said.err);
    said.ok();
    let said = desk.own(&["secret", "get", "secret/app/db"]);
    assert!(said.out.contains("password  (12 letters)"), "{}", said.out);
    assert!(!said.shows("CANARY-VALUE"));
    assert_eq!(
        desk.own(&["secret", "get", "secret/app/db", "password"])
            .ok(),
        "CANARY-VALUE\n"
    );
    let shown = desk.own(&["secret", "get", "secret/app/db", "--show"]).ok();
    assert!(shown.contains("CANARY-VALUE"));

    // From a file and from standard input, some fields alone, and only if the version is right.
    fs::write(desk.path("key.pem"), "CANARY-KEY\n").unwrap();
    let file = format!("key=@{}", desk.path("key.pem").display());
    let said = desk.own(&["secret", "put", "--patch", "secret/app/db", &file]);
    assert!(
        !said.shows("CANARY-KEY") && !said.shows("warning"),
        "{}",
        said.err
    );
    said.ok();
    let said = desk.type_with(
        None,
        &["secret", "put", "--patch", "secret/app/db", "user=-"],
        "eve\n",
    );
    said.ok();
    let json = desk.own(&["secret", "get", "secret/app/db", "--json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["data"]["user"], "eve");
    assert_eq!(json["data"]["key"], "CANARY-KEY\n");
    assert_eq!(json["version"], 3);
    let old = ["secret", "put", "--cas", "1", "secret/app/db", "user=x"];
    assert_eq!(desk.own(&old).code, 1);
    let broken = desk.type_with(
        None,
        &["secret", "put", "secret/app/b", "-"],
        "{\"a\": CANARY",
    );
    assert!(
        broken.code == 1 && !broken.shows("CANARY"),
        "{}",
        broken.err
    );

    assert_eq!(desk.own(&["secret", "list", "secret/app"]).ok(), "db\n");
    let said = desk.own(&["secret", "get", "secret/app/closed"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.err.contains("bastide policy check --as"),
        "{}",
        said.err
    );
    desk.own(&["secret", "rm", "secret/app/db"]).ok();
    let said = desk.own(&["secret", "get", "secret/app/db"]);
    assert!(
        said.code == 1 && said.err.contains("was deleted") && said.err.contains("--version "),
        "{}",
        said.err
    );
    let said = desk.own(&["secret", "get", "secret/app/never"]);
    assert!(
        said.code == 1 && said.err.contains("there is no secret"),
        "{}",
        said.err
    );
    let wrong = desk.type_with(None, &["login", "userpass", "ada"], "CANARY-WRONG\n");
    assert!(
        wrong.code != 0 && !wrong.shows("CANARY-WRONG"),
        "{}",
        wrong.err
    );
}

#[test]
fn people_are_made_listed_given_another_password_and_removed() {
    let desk = Desk::with_ada("path \"secret/*\" { capabilities = [\"read\"] }");
    assert_eq!(desk.root(&["user", "ls"]).ok(), "ada\n");
    // Who may not write there cannot make anybody.
    let refused = desk.type_with(None, &["user", "put", "eve"], "CANARY-OTHER\n");
    assert_ne!(refused.code, 0);
    assert_eq!(desk.root(&["user", "ls"]).ok(), "ada\n");
    let put = ["user", "put", "ada"];
    desk.type_with(Some(ROOT), &put, "CANARY-OTHER\n").ok();
    let log_in = ["login", "userpass", "ada"];
    let old = desk.type_with(None, &log_in, "CANARY-PASSWORD\n");
    assert_ne!(old.code, 0);
    let new = desk.type_with(None, &log_in, "CANARY-OTHER\n");
    assert!(new.shows("with app, default"), "{}", new.err);
    new.ok();
    desk.root(&["user", "rm", "ada"]).ok();
    assert_eq!(desk.root(&["user", "ls"]).ok(), "");
    let gone = desk.type_with(None, &log_in, "CANARY-OTHER\n");
    assert_ne!(gone.code, 0);
}

#[test]
fn a_secret_is_edited_in_memory_by_its_owner_alone_and_nothing_of_it_stays() {
    let desk = Desk::with_ada(POLICY);
    desk.type_with(
        None,
        &["secret", "put", "secret/app/x", "-"],
        "{\"a\": \"CANARY-OLD\"}",
    )
    .ok();
    let seen = desk.path("seen");
    let script = format!(
        "#!/bin/sh\nstat -f -c %T \"$1\" > {seen}\nstat -c %a \"$1\" \"$(dirname \"$1\")\" >> {seen}\n\
         echo \"$1\" >> {seen}\nsed -i s/CANARY-OLD/CANARY-NEW/ \"$1\"\n",
        seen = seen.display()
    );
    fs::write(desk.path("editor"), script).unwrap();
    fs::set_permissions(desk.path("editor"), fs::Permissions::from_mode(0o700)).unwrap();
    let said = desk.own(&["secret", "edit", "secret/app/x"]);
    assert!(!said.shows("CANARY"), "{}{}", said.out, said.err);
    said.ok();
    assert_eq!(
        desk.own(&["secret", "get", "secret/app/x", "a"]).ok(),
        "CANARY-NEW\n"
    );
    let seen = fs::read_to_string(seen).unwrap();
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(&seen[..3], ["tmpfs", "600", "700"]);
    assert!(
        !Path::new(seen[3]).parent().unwrap().exists(),
        "it stays: {}",
        seen[3]
    );
    // Nothing changed, nothing written; an editor that fails writes nothing either.
    let said = desk.own(&["secret", "edit", "secret/app/x"]);
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    fs::write(desk.path("editor"), "#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(desk.own(&["secret", "edit", "secret/app/x"]).code, 1);
}

#[test]
fn tokens_and_leases_are_made_looked_up_renewed_and_revoked() {
    let desk = Desk::with_ada(POLICY);
    let made = desk.root(&[
        "token", "create", "--policy", "app", "--ttl", "1h", "--name", "ci",
    ]);
    let token = made.out.trim().to_owned();
    assert!(
        token.starts_with("hvs.") && !made.err.contains(&token),
        "{}",
        made.err
    );
    made.ok();
    let mistyped = desk.root(&["token", "create", "--policy", "ap"]);
    let warned = mistyped
        .err
        .contains("warning: Policy \"ap\" does not exist");
    assert!(warned, "{}", mistyped.err);
    let said = desk.type_with(Some(&token), &["token", "self"], "");
    assert!(
        said.out.contains("app, default") && !said.shows(&token),
        "{}",
        said.out
    );
    let lookup = desk.type_with(
        Some(ROOT),
        &["token", "lookup", "--json"],
        &format!("{token}\n"),
    );
    assert!(!lookup.shows(&token));
    let told: Value = serde_json::from_str(&lookup.ok()).unwrap();
    let accessor = told["accessor"].as_str().unwrap().to_owned();
    let renewed = desk.type_with(Some(&token), &["token", "renew", "--increment", "60"], "");
    assert!(renewed.err.contains("good for"), "{}", renewed.err);

    let leases = desk.root(&["lease", "ls", "auth/userpass/login/ada"]).ok();
    let id = leases.lines().next().unwrap().to_owned();
    assert!(id.starts_with("auth/userpass/login/ada/"), "{leases}");
    desk.own(&["secret", "list", "secret/app"]).ok();
    desk.root(&["lease", "revoke", &id]).ok();
    assert_eq!(
        desk.own(&["secret", "list", "secret/app"]).code,
        3,
        "the login is over"
    );

    desk.root(&["token", "revoke", "--accessor", &accessor])
        .ok();
    assert_eq!(desk.type_with(Some(&token), &["token", "self"], "").code, 3);
    let nobody = desk.type_with(None, &["token", "revoke"], "hvs.CANARY\n");
    assert!(nobody.code != 0 && !nobody.shows("CANARY"));
}

#[test]
fn the_audit_log_tells_who_asked_what_and_every_change_to_it_is_named() {
    let desk = Desk::with_ada(POLICY);
    let log = desk.path("audit.log");
    let device = json!({ "type": "file", "options": { "file_path": log } });
    desk.ask("POST", "/v1/sys/audit/file", device);
    assert!(desk.root(&["audit", "ls"]).ok().contains("file/"));
    desk.type_with(
        None,
        &["secret", "put", "secret/app/db", "password"],
        "CANARY-VALUE\n",
    )
    .ok();
    assert_eq!(desk.own(&["secret", "get", "secret/hr"]).code, 3);
    let log = log.to_str().unwrap();
    let tail = desk.own(&["audit", "tail", "-n", "3", log]).ok();
    assert_eq!(tail.lines().count(), 3);
    let who = [
        "audit",
        "search",
        "--who",
        "userpass-ada",
        "--path",
        "secret/data",
        log,
    ];
    let found = desk.own(&who).ok();
    assert!(found.contains("secret/data/app/db  ok"), "{found}");
    assert!(
        found.contains("secret/data/hr  permission denied"),
        "{found}"
    );
    let refused = desk.own(&["audit", "search", "--refused", log]).ok();
    assert!(
        refused.contains("secret/data/hr") && !refused.contains("app/db"),
        "{refused}"
    );
    // By a value that is nowhere in the log in clear.
    let by_value = ["audit", "search", "--value", log];
    let found = desk.type_with(Some(ROOT), &by_value, "CANARY-VALUE\n");
    assert!(
        found.out.contains("secret/data/app/db") && !found.shows("CANARY"),
        "{}",
        found.out
    );
    let none = desk.type_with(Some(ROOT), &by_value, "CANARY-OTHER\n");
    assert_eq!(none.out, "");
    let text = fs::read_to_string(log).unwrap();
    assert!(!text.contains("CANARY"));

    let verify = |text: &str| {
        let path = desk.path("copy.log");
        fs::write(&path, text).unwrap();
        desk.own(&["audit", "verify", path.to_str().unwrap()])
    };
    let whole = verify(&text);
    assert!(
        whole.out.contains("lines are whole"),
        "{}{}",
        whole.out,
        whole.err
    );
    assert_eq!(whole.code, 0);
    let lines: Vec<_> = text.lines().collect();
    let edited = text.replacen("\"seq\":2,", "\"seq\":2 ,", 1);
    let said = verify(&edited);
    assert!(
        said.code == 1 && said.out.contains("line 2 was changed"),
        "{}",
        said.out
    );
    let without = [&lines[..3], &lines[4..]].concat().join("\n");
    let said = verify(&without);
    assert!(
        said.code == 1 && said.out.contains("copy.log:4: line 3 is missing"),
        "{}",
        said.out
    );
}

/// Asks a place on loopback as a browser does; returns what it answers.
fn browse(url: &str) -> String {
    let rest = url.strip_prefix("http://localhost:").unwrap();
    let (port, path) = rest.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
    said
}

/// `bastide login oidc`, waiting for its browser.
struct Waiting {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
    /// The address that it printed.
    url: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Waiting {
    fn new(desk: &Desk) -> Self {
        let mut child = Command::new(BASTIDE)
            .args(["login", "oidc", "--port", "0"])
            .env_clear()
            .env("HOME", desk.home.path())
            .env("VAULT_ADDR", &desk.address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let url = String::new();
        let mut waiting = Self { child, err, url };
        let mut all = String::new();
        while waiting.url.is_empty() {
            let mut line = String::new();
            let read = waiting.err.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended: {all}");
            if line.trim().starts_with("http") {
                line.trim().clone_into(&mut waiting.url);
            }
            all.push_str(&line);
        }
        waiting
    }

    /// Where the browser is to come back to, with this.
    fn back(&self, query: &str) -> String {
        let back = part(&self.url, "redirect_uri");
        let back = back.replace("%3A", ":").replace("%2F", "/");
        format!("{back}?{query}")
    }

    /// Whether it succeeded, and what it said.
    fn end(mut self) -> (bool, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.err, &mut said).unwrap();
        (self.child.wait().unwrap().success(), said)
    }
}

fn part(url: &str, name: &str) -> String {
    let pairs = url.split_once('?').unwrap().1.split('&');
    let found = pairs.filter_map(|pair| pair.split_once('='));
    let value = found.into_iter().find(|(known, _)| *known == name);
    value.unwrap().1.to_owned()
}

#[test]
fn a_person_logs_in_by_a_browser_with_an_account_of_another_server() {
    let theirs = Desk::with_ada("path \"identity/oidc/*\" { capabilities = [\"read\"] }");
    let ours = Desk::new();
    let put = |desk: &Desk, path: &str, body| desk.ask("POST", path, body);
    // The other server knows people; this one is a program to it.
    put(
        &theirs,
        "/v1/identity/oidc/config",
        json!({ "issuer": theirs.address }),
    );
    put(
        &theirs,
        "/v1/identity/oidc/key/k",
        json!({ "allowed_client_ids": ["*"] }),
    );
    put(
        &theirs,
        "/v1/identity/oidc/client/bastide",
        json!({
            "redirect_uris": ["http://localhost:8250/oidc/callback"],
            "assignments": ["allow_all"], "key": "k",
        }),
    );
    let client = theirs.ask("GET", "/v1/identity/oidc/client/bastide", Value::Null);
    put(&ours, "/v1/sys/auth/oidc", json!({ "type": "oidc" }));
    put(
        &ours,
        "/v1/auth/oidc/config",
        json!({
            "oidc_discovery_url": format!("{}/v1/identity/oidc/provider/default", theirs.address),
            "oidc_client_id": client["client_id"],
            "oidc_client_secret": client["client_secret"],
            "default_role": "people",
        }),
    );
    put(
        &ours,
        "/v1/auth/oidc/role/people",
        json!({
            "user_claim": "sub", "token_policies": ["reader"],
            "allowed_redirect_uris": ["http://localhost:8250/oidc/callback"],
        }),
    );
    let kept = fs::read(theirs.path(".bastide/token")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let ada = kept["token"].as_str().unwrap();
    // What a browser that Ada is logged in with does at the other server.
    let log_in = |url: &str| {
        let rest = url.strip_prefix(&theirs.address).unwrap().to_owned();
        let address = theirs.address.strip_prefix("http://").unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {rest} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {ada}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
        let body = said.split_once("\r\n\r\n").unwrap().1;
        let told: Value = serde_json::from_str(body).unwrap();
        assert!(told["code"].is_string(), "{said}");
        told["code"].as_str().unwrap().to_owned()
    };
    let waiting = Waiting::new(&ours);
    let state = part(&waiting.url, "state");
    let code = log_in(&waiting.url);
    // Pages that a browser shows can knock here too; nothing of theirs ends the waiting.
    let other = waiting.back("x").replace("/oidc/callback", "/other");
    assert!(browse(&other).contains("404"));
    assert!(browse(&waiting.back(&format!("code={code}&state=forged"))).contains("400"));
    let page = browse(&waiting.back(&format!("code={code}&state={state}")));
    assert!(
        page.contains("200 OK") && page.contains("You are logged in"),
        "{page}"
    );
    let (is_in, said) = waiting.end();
    assert!(
        is_in && said.contains("logged in as people with default, reader"),
        "{said}"
    );
    assert!(!said.contains(&code), "{said}");
    let kept = ours.path(".bastide/token");
    assert_eq!(fs::metadata(kept).unwrap().mode() & 0o777, 0o600);
    ours.own(&["token", "renew"]).ok();
    // A code of another login is worth nothing here (RFC 9700, section 4.5).
    let (waiting, other) = (Waiting::new(&ours), Waiting::new(&ours));
    let state = part(&waiting.url, "state");
    let code = log_in(&other.url);
    let page = browse(&waiting.back(&format!("code={code}&state={state}")));
    assert!(
        page.contains("403") && page.contains("see the terminal"),
        "{page}"
    );
    let (is_in, said) = waiting.end();
    assert!(!is_in && said.contains("invalid_grant"), "{said}");
    // A role that lets no browser come back here says what to change.
    let role = json!({ "allowed_redirect_uris": ["https://ui.example/cb"] });
    put(&ours, "/v1/auth/oidc/role/people", role);
    let refused = ours.own(&["login", "oidc", "people", "--port", "0"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(
        refused.err.contains("allowed_redirect_uris"),
        "{}",
        refused.err
    );
}

#[test]
fn a_shell_completes_verbs_options_and_paths_of_secrets() {
    let desk = Desk::with_ada(POLICY);
    desk.type_with(None, &["secret", "put", "secret/app/db", "-"], "{\"a\":1}")
        .ok();
    let goes_on = |words: &[&str]| desk.own(&[&["complete", "--"], words].concat()).ok();
    assert_eq!(goes_on(&["sec"]), "secret\n");
    assert!(goes_on(&["secret", ""]).contains("edit\n"));
    assert_eq!(goes_on(&["secret", "put", "--pa"]), "--patch\n");
    assert_eq!(
        goes_on(&["secret", "get", "secret/app/d"]),
        "secret/app/db\n"
    );
    assert!(goes_on(&["login", ""]).contains("approle\n"));
    assert_eq!(goes_on(&["secret", "get", "secret/hr/"]), "");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            desk.own(&["completions", shell])
                .ok()
                .contains("bastide complete --")
        );
    }
}
