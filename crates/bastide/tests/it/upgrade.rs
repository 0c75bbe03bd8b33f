//! A new binary takes the place of the old one: what goes on meanwhile, and for how long it does not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bastide_linux::spawn::Command;
use rustix::process::Signal;

use crate::containers::{Container, idle};
use crate::site::{BASTIDE, Folder, Site, Started, bastide, can_run, kill_all_of, signal, until};

/// The longest interruption that is promised.
const GAP_MAX: Duration = Duration::from_secs(2);
/// Between two pings, and two messages on a connection.
const EVERY: Duration = Duration::from_millis(20);

/// A ping that goes on, and when each answer came, in seconds of wall time.
struct Pings {
    process: Started,
    answers: Vec<f64>,
}

impl Pings {
    fn start(site: &mut Site, from: &str, to: &str) -> Self {
        let to = site.node(from, to).unwrap().address;
        let mut command = Command::new("ping");
        command.args(["-n", "-D", "-i", "0.02", &to.to_string()]);
        Self {
            process: site.start(from, command, ""),
            answers: Vec::new(),
        }
    }

    fn collect(&mut self) {
        while let Some(line) = self.process.try_line() {
            let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            if let Some((stamp, _)) = stamp.filter(|_| line.contains("time=")) {
                self.answers.push(stamp.parse().unwrap());
            }
        }
    }

    /// Waits until a second's worth of answers has come from now on.
    fn until_steady(&mut self) {
        self.collect();
        let before = self.answers.len();
        until("answers", || {
            self.collect();
            before + 50 <= self.answers.len()
        });
    }

    /// Returns the longest time without an answer while `work` is done and until it is steady again.
    fn longest_gap(&mut self, work: impl FnOnce()) -> Duration {
        self.until_steady();
        let first = self.answers.len() - 1;
        work();
        self.until_steady();
        let pairs = self.answers[first..].windows(2);
        let longest = pairs.map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        Duration::from_secs_f64(longest)
    }
}

/// A copy of the program: what an upgrade brings.
fn next_program(folder: &Folder) -> PathBuf {
    let next = folder.0.join("bastide");
    std::fs::copy(BASTIDE, &next).unwrap();
    next
}

fn program(path: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(words.iter().copied());
    command
}

/// Sends a message and waits for its echo, again and again until told to end; returns how many there
/// were, and the longest time that one took.
fn converse(stream: &mut TcpStream, end: &AtomicBool) -> (u32, Duration) {
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (mut count, mut longest) = (0_u32, Duration::ZERO);
    while !end.load(Ordering::Relaxed) {
        let began = Instant::now();
        stream.write_all(&count.to_be_bytes()).unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, count.to_be_bytes());
        longest = longest.max(began.elapsed());
        count += 1;
        thread::sleep(EVERY);
    }
    (count, longest)
}

/// Answers one connection with what it says.
fn echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = [0; 4];
    loop {
        match stream.read_exact(&mut bytes) {
            Ok(()) => stream.write_all(&bytes).unwrap(),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// When each container of a host was started, and as which process.
fn started(site: &Site, host: &str) -> String {
    let format = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}";
    let script = format!("docker inspect -f '{format}' $(docker ps -aq) | sort");
    site.run(host, &script)
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

#[test]
fn an_upgrade_interrupts_the_mesh_for_less_than_two_seconds_and_containers_not_at_all() {
    if !can_run(&["dockerd", "docker", "iptables", "ping"]) || idle().is_none() {
        return;
    }
    let folder = Folder::new();
    let next = next_program(&folder);
    let mut site = Site::three_and("upgrade", "");
    let hosts = ["atlas", "boreas"];
    site.start_engines(&hosts);
    let (_ticket, mut up) = site.up();
    let join = site.join("boreas", &[]);
    site.until_swarm(&hosts);
    // As a unit: a process of its own.
    signal(join.pid, Signal::TERM);
    site.wait_for_end(&join);
    let mut agent = site.start("boreas", bastide(&["agent"]), "");
    until("the mesh", || site.pings("atlas", "boreas"));
    // NET_BIND_SERVICE (10), NET_ADMIN (12), NET_RAW (13), IPC_LOCK (14); and those that it starts.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status_of(agent.pid, set), "0000000000007400", "{set}");
    }
    // What an agent before left behind.
    site.run("boreas", "ip route add 10.143.0.0/24 dev bst0");
    let [near, far] = hosts.map(|host| Container::run(&site, host));
    let before = hosts.map(|host| started(&site, host));
    let listener = far.within(|| TcpListener::bind((far.address, 7000)).unwrap());
    let to = SocketAddr::from((far.address, 7000));
    let mut stream = near.within(|| {
        let mut connected = None;
        until("a connection", || {
            connected = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok();
            connected.is_some()
        });
        connected.unwrap()
    });
    let mut pings = Pings::start(&mut site, "atlas", "boreas");
    let end = AtomicBool::new(false);
    let (conversation, gaps) = thread::scope(|scope| {
        let answering = scope.spawn(|| echo(&listener));
        let conversing = scope.spawn(|| {
            let result = converse(&mut stream, &end);
            drop(stream);
            result
        });
        let mut gaps = Vec::new();
        for (how, times) in [(Signal::TERM, 3), (Signal::KILL, 2)] {
            for _ in 0..times {
                let gap = pings.longest_gap(|| {
                    signal(agent.pid, how);
                    site.wait_for_end(&agent);
                    agent = site.start("boreas", program(&next, &["agent"]), "");
                });
                gaps.push(("a node's agent", how, gap));
            }
        }
        let gap = pings.longest_gap(|| {
            signal(up.pid, Signal::TERM);
            site.wait_for_end(&up);
            up = site.up().1;
        });
        gaps.push(("the controller's server and agent", Signal::TERM, gap));
        end.store(true, Ordering::Relaxed);
        let conversation = conversing.join().unwrap();
        answering.join().unwrap();
        (conversation, gaps)
    });
    for (what, how, gap) in &gaps {
        eprintln!(
            "{what}, ended by {how:?}: no answer for {} ms",
            gap.as_millis()
        );
    }
    let (messages, longest) = conversation;
    eprintln!(
        "median {} ms; one connection of containers: {messages} messages, the slowest took {} ms",
        median(gaps.iter().map(|(_, _, gap)| *gap).collect()).as_millis(),
        longest.as_millis()
    );
    for (what, how, gap) in gaps {
        assert!(gap < GAP_MAX, "{what}, ended by {how:?}: {gap:?}");
        assert!(EVERY < gap, "a restart is seen");
    }
    assert!(100 < messages);
    let after = hosts.map(|host| started(&site, host));
    assert_eq!(after, before, "no container was started anew");
    assert_eq!(site.run("boreas", "ip route show 10.143.0.0/24"), "");

    // Whoever ends the verb in the foreground ends its daemons, however.
    // The brackets keep the pattern from finding the shell that is given it, and the lab's own first
    // process is of this program, too.
    let daemons = "pgrep -f '[s]erver --handover|[b]astide agent'";
    let children = || site.succeeds("atlas", daemons);
    assert!(children());
    signal(up.pid, Signal::KILL);
    until("the end of its daemons", || !children());
}

/// A line of a process's status.
fn status_of(pid: u32, line: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// Counts datagrams to a port that leave a host, by the device or not.
const COUNT: &str = "nft 'add table ip leak; add chain ip leak out { type filter hook postrouting priority 0; }; \
                     add counter ip leak clear; add counter ip leak mesh; \
                     add rule ip leak out udp dport 7777 oifname \"bst0\" counter name mesh; \
                     add rule ip leak out udp dport 7777 oifname != \"bst0\" counter name clear'";

fn counted(site: &Site, host: &str, counter: &str) -> u64 {
    let text = site.run(host, &format!("nft list counter ip leak {counter}"));
    let mut words = text.split_whitespace();
    words.find(|word| *word == "packets").unwrap();
    words.next().unwrap().parse().unwrap()
}

/// Sends a datagram from a host's network, or says why the kernel would not.
fn send(site: &Site, host: &str, to: &str) -> Result<(), ErrorKind> {
    let to: SocketAddr = format!("{to}:7777").parse().unwrap();
    let sent = site.lab().within(host, || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"canary", to).map_err(|error| error.kind())
    });
    sent.unwrap().map(drop)
}

#[test]
fn what_is_meant_for_the_mesh_never_goes_in_clear_when_the_agent_or_the_device_is_gone() {
    if !can_run(&["ip"]) {
        return;
    }
    let mut site = Site::three_and("leak", "");
    site.up();
    let join = site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    site.run("boreas", COUNT);
    let atlas = site.node("boreas", "atlas").unwrap().address.to_string();
    let nobody = "10.128.77.7";
    send(&site, "boreas", &atlas).unwrap();
    assert_eq!(counted(&site, "boreas", "mesh"), 1, "through the device");
    send(&site, "boreas", "203.0.113.10").unwrap();
    assert_eq!(counted(&site, "boreas", "clear"), 1, "the count is right");
    assert_eq!(
        send(&site, "boreas", nobody),
        Err(ErrorKind::HostUnreachable),
        "no node has it"
    );

    kill_all_of(join.pid);
    site.wait_for_end(&join);
    assert!(site.succeeds("boreas", "ip link show bst0"), "it stays");
    send(&site, "boreas", &atlas).unwrap();
    assert_eq!(counted(&site, "boreas", "mesh"), 2, "and swallows it");

    site.run("boreas", "ip link delete bst0");
    for to in [&atlas, nobody] {
        assert_eq!(send(&site, "boreas", to), Err(ErrorKind::HostUnreachable));
    }
    assert_eq!(
        counted(&site, "boreas", "clear"),
        1,
        "nothing but the first"
    );
    // What takes the ranges away is `down` alone.
    assert!(site.succeeds(
        "boreas",
        "ip route show type unreachable | grep -q 100.72.0.0/16"
    ));
    site.bastide("boreas", &["down"]);
    assert_eq!(site.run("boreas", "ip route show type unreachable"), "");
    send(&site, "boreas", &atlas).unwrap();
    assert_eq!(counted(&site, "boreas", "clear"), 2, "as before Bastide");
}
