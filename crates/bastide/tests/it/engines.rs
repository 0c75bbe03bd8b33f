//! A host's container engine: what was there before stays, what is wrong is said.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::containers::{Container, idle};
use crate::doctor;
use crate::site::{ATLAS, Site, can_run, until};

/// A host on the internet that belongs to nobody here.
const STRANGER: &str = "
  stranger:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.66/24 }
";
/// How long a connection may take on one machine.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Whether a stranger reaches the port that atlas publishes for its own container.
fn is_served(site: &Site) -> bool {
    let to = SocketAddr::new(ATLAS.parse().unwrap(), 8080);
    site.lab()
        .within("stranger", || {
            TcpStream::connect_timeout(&to, ANSWER_WITHIN).is_ok()
        })
        .unwrap()
}

fn serve(container: &Container) -> TcpListener {
    container.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap())
}

fn is_told(site: &Site, what: &str) -> bool {
    let status = site.status("atlas").unwrap();
    status.troubles.iter().any(|line| line.contains(what))
}

/// `bastide up` is refused as a conflict, in words that hold these, and leaves the host as it was.
fn expect_refused(site: &Site, words: &[&str]) {
    let up = ["up", "--foreground", "--cluster", "test", "--public", ATLAS];
    let refused = site.try_bastide("atlas", &up);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(6), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!site.succeeds("atlas", "ls /etc/bastide /var/lib/bastide"));
    assert!(!site.succeeds("atlas", "ip link show bst0"));
}

#[test]
fn an_engine_with_work_of_its_own_keeps_it_and_what_is_wrong_with_it_is_said() {
    if !can_run(&["dockerd", "docker", "iptables", "ip"]) || idle().is_none() {
        return;
    }
    let mut site = Site::three_and("engines", STRANGER);
    let engine = site.start_engines(&["atlas"]).remove(0);
    site.run("atlas", "docker network create --subnet 172.30.0.0/16 own");
    let mut own = Container::own(&site, "atlas", "--network own -p 8080:80");
    assert!(!is_served(&site), "nobody listens yet");
    let listener = serve(&own);
    until("the container's own port", || is_served(&site));

    let init = format!("docker swarm init --advertise-addr {ATLAS}");
    site.run("atlas", &init);
    expect_refused(&site, &["another Swarm", "docker swarm leave --force"]);
    site.run("atlas", "docker swarm leave --force");
    let theirs = "docker network create --subnet 10.130.0.0/16 theirs";
    site.run("atlas", theirs);
    let mend = "docker network rm theirs";
    expect_refused(&site, &["network `theirs`", "--containers", mend]);
    site.run("atlas", mend);
    let routes = [
        ("10.144.7.0/24", "--swarm-pool"),
        ("10.145.0.0/25", "--swarm-gateway"),
        ("100.72.9.0/24", "--mesh"),
    ];
    for (range, option) in routes {
        site.run("atlas", &format!("ip route add {range} dev eth0"));
        let mend = format!("ip route del {range} dev eth0");
        expect_refused(&site, &[range, option, &mend]);
        site.run("atlas", &mend);
    }

    site.up();
    site.until_swarm(&["atlas"]);
    assert!(is_served(&site), "our rules leave others alone");

    // What collides later is told, and told no more once it is gone.
    site.run("atlas", theirs);
    until("a word about it", || is_told(&site, "network `theirs`"));
    site.run("atlas", mend);
    until("no word about it", || !is_told(&site, "network `theirs`"));

    // A hung engine: everything else goes on.
    signal(engine.pid, Signal::STOP);
    let hung = Instant::now();
    until("a word about it", || {
        is_told(&site, "does not answer since")
    });
    eprintln_elapsed("a hung engine is told", hung);
    let failing = doctor::failing(&site, "atlas");
    assert!(failing.contains("engine"), "{failing:?}");
    assert!(site.resolves("atlas", "atlas.node.test.internal"));
    assert!(is_served(&site));
    signal(engine.pid, Signal::CONT);
    until("its return", || !is_told(&site, "does not answer"));

    // A restart, with its chains made anew.
    drop(listener);
    signal(engine.pid, Signal::TERM);
    site.wait_for_end(&engine);
    let jump = "iptables -C DOCKER-USER -j BASTIDE";
    site.run("atlas", "iptables -F DOCKER-USER");
    assert!(!site.succeeds("atlas", jump));
    let restarted = Instant::now();
    site.start_engines(&["atlas"]);
    until("the way through its rules", || site.succeeds("atlas", jump));
    site.until_swarm(&["atlas"]);
    eprintln_elapsed("an engine that was restarted is a member again", restarted);
    own.again(&site, "atlas");
    let _listener = serve(&own);
    until("the container's own port", || is_served(&site));

    site.bastide("atlas", &["down"]);
    assert!(is_served(&site), "what is undone is ours alone");
}

#[expect(clippy::print_stderr, reason = "measured times are told")]
fn eprintln_elapsed(what: &str, since: Instant) {
    eprintln!("{what} after {:?}", since.elapsed());
}
