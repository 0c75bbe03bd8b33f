//! Sites with hosts, and what a user does on them.

#![expect(
    clippy::print_stderr,
    reason = "a skipped test and a failed one's logs are told aloud"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bastide_api::ports;
use bastide_api::status::{NodeStatus, Status};
use bastide_lab::run::{Output, Process};
use bastide_lab::{Lab, Options, Plan};
use bastide_linux::spawn::{Command, Stdio};

/// Long enough for anything that works, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);
/// The program.
pub const BASTIDE: &str = env!("CARGO_BIN_EXE_bastide");
/// Where atlas is reached from everywhere.
pub const ATLAS: &str = "203.0.113.10";
/// Where every host's resolver answers.
pub const DNS: Ipv4Addr = Ipv4Addr::new(100, 72, 0, 53);

/// Atlas with a public address, boreas and cygnus behind routers of their own.
const THREE_SITES: &str = include_str!("../../../../examples/three-sites.yaml");

/// Tells whether a test may run: as root, and with these programs at hand.
pub fn can_run(programs: &[&str]) -> bool {
    let mut missing: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let is_there = |program: &str| {
        folders
            .iter()
            .any(|folder| PathBuf::from(folder).join(program).exists())
    };
    // `up` makes the server's user.
    let needed = programs.iter().chain(&["nft", "useradd"]);
    missing.extend(needed.filter(|program| !is_there(program)));
    for what in &missing {
        skip(what);
    }
    missing.is_empty()
}

/// Tells why a test does not run.
pub fn skip(what: &str) {
    eprintln!("skipped: {what} is missing");
}

/// A folder of a test's own, removed when this is dropped. Its path is short: it holds sockets.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("be-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Three sites with more nodes, given as in a lab's file.
pub fn three_sites_and(lab: &str, more: &str) -> String {
    THREE_SITES.replacen("lab: three-sites", &format!("lab: {lab}"), 1) + more
}

/// A network, and the programs that run in it until the end.
pub struct Site {
    running: Vec<Process>,
    lab: Lab,
    state: PathBuf,
    logs: Logs,
    _folder: Folder,
}

impl Site {
    /// Brings up atlas, boreas and cygnus, and `more` nodes.
    pub fn three_and(name: &str, more: &str) -> Self {
        let folder = Folder::new();
        let options = Options {
            state_root: folder.0.join("labs"),
            program: BASTIDE.into(),
            before: vec!["lab-part".to_owned()],
        };
        let plan = Plan::parse(&three_sites_and(name, more)).unwrap();
        let lab = Lab::up(plan, &options).unwrap();
        let logs = Logs(folder.0.join("logs"));
        fs::create_dir_all(&logs.0).unwrap();
        Self {
            running: Vec::new(),
            state: folder.0.join("labs").join(name),
            lab,
            logs,
            _folder: folder,
        }
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Where the lab's state is.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Takes the lab down, with all that runs in it.
    pub fn down(self) {
        for process in self.running {
            process.leave();
        }
        self.lab.down().unwrap();
    }

    /// Where the output of what runs in the hosts is, a file each.
    pub fn logs(&self) -> &Path {
        &self.logs.0
    }

    /// Runs a script on a host and returns what it wrote; fails the test if it fails.
    pub fn run(&self, host: &str, script: &str) -> String {
        let output = self.output(host, sh(script), "");
        let (text, errors) = (output.text(), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{host}: `{script}` failed: {text}{errors}"
        );
        text
    }

    /// Runs a script on a host; tells whether it succeeded.
    pub fn succeeds(&self, host: &str, script: &str) -> bool {
        self.output(host, sh(script), "").status.success()
    }

    /// Runs a command on a host to its end.
    pub fn output(&self, host: &str, command: Command, input: &str) -> Output {
        self.lab.output(host, command, input.as_bytes()).unwrap()
    }

    /// Runs `bastide` with these words on a host, to its end.
    pub fn try_bastide(&self, host: &str, words: &[&str]) -> Output {
        self.output(host, bastide(words), "")
    }

    /// The same, returns what it wrote, and fails the test if it fails.
    pub fn bastide(&self, host: &str, words: &[&str]) -> String {
        let output = self.try_bastide(host, words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{host}: `bastide {}` failed: {errors}",
            words.join(" ")
        );
        output.text()
    }

    /// Starts a program that runs until the end, and returns its process id as we see it.
    pub fn start(&mut self, host: &str, mut command: Command, input: &str) -> Started {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = self.logs().join(format!("{number}-{host}.log"));
        command.stdin(Stdio::Pipe).stdout(Stdio::Pipe);
        command.stderr(Stdio::File(File::create(&log).unwrap().into()));
        let mut process = self.lab.spawn(host, command).unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let stdout = process.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody may be interested any more.
                let _ = sender.send(line);
            }
        });
        let started = Started {
            pid: process.pid(),
            lines,
            log,
        };
        self.running.push(process);
        started
    }

    /// Waits until a program that was started has ended.
    pub fn wait_for_end(&mut self, started: &Started) {
        let mut running = self.running.iter_mut();
        let process = running.find(|process| process.pid() == started.pid);
        let ended = process.unwrap().wait_for(SOON).unwrap();
        assert!(ended.is_some(), "it ends within {SOON:?}");
    }

    /// Whether a program that was started has ended.
    pub fn has_ended(&mut self, started: &Started) -> bool {
        let mut running = self.running.iter_mut();
        let process = running.find(|process| process.pid() == started.pid);
        process.unwrap().try_wait().unwrap().is_some()
    }

    /// Starts the container engines of hosts, as their service manager would.
    pub fn start_engines(&mut self, hosts: &[&str]) -> Vec<Started> {
        let mut engines = Vec::new();
        for host in hosts {
            let words = ["--oom-score-adjust", "0", "--storage-driver", "overlay2"];
            let mut engine = Command::new("dockerd");
            engine.args(words);
            engines.push(self.start(host, engine, ""));
        }
        for host in hosts {
            until("the engine", || self.succeeds(host, "docker version"));
        }
        engines
    }

    /// `bastide up` on atlas; returns the ticket that it prints.
    pub fn up(&mut self) -> (String, Started) {
        self.up_with(&[])
    }

    /// The same, with more options.
    pub fn up_with(&mut self, more: &[&str]) -> (String, Started) {
        let words = ["up", "--foreground", "--cluster", "test", "--public", ATLAS];
        let options = ["--site", "cloud", "--swarm-heartbeat-ms", "1000"];
        let words = [&words[..], &options, more].concat();
        let started = self.start("atlas", bastide(&words), "");
        (started.line("a ticket"), started)
    }

    /// `bastide join -` on a host with a new ticket; returns when the host is a node.
    pub fn join(&mut self, host: &str, options: &[&str]) -> Started {
        let ticket = self.bastide("atlas", &["ticket"]);
        self.join_with(host, &ticket, options)
    }

    /// `bastide join -` on a host; returns when the host is a node.
    pub fn join_with(&mut self, host: &str, ticket: &str, options: &[&str]) -> Started {
        let words = ["join", "-", "--foreground", "--site", host];
        let started = self.start(host, bastide(&[&words[..], options].concat()), ticket);
        until("the new node", || self.status(host).is_some());
        started
    }

    /// `bastide status` on a host, if its agent answers.
    pub fn status(&self, host: &str) -> Option<Status> {
        let output = self.try_bastide(host, &["status", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What `host` knows of node `name`.
    pub fn node(&self, host: &str, name: &str) -> Option<NodeStatus> {
        let nodes = self.status(host)?.nodes;
        nodes.into_iter().find(|node| node.name.as_str() == name)
    }

    /// Whether the mesh address of node `name` answers `host`.
    pub fn pings(&self, host: &str, name: &str) -> bool {
        self.node(host, name).is_some_and(|node| {
            let ping = format!("ping -n -c1 -W1 {}", node.address);
            self.succeeds(host, &ping)
        })
    }

    /// Whether a host's own resolver knows an address for a name.
    pub fn resolves(&self, host: &str, name: &str) -> bool {
        self.lab.within(host, || resolves(name)).unwrap()
    }

    /// Waits until every engine of these hosts is a member of the Swarm.
    pub fn until_swarm(&self, hosts: &[&str]) {
        until("the Swarm", || {
            hosts.iter().all(|host| {
                self.node("atlas", host).is_some_and(|node| node.swarm)
                    && self.node(host, host).is_some_and(|node| node.swarm)
            })
        });
    }
}

/// The output of what runs in the hosts; a test that fails shows the last of it.
struct Logs(PathBuf);

impl Drop for Logs {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("--- {}\n{last}", entry.path().display());
        }
    }
}

/// A program that runs until the end.
pub struct Started {
    /// Its process id, as we see it.
    pub pid: u32,
    /// Where its messages go.
    pub log: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Started {
    /// Returns its next line of output, if there is one already.
    pub fn try_line(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits for its next line of output.
    pub fn line(&self, what: &str) -> String {
        let line = self.lines.recv_timeout(SOON);
        line.unwrap_or_else(|_| {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("waited for {what}; it said: {said}")
        })
    }
}

/// A shell command.
pub fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// A command of the program.
pub fn bastide(words: &[&str]) -> Command {
    let mut command = Command::new(BASTIDE);
    command.args(words.iter().copied());
    command
}

/// Whether the cluster's resolver, asked from the calling thread's network, knows an address for a
/// name.
pub fn resolves(name: &str) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send_to(&question(name), (DNS, ports::DNS)).unwrap();
    let mut answer = [0; 512];
    socket.recv(&mut answer).unwrap();
    // The counts of questions and answers follow the flags (RFC 1035, section 4.1.1).
    assert_eq!(answer[..2], [0x12, 0x34]);
    answer[6..8] != [0, 0]
}

/// A question for the address of a name (RFC 1035, section 4.1).
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// Kills a process with all that it started, at once.
pub fn kill_all_of(pid: u32) {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        let line = format!("PPid:\t{parent}");
        let is_child = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| status.lines().any(|known| known == line))
        };
        all.extend(processes().into_iter().filter(is_child));
        next += 1;
    }
    for pid in all {
        kill(pid);
    }
}

/// All processes, as we see them.
pub fn processes() -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Kills a process.
pub fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Sends a process a signal.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have ended with its parent.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Looks until `holds`, or fails the test.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "waited {SOON:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
