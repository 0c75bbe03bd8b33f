//! Every secret of a site is a canary: looked for, while it lives a whole life at its most talkative,
//! in each log, message, argument list, environment and file, and in what a crash leaves.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bastide_api::Ticket;
use bastide_lab::run::Output;
use bastide_linux::spawn::Command;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;

use crate::secrets::{daemon, status};
use crate::site::{Site, Started, bastide, can_run, processes, sh, until};

/// All that the program keeps on a host, and where others log.
const FOLDERS: &str = "/etc/bastide /var/lib/bastide /run/bastide /var/log";
/// Shorter ones would be found by chance.
const BYTES_MIN: usize = 8;

/// A secret and the forms in which it might be written somewhere.
struct Canary {
    name: &'static str,
    forms: Vec<Vec<u8>>,
    /// The only file that holds it.
    home: Option<&'static str>,
}

impl Canary {
    fn of_text(name: &'static str, text: &str) -> Self {
        Self::of_bytes(name, text.trim().as_bytes())
    }

    fn of_bytes(name: &'static str, bytes: &[u8]) -> Self {
        assert!(BYTES_MIN <= bytes.len(), "{name} is too short");
        let base64 = BASE64.encode(bytes);
        // A text around it moves its end; and what is cut off is still too much.
        let numbers = format!("{:?}", &bytes[..BYTES_MIN]);
        let forms = vec![
            bytes.to_vec(),
            base64.as_bytes()[..bytes.len()].to_vec(),
            HEXLOWER.encode(bytes).into_bytes(),
            HEXLOWER.encode(bytes).to_uppercase().into_bytes(),
            numbers.trim_end_matches(']').as_bytes().to_vec(),
        ];
        Self {
            name,
            forms,
            home: None,
        }
    }

    fn at(self, home: &'static str) -> Self {
        Self {
            home: Some(home),
            ..self
        }
    }
}

/// All canaries, searched for together.
#[derive(Default)]
struct Aviary(Mutex<Vec<Canary>>);

impl Aviary {
    fn add(&self, canary: Canary) {
        self.0.lock().unwrap().push(canary);
    }

    /// Returns the names of those that `text` holds.
    fn heard_in(&self, text: &[u8]) -> Vec<(&'static str, Option<&'static str>)> {
        let canaries = self.0.lock().unwrap();
        let forms = || {
            canaries
                .iter()
                .flat_map(|one| one.forms.iter().map(move |it| (one, it)))
        };
        // Two bytes tell most places apart.
        let mut starts = vec![false; 1 << 16];
        let start = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
        for (_, form) in forms() {
            starts[start(form)] = true;
        }
        let mut heard = Vec::new();
        for at in 0..text.len().saturating_sub(1) {
            if !starts[start(&text[at..])] {
                continue;
            }
            for (canary, _) in forms().filter(|(_, form)| text[at..].starts_with(form)) {
                if !heard.contains(&(canary.name, canary.home)) {
                    heard.push((canary.name, canary.home));
                }
            }
        }
        heard
    }

    /// The processes whose arguments or environment tell one, with what they tell.
    fn heard_in_processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pid in processes() {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{pid}/{file}");
                let text = fs::read(&path).unwrap_or_default();
                for (name, _) in self.heard_in(&text) {
                    found.push(format!("{name} in {path}"));
                }
            }
        }
        found
    }
}

fn logged(words: &[&str]) -> Command {
    let mut command = bastide(words);
    command.env("RUST_LOG", "trace");
    command
}

/// Asks the API on atlas, as anybody there can: token and body go in by the standard input.
fn ask(site: &Site, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-connect", "127.0.0.1:8200"]);
    openssl.args(["-CAfile", "/etc/bastide/ca.pem"]);
    let length = body.len();
    let request = format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Vault-Token: {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer = site.output("atlas", openssl, &request).text();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        code.unwrap_or_else(|| panic!("no answer: {answer}")),
        body.to_owned(),
    )
}

/// What people and machines do with the control plane; returns what refusals said.
fn use_the_api(site: &Site, root: &str, aviary: &Aviary) -> String {
    let mut said = String::new();
    let good = |method: &str, path: &str, token: &str, body: &str| {
        let (code, answer) = ask(site, method, path, token, body);
        assert!(
            (200..300).contains(&code),
            "{method} {path}: {code} {answer}"
        );
        answer
    };
    let (password, wrong) = ("canary-of-a-password-5711", "canary-of-a-wrong-password-42");
    let (value, old) = (
        "canary-of-a-stored-value-1234",
        "canary-of-an-older-value-4321",
    );
    aviary.add(Canary::of_text("a password", password));
    aviary.add(Canary::of_text("a wrong password", wrong));
    aviary.add(Canary::of_text("a stored value", value));
    aviary.add(Canary::of_text("an older value", old));
    good("POST", "sys/auth/userpass", root, r#"{"type":"userpass"}"#);
    let user = format!(r#"{{"password":"{password}","policies":"default"}}"#);
    good("POST", "auth/userpass/users/ada", root, &user);
    let body = |word: &str| format!(r#"{{"password":"{word}"}}"#);
    let login = good("POST", "auth/userpass/login/ada", "", &body(password));
    let login: Value = serde_json::from_str(&login).unwrap();
    let token = login["auth"]["client_token"].as_str().unwrap();
    aviary.add(Canary::of_text("a person's token", token));
    for value in [old, value] {
        let write = format!(r#"{{"data":{{"key":"{value}"}}}}"#);
        good("POST", "secret/data/app", root, &write);
    }
    assert!(good("GET", "secret/data/app", root, "").contains(value));
    let made = good(
        "POST",
        "auth/token/create",
        root,
        r#"{"policies":["default"]}"#,
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let made = made["auth"]["client_token"].as_str().unwrap();
    aviary.add(Canary::of_text("a token of a token", made));
    let revoke = format!(r#"{{"token":"{made}"}}"#);
    good("POST", "auth/token/revoke", root, &revoke);

    // Refusals of each kind: none shows what was sent. (A path is no secret: it is audited in clear.)
    let never = "hvs.canary-of-a-token-that-never-was";
    aviary.add(Canary::of_text("a token that never was", never));
    let torn = format!(r#"{{"data":{{"key":"{value}""#);
    let as_list = format!(r#"{{"data":["{value}"]}}"#);
    for (method, path, token, body) in [
        ("POST", "auth/userpass/login/ada", "", body(wrong)),
        ("GET", "secret/data/app", never, String::new()),
        ("GET", "secret/data/app", token, String::new()),
        ("GET", "secret/data/app", made, String::new()),
        ("POST", "secret/data/app", root, torn),
        ("POST", "secret/data/app", root, as_list),
    ] {
        let (code, answer) = ask(site, method, path, token, &body);
        assert!(400 <= code, "{method} {path}: {code}");
        said += &answer;
    }
    said
}

/// Joins that are refused; returns what they said.
fn fail_to_join(site: &Site, ticket: &str) -> Vec<Output> {
    let torn = &ticket.trim()[..ticket.trim().len() - 3];
    let spent = ticket;
    [torn, spent]
        .map(|ticket| {
            let words = ["join", "-", "--foreground", "--name", "dione"];
            // The spent one is refused by the controller, at once.
            let command = logged(&words);
            site.output("cygnus", command, ticket)
        })
        .into()
}

/// Keys and tokens that are made, and not given.
fn keys_of(site: &Site, aviary: &Aviary) {
    for host in ["atlas", "boreas"] {
        for (name, path) in [
            ("a WireGuard key", "/var/lib/bastide/agent/wireguard.key"),
            ("a discovery key", "/var/lib/bastide/agent/discovery.key"),
            ("an identity key", "/var/lib/bastide/agent/identity.key"),
            ("the seal's key", "/etc/bastide/seal.key"),
        ] {
            if host == "boreas" && name == "the seal's key" {
                continue;
            }
            let read = site.output(host, sh(&format!("cat {path}")), "");
            assert!(read.status.success(), "{host}: {path}");
            let text = String::from_utf8(read.stdout.clone()).unwrap_or_default();
            let canary = match text.lines().nth(1) {
                // The middle of the base64 between PEM's lines: the rest is the same for all keys.
                Some(line) if text.starts_with("-----") => Canary::of_text(name, &line[30..60]),
                Some(_) | None => Canary::of_bytes(name, &read.stdout),
            };
            aviary.add(canary.at(path));
        }
    }
    for role in ["worker", "manager"] {
        let token = site.run("atlas", &format!("docker swarm join-token -q {role}"));
        let secret = token.trim().rsplit('-').next().unwrap().to_owned();
        aviary.add(Canary::of_text("a Swarm's token", &secret));
    }
}

/// No process leaves its memory behind when it crashes. `elsewhere` shows that one could have.
fn crash(site: &mut Site, daemons: &[u32]) {
    let limit = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<String> = line
            .unwrap()
            .split_whitespace()
            .skip(4)
            .map(str::to_owned)
            .collect();
        (words[0].clone(), words[1].clone())
    };
    let none = ("0".to_owned(), "0".to_owned());
    for pid in daemons {
        assert_eq!(limit(*pid), none, "{}", status(*pid, "Name"));
    }
    let control = site.start(
        "atlas",
        sh("ulimit -c unlimited; cd /run; exec sleep 1000"),
        "",
    );
    until("the control to have begun", || {
        status(control.pid, "Name") == "sleep"
    });
    assert_ne!(
        limit(control.pid),
        none,
        "the limit is the program's own doing"
    );
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" {
        return;
    }
    let folders: Vec<_> = daemons
        .iter()
        .map(|pid| fs::read_link(format!("/proc/{pid}/cwd")).unwrap())
        .collect();
    for pid in daemons.iter().chain([&control.pid]) {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::SEGV).unwrap();
    }
    until("the control's core", || {
        site.succeeds("atlas", "ls /run/core*")
    });
    for folder in folders {
        let look = format!("ls {}/core* | grep -v ^/run/", folder.display());
        assert!(
            !site.succeeds("atlas", &look),
            "a core in {}",
            folder.display()
        );
    }
    let count = site.run("atlas", "ls /run | grep -c ^core");
    assert_eq!(count.trim(), "1", "the control's alone");
}

/// A site's life: two nodes with engines, people and machines at the API, refusals, a removal.
fn live(site: &mut Site, aviary: &Aviary) -> (Vec<u8>, Vec<Started>) {
    let words = ["up", "--foreground", "--public", "203.0.113.10"];
    let more = ["--site", "cloud", "--swarm-heartbeat-ms", "1000"];
    let up = site.start("atlas", logged(&[&words[..], &more].concat()), "");
    let ticket = up.line("a ticket");
    let told = |ticket: &str| {
        let parsed: Ticket = ticket.parse().unwrap();
        aviary.add(Canary::of_bytes(
            "a ticket's secret",
            parsed.secret.expose(),
        ));
        // Its end: the beginning names the cluster.
        let text = ticket.trim();
        aviary.add(Canary::of_text("a ticket", &text[text.len() - 40..]));
    };
    told(&ticket);
    let root = site.run("atlas", "cat /etc/bastide/operator.token");
    aviary.add(Canary::of_text("the root token", &root).at("/etc/bastide/operator.token"));
    let mut said = use_the_api(site, root.trim(), aviary).into_bytes();

    let join = site.start("boreas", logged(&["join", "-", "--foreground"]), &ticket);
    until("the new node", || site.status("boreas").is_some());
    site.until_swarm(&["atlas", "boreas"]);
    keys_of(site, aviary);
    for output in fail_to_join(site, &ticket) {
        assert!(!output.status.success(), "{}", output.text());
        assert!(!output.stderr.is_empty(), "a refusal says why");
        said.extend([output.stdout, output.stderr].concat());
    }
    let second = site.output("atlas", logged(&["ticket"]), "");
    told(&second.text());
    said.extend(&second.stderr);
    for words in [
        &["status"][..],
        &["ps"],
        &["node", "rm", "boreas"],
        &["status", "--json"],
    ] {
        let output = site.output("atlas", logged(words), "");
        said.extend([output.stdout, output.stderr].concat());
    }
    (said, vec![up, join])
}

#[test]
fn no_secret_of_a_whole_life_is_in_a_log_a_message_an_argument_or_a_core() {
    if !can_run(&["dockerd", "docker", "iptables", "openssl"]) {
        return;
    }
    let mut site = Site::three_and("canaries", "");
    site.start_engines(&["atlas", "boreas"]);
    let aviary = Aviary::default();
    let is_over = AtomicBool::new(false);
    let (said, started, seen, looks) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut seen, mut looks) = (Vec::new(), 0);
            while !is_over.load(Ordering::Relaxed) || looks == 0 {
                seen.extend(aviary.heard_in_processes());
                looks += 1;
            }
            (seen, looks)
        });
        let (said, started) = live(&mut site, &aviary);
        is_over.store(true, Ordering::Relaxed);
        let (seen, looks) = watch.join().unwrap();
        (said, started, seen, looks)
    });
    assert!(seen.is_empty(), "in {looks} looks: {seen:#?}");
    assert_eq!(
        aviary.heard_in(&said),
        [],
        "{}",
        String::from_utf8_lossy(&said)
    );

    // Positive controls: each tap hears a canary that sings there.
    let mark = "canary-that-sings-aloud";
    aviary.add(Canary::of_text("the control", mark));
    let mut singer = sh("echo $MARK; echo $MARK >&2; sleep 1000");
    singer.env("MARK", mark);
    singer.arg(mark);
    let log = site.start("boreas", singer, "").log;
    until("the control's log", || {
        fs::read(&log).is_ok_and(|text| !aviary.heard_in(&text).is_empty())
    });
    let found = aviary.heard_in_processes();
    for file in ["cmdline", "environ"] {
        assert!(
            found.iter().any(|one| one.ends_with(file)),
            "{file}: {found:?}"
        );
    }
    assert_eq!(aviary.heard_in(format!("a {mark} b").as_bytes()).len(), 1);

    // Logs, at the most talkative, of daemons, verbs and engines.
    let mut bytes = 0;
    for entry in fs::read_dir(site.logs()).unwrap().flatten() {
        let text = fs::read(entry.path()).unwrap();
        bytes += text.len();
        let heard = aviary.heard_in(&text);
        let is_control = entry.path() == log;
        assert_eq!(
            heard.is_empty(),
            !is_control,
            "{}: {heard:?}",
            entry.path().display()
        );
    }
    for one in &started {
        let text = fs::read_to_string(&one.log).unwrap();
        assert!(text.contains("TRACE"), "{} is talkative", one.log.display());
    }

    // Files: each secret that is kept in clear has one home.
    let mut files = 0;
    for host in ["atlas", "boreas"] {
        let paths = site.run(host, &format!("find {FOLDERS} -type f || true"));
        for path in paths.lines() {
            let text = site.output(host, sh(&format!("cat '{path}'")), "").stdout;
            for (name, home) in aviary.heard_in(&text) {
                assert_eq!(home, Some(path), "{host}: {name}");
            }
            files += 1;
        }
    }
    assert!(8 < files, "only {files} files were looked at");
    eprintln!("{looks} looks at processes, {bytes} bytes of logs, {files} files");

    let server = daemon(started[0].pid, "server");
    let daemons = [server, daemon(started[0].pid, "agent")];
    crash(&mut site, &daemons);
    site.down();
}
