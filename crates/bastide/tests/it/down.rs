//! `bastide down`: a host afterwards is the host before.

use std::time::Instant;

use rustix::process::Signal;

use crate::site::{SOON, Site, bastide, can_run, kill_all_of, signal, until};

/// What of a host a node changes, each as a script that prints it.
const LOOKS: [(&str, &str); 14] = [
    (
        "links",
        "ip -o link | sed 's/^[0-9]*: //; s/ master / /' | sort",
    ),
    ("addresses", "ip -o address | sed 's/^[0-9]*: //' | sort"),
    ("routes", "ip route show table all; ip rule"),
    (
        "kernel settings",
        // What counts, measures or is random is no setting; some cannot be read.
        "cd /proc/sys/net; find . -type f -perm -0200 ! -path './*/neigh/*' ! -name flush \
         ! -name '*_secret' ! -name '*random*' ! -name '*_key' | sort | xargs -r grep -Hs '' || true",
    ),
    ("nftables", "nft -s list ruleset"),
    ("iptables", "iptables -S; iptables -t nat -S"),
    (
        "engine's networks",
        // A host without an engine has none.
        "docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' 2>&1 | sort",
    ),
    (
        "engine's containers and volumes",
        "docker ps -aq; docker volume ls -q || true",
    ),
    (
        "Swarm",
        "docker info --format '{{.Swarm.LocalNodeState}}' || true",
    ),
    (
        "listening sockets",
        "awk '$4 == \"0A\" { print $2 }' /proc/net/tcp /proc/net/tcp6 | sort",
    ),
    (
        "files of /run",
        "find /run ! -path '/run/docker*' ! -path '/run/containerd*' | sort",
    ),
    (
        "units and settings",
        // `down` without `--forget` keeps the first; the server's user stays.
        "find /etc ! -path '/etc/bastide*' ! -path '/etc/*-' | sort",
    ),
    (
        "processes",
        // Those that look are there for a moment.
        "cat /proc/[0-9]*/comm 2>/dev/null | grep -v -x -e sh -e cat -e grep -e sort | sort",
    ),
    ("mounts", "cut -d' ' -f5 /proc/self/mountinfo | sort"),
];

pub fn look(site: &Site, host: &str) -> Vec<(&'static str, String)> {
    const BETWEEN: &str = "---- and ----";
    let scripts = LOOKS.map(|(_, script)| script);
    let told = site.run(host, &scripts.join(&format!("\necho '{BETWEEN}'\n")));
    let between = format!("{BETWEEN}\n");
    let told = told.split(&between).map(str::to_owned);
    let looks: Vec<_> = LOOKS.iter().map(|(what, _)| *what).zip(told).collect();
    assert_eq!(looks.len(), LOOKS.len());
    looks
}

/// Tells in which ways a host differs from what it was, a line each, `-` before and `+` now.
pub fn changes(site: &Site, host: &str, before: &[(&'static str, String)]) -> Vec<String> {
    let mut changes = Vec::new();
    for ((what, before), (_, now)) in before.iter().zip(look(site, host)) {
        let only_in = |one: &str, other: &str, sign: &str| {
            one.lines()
                .filter(|line| !other.lines().any(|known| known == *line))
                .map(|line| format!("{host}: {what}: {sign} {line}"))
                .collect::<Vec<_>>()
        };
        changes.extend(only_in(before, &now, "-"));
        changes.extend(only_in(&now, before, "+"));
    }
    changes
}

/// An engine that has left a Swarm closes its sockets a moment later.
pub fn expect_put_back(site: &Site, host: &str, before: &[(&'static str, String)]) {
    let began = Instant::now();
    loop {
        let changed = changes(site, host, before);
        if changed.is_empty() {
            return;
        }
        assert!(began.elapsed() < SOON, "not put back: {changed:#?}");
    }
}

#[test]
fn down_puts_a_host_back_and_it_can_return() {
    if !can_run(&["dockerd", "docker", "iptables", "ip", "ping"]) {
        return;
    }
    let mut site = Site::three_and("down", "");
    let hosts = ["atlas", "boreas"];
    site.start_engines(&hosts);
    let before = hosts.map(|host| look(&site, host));
    let (_ticket, up) = site.up();
    let join = site.join("boreas", &[]);
    site.until_swarm(&hosts);
    until("the mesh", || site.pings("boreas", "atlas"));
    for (host, before) in hosts.iter().zip(&before) {
        let changed = changes(&site, host, before);
        let is_told = |what| changed.iter().any(|line| line.contains(what));
        assert!(
            ["bst0", "nftables", "Swarm", "settings"]
                .into_iter()
                .all(is_told),
            "the looks see what a node changes: {changed:#?}"
        );
    }

    site.bastide("boreas", &["down"]);
    site.wait_for_end(&join);
    expect_put_back(&site, "boreas", &before[1]);

    // It kept its keys, and needs no ticket.
    site.start("boreas", bastide(&["agent"]), "");
    until("the mesh", || site.pings("boreas", "atlas"));
    site.until_swarm(&["boreas"]);
    site.bastide("boreas", &["down", "--forget"]);
    until("the agent's end", || site.status("boreas").is_none());
    expect_put_back(&site, "boreas", &before[1]);
    let kept = site.run(
        "boreas",
        "ls -d /etc/bastide /var/lib/bastide 2>/dev/null || true",
    );
    assert_eq!(kept, "", "nothing is kept");
    // It told the cluster, and its name is free.
    until("the node's end", || site.node("atlas", "boreas").is_none());
    site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    site.bastide("boreas", &["down"]);

    site.bastide("atlas", &["down"]);
    site.wait_for_end(&up);
    expect_put_back(&site, "atlas", &before[0]);
    let (_ticket, up) = site.up();
    site.until_swarm(&["atlas"]);
    let refused = site.try_bastide("atlas", &["down", "--forget"]);
    assert_eq!(
        refused.status.code(),
        Some(6),
        "others need this control plane"
    );
    for node in site.status("atlas").unwrap().nodes {
        if node.id != site.status("atlas").unwrap().node {
            site.bastide("atlas", &["node", "rm", &node.id.to_string()]);
        }
    }
    until("one node", || {
        site.status("atlas").unwrap().nodes.len() == 1
    });
    site.bastide("atlas", &["down", "--forget"]);
    site.wait_for_end(&up);
    expect_put_back(&site, "atlas", &before[0]);
    let kept = site.run(
        "atlas",
        "ls -d /etc/bastide /var/lib/bastide 2>/dev/null || true",
    );
    assert_eq!(kept, "", "nothing is kept");
}

#[test]
fn what_a_killed_agent_changed_is_undone_all_the_same() {
    if !can_run(&["dockerd", "docker", "iptables", "ip"]) {
        return;
    }
    let mut site = Site::three_and("down-killed", "");
    site.start_engines(&["atlas", "boreas"]);
    let before = look(&site, "boreas");
    site.up();
    let join = site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    kill_all_of(join.pid);
    site.wait_for_end(&join);
    let left = changes(&site, "boreas", &before);
    let is_left = |what| left.iter().any(|line| line.contains(what));
    assert!(
        ["nftables", "Swarm", "settings", "agent.sock"]
            .into_iter()
            .all(is_left),
        "{left:#?}"
    );
    // There is no agent to do it, and the engine goes on.
    let told = site.try_bastide("boreas", &["down"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{said}");
    assert!(said.contains("undone: mesh device bst0"), "{said}");
    expect_put_back(&site, "boreas", &before);
    let again = site.try_bastide("boreas", &["down"]);
    assert!(again.status.success(), "once more does no harm");

    // One that hangs answers nobody, and is no obstacle.
    let agent = site.start("boreas", bastide(&["agent"]), "");
    site.until_swarm(&["boreas"]);
    // An engine (20.10) that is told to leave before it listens for gossip begins to when it has left,
    // and does until it is restarted.
    until("the engine's gossip", || {
        site.succeeds("boreas", "grep -q ':1F0A .* 0A ' /proc/net/tcp")
    });
    signal(agent.pid, Signal::STOP);
    let told = site.try_bastide("boreas", &["down"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{said}");
    assert!(said.contains("was killed"), "{said}");
    site.wait_for_end(&agent);
    expect_put_back(&site, "boreas", &before);
}
