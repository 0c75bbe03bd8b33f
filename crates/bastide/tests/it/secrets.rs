//! Where keys, tickets and tokens are, and where they are not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bastide_api::Ticket;
use bastide_linux::spawn::Command;
use data_encoding::{BASE64, HEXLOWER};

use crate::site::{Site, bastide, can_run, processes, sh, until};

/// All that the program keeps on a host.
const FOLDERS: &str = "/etc/bastide /var/lib/bastide /run/bastide";

/// What `find` tells of a file.
struct Entry {
    kind: String,
    mode: u32,
    owner: u32,
    path: String,
}

fn entries(site: &Site, host: &str) -> Vec<Entry> {
    // Files that are replaced come and go while we look.
    let script = format!("find {FOLDERS} -printf '%y %m %U %p\\n' || true");
    let text = site.run(host, &script);
    let entries = text.lines().map(|line| {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        Entry {
            kind: fields[0].to_owned(),
            mode: u32::from_str_radix(fields[1], 8).unwrap(),
            owner: fields[2].parse().unwrap(),
            path: fields[3].to_owned(),
        }
    });
    entries.collect()
}

/// The process that `parent` started to run this verb.
pub fn daemon(parent: u32, verb: &str) -> u32 {
    let line = format!("PPid:\t{parent}");
    let found = processes().into_iter().find(|pid| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("status").lines().any(|known| known == line)
            && read("cmdline").split('\0').nth(1) == Some(verb)
    });
    found.unwrap()
}

/// The value of a line of `/proc/PID/status`.
pub fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let prefix = format!("{name}:\t");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap().to_owned()
}

#[test]
fn files_and_processes_with_keys_are_for_their_owner_alone() {
    if !can_run(&[]) {
        return;
    }
    let mut site = Site::three_and("owners", "");
    let (_ticket, up) = site.up();
    let join = site.join("boreas", &[]);
    let user = site.run("atlas", "id -u bastide").trim().parse().unwrap();
    assert_ne!(user, 0);
    for host in ["atlas", "boreas"] {
        let entries = entries(&site, host);
        for entry in &entries {
            let Entry { mode, path, .. } = entry;
            let is_for_all = ["/etc/bastide", "/var/lib/bastide", "/etc/bastide/ca.pem"];
            let closed = if is_for_all.contains(&path.as_str()) {
                0o022
            } else {
                0o077
            };
            assert_eq!(mode & closed, 0, "{host}: {path} has mode {mode:o}");
            let is_server = path.starts_with("/var/lib/bastide/server");
            let owner = if is_server { user } else { 0 };
            assert_eq!(entry.owner, owner, "{host}: the owner of {path}");
        }
        let is_there = |kind, path| {
            entries
                .iter()
                .any(|entry| entry.kind == kind && entry.path == path)
        };
        let agent = [
            "identity.key",
            "wireguard.key",
            "discovery.key",
            "view.json",
        ];
        for name in agent {
            assert!(
                is_there("f", format!("/var/lib/bastide/agent/{name}")),
                "{host}: {name}"
            );
        }
        assert!(is_there("s", "/run/bastide/agent.sock".to_owned()));
        let server = [
            "/etc/bastide/seal.key",
            "/etc/bastide/operator.token",
            "/var/lib/bastide/server/store.redb",
            "/var/lib/bastide/server/audit.log",
        ];
        for path in server {
            assert_eq!(
                is_there("f", path.to_owned()),
                host == "atlas",
                "{host}: {path}"
            );
        }
    }

    let server = daemon(up.pid, "server");
    let ids = status(server, "Uid");
    assert!(ids.split('\t').all(|id| id == user.to_string()), "{ids}");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(server, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(server, "Groups").trim(), "", "no other groups");
    // Of a process that must not be dumped or traced, the kernel makes root the owner.
    let owner = fs::metadata(format!("/proc/{server}/environ"))
        .unwrap()
        .uid();
    assert_eq!(owner, 0, "its user cannot look into it");
    for pid in [server, daemon(up.pid, "agent"), daemon(join.pid, "agent")] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<_> = core.unwrap().split_whitespace().skip(4).collect();
        assert_eq!(core[..2], ["0", "0"], "no core dumps");
        assert_eq!(status(pid, "NoNewPrivs"), "1");
    }
}

/// A secret in the forms in which it might be written somewhere.
fn forms(ticket: &str, token: &str) -> Vec<Vec<u8>> {
    let parsed: Ticket = ticket.parse().unwrap();
    let secret = parsed.secret.expose();
    vec![
        ticket.trim().as_bytes()[5..].to_vec(),
        token.trim().as_bytes().to_vec(),
        secret.to_vec(),
        BASE64
            .encode(secret)
            .trim_end_matches('=')
            .as_bytes()
            .to_vec(),
        HEXLOWER.encode(secret).into_bytes(),
        format!("{:?}", &secret[..8])
            .trim_end_matches(']')
            .as_bytes()
            .to_vec(),
    ]
}

fn holds(text: &[u8], words: &[Vec<u8>]) -> bool {
    let starts: Vec<u8> = words.iter().map(|word| word[0]).collect();
    (0..text.len()).any(|at| {
        starts.contains(&text[at]) && words.iter().any(|word| text[at..].starts_with(word))
    })
}

/// The processes whose arguments or environment hold one of these, with what holds it.
fn processes_that_tell(words: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes() {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            let text = fs::read(&path).unwrap_or_default();
            if holds(&text, words) {
                found.push(format!("{path}: {}", status(pid, "Name")));
            }
        }
    }
    found
}

#[test]
fn tickets_and_tokens_are_in_no_argument_list_no_log_and_no_store() {
    if !can_run(&[]) {
        return;
    }
    let mut site = Site::three_and("untold", "");
    let logged = |words: &[&str]| {
        let mut command = bastide(words);
        command.env("RUST_LOG", "trace");
        command
    };
    let up = site.start(
        "atlas",
        logged(&["up", "--foreground", "--public", "203.0.113.10"]),
        "",
    );
    let ticket = up.line("a ticket");
    let token = site.run("atlas", "cat /etc/bastide/operator.token");
    let told = forms(&ticket, &token);
    let is_joined = AtomicBool::new(false);
    let (seen, looks) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut seen, mut looks) = (Vec::new(), 0);
            while !is_joined.load(Ordering::Relaxed) || looks == 0 {
                seen.extend(processes_that_tell(&told));
                looks += 1;
            }
            (seen, looks)
        });
        site.start("boreas", logged(&["join", "-", "--foreground"]), &ticket);
        until("the new node", || site.status("boreas").is_some());
        is_joined.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(seen.is_empty(), "in {looks} looks: {seen:#?}");
    site.bastide("atlas", &["ticket"]);
    site.bastide("atlas", &["status"]);

    // Positive control: what is in arguments or an environment is found there.
    let mark = b"a-mark-that-is-found".to_vec();
    let mut argument = sh("sleep 1000");
    argument.arg(String::from_utf8(mark.clone()).unwrap());
    let mut variable = Command::new("sleep");
    variable.arg("1000");
    variable.env("MARK", String::from_utf8(mark.clone()).unwrap());
    site.start("boreas", argument, "");
    site.start("boreas", variable, "");
    let found = processes_that_tell(&[mark]);
    assert!(
        ["cmdline", "environ"]
            .iter()
            .all(|file| found.iter().any(|one| one.contains(file)))
    );

    // Logs, at the most talkative.
    let mut text = Vec::new();
    for entry in fs::read_dir(site.logs()).unwrap().flatten() {
        let log = fs::read(entry.path()).unwrap();
        assert!(!holds(&log, &told), "{}", entry.path().display());
        text.extend(log);
    }
    assert!(holds(&text, &[b"TRACE".to_vec()]) && holds(&text, &[b"joined the cluster".to_vec()]));

    // What is kept on the hosts.
    let mut files = 0;
    for host in ["atlas", "boreas"] {
        let paths = site.run(host, &format!("find {FOLDERS} /var/log -type f || true"));
        for path in paths.lines() {
            let output = site.output(host, sh(&format!("cat '{path}'")), "");
            let is_token = path == "/etc/bastide/operator.token";
            assert_eq!(holds(&output.stdout, &told), is_token, "{host}: {path}");
            files += 1;
        }
    }
    assert!(8 < files, "only {files} files were looked at");
    let audit = site.run("atlas", "cat /var/lib/bastide/server/audit.log");
    let is_told = |word: &str| audit.contains(word);
    assert!(
        is_told("join") && is_told("hmac-sha256:"),
        "the audit log tells of it: {audit}"
    );
}
