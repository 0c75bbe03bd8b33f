//! `bastide doctor` finds what is broken on purpose, by its name, and says so no longer once it is mended.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use bastide_api::doctor::{Check, Outcome};
use bastide_api::ports;
use bastide_linux::spawn::Command;

use crate::site::{Site, bastide, can_run, kill_all_of, until};

/// What `bastide doctor` finds on a host.
pub fn checks(site: &Site, host: &str) -> Vec<Check> {
    checks_by(site, host, bastide(&["doctor", "--json"]))
}

/// The same, of a command that may see other clocks.
pub fn checks_by(site: &Site, host: &str, command: Command) -> Vec<Check> {
    let output = site.output(host, command, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The names of the checks that fail, and that each says what mends it.
pub fn failing(site: &Site, host: &str) -> BTreeSet<String> {
    let checks = checks(site, host);
    let failed = checks
        .into_iter()
        .filter(|check| check.outcome == Outcome::Fail);
    failed
        .map(|check| {
            assert!(check.mend.is_some(), "{check:?} says what mends it");
            check.name
        })
        .collect()
}

/// Waits until exactly these checks fail on a host, beside those of the engine, which does not run.
fn until_failing(site: &Site, host: &str, wanted: &[&str]) {
    let engine = ["engine", "status"];
    let wanted: BTreeSet<_> = wanted.iter().copied().map(str::to_owned).collect();
    let mut last = BTreeSet::new();
    let mut look = || {
        last = failing(site, host);
        last.retain(|name| !engine.contains(&name.as_str()));
        last == wanted
    };
    let began = std::time::Instant::now();
    while !look() {
        assert!(
            began.elapsed() < crate::site::SOON,
            "on {host} {last:?} fail, and not {wanted:?}"
        );
    }
}

#[test]
fn the_doctor_finds_each_fault_and_only_that() {
    if !can_run(&["ping", "ip", "nft", "sysctl"]) {
        return;
    }
    let mut site = Site::three_and("doctor", "");
    // A host that is no node yet is examined too.
    until_failing(&site, "boreas", &[]);

    let (_ticket, up) = site.up();
    site.join("boreas", &[]);
    site.run(
        "cygnus",
        "mkdir -p /var/lib/bastide && mount -t tmpfs -o size=1g tmpfs /var/lib/bastide",
    );
    site.join("cygnus", &[]);
    until("the mesh", || {
        site.pings("boreas", "atlas") && site.pings("boreas", "cygnus")
    });
    until_failing(&site, "boreas", &[]);
    until_failing(&site, "atlas", &[]);
    assert!(failing(&site, "boreas").contains("engine"), "none runs");

    // A disk with little room, and one with none.
    let resize = |size: &str| {
        let remount = format!("mount -o remount,size={size} /var/lib/bastide");
        site.run("cygnus", &remount);
    };
    resize("8m");
    until_failing(&site, "cygnus", &["disk"]);
    let fill = "dd if=/dev/zero of=/var/lib/bastide/filler bs=4k 2>/dev/null";
    assert!(!site.succeeds("cygnus", fill), "it is full");
    let is_full =
        |check: &Check| check.name == "disk" && check.found.contains("nothing can be written");
    assert!(checks(&site, "cygnus").iter().any(is_full));
    site.run("cygnus", "rm /var/lib/bastide/filler");
    resize("1g");
    until_failing(&site, "cygnus", &[]);

    // A peer whose answers are dropped on its way back has a path, and yet nothing comes.
    site.run(
        "boreas",
        "nft 'add table inet fault; add chain inet fault in \
        { type filter hook input priority -500; }; add rule inet fault in \
        iifname bst0 ip saddr 100.72.0.1 tcp sport 5443 drop'",
    );
    until_failing(&site, "boreas", &["peer atlas"]);
    site.run("boreas", "nft delete table inet fault");
    until_failing(&site, "boreas", &[]);

    // The control plane is gone, and with it the relay to cygnus: every node says so.
    kill_all_of(up.pid);
    let silent = "controller 203.0.113.10:7443";
    until_failing(&site, "boreas", &[silent, "peer atlas", "peer cygnus"]);
    let dead = [
        "TCP 5443",
        "TCP 7443",
        "TCP 8200",
        "UDP 51820",
        "agent",
        "resolver",
        silent,
    ];
    until_failing(&site, "atlas", &dead);

    // Nobody puts anything back there now.
    for (breaks, mends, names) in [
        (
            "sysctl -qw net.ipv4.conf.bst0.forwarding=0",
            "sysctl -qw net.ipv4.conf.bst0.forwarding=1",
            &["forwarding"][..],
        ),
        (
            "ip link set bst0 mtu 1300",
            "ip link set bst0 mtu 1420",
            &["mtu"],
        ),
        (
            "ip address del 100.72.0.53/32 dev bst0",
            "ip address add 100.72.0.53/32 dev bst0",
            &["addresses"],
        ),
        (
            "nft delete table bridge bastide",
            "nft add table bridge bastide",
            &["packet filter"],
        ),
        (
            "ip link set bst0 down",
            "ip link set bst0 up",
            &["device", "routes"],
        ),
    ] {
        site.run("atlas", breaks);
        until_failing(&site, "atlas", &[&dead[..], names].concat());
        site.run("atlas", mends);
    }

    // Somebody else has taken the mesh's port meanwhile.
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ports::MESH)).unwrap();
    let thief = site.lab().within("atlas", bind).unwrap();
    let is_taken = |check: &Check| check.name == "UDP 51820" && check.found.contains("held by");
    assert!(checks(&site, "atlas").iter().any(is_taken));
    drop(thief);
    assert!(!checks(&site, "atlas").iter().any(is_taken));

    site.start("atlas", bastide(&["server"]), "");
    until_failing(&site, "boreas", &["peer atlas", "peer cygnus"]);
    site.start("atlas", bastide(&["agent"]), "");
    until_failing(&site, "atlas", &[]);
    until_failing(&site, "boreas", &[]);
    assert!(site.succeeds("atlas", "nft list table bridge bastide | grep -q chain"));
    site.down();
}

#[test]
fn the_agent_puts_back_what_others_changed() {
    if !can_run(&["ping", "ip", "nft", "sysctl"]) {
        return;
    }
    let mut site = Site::three_and("upkeep", "");
    site.up();
    site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    for (breaks, is_whole) in [
        (
            "ip link set bst0 down",
            "ip route show dev bst0 | grep -q 100.72.0.0/16 && ping -c1 -W1 100.72.0.1",
        ),
        (
            "ip route del 100.72.0.0/16 dev bst0",
            "ping -c1 -W1 100.72.0.1",
        ),
        (
            "ip address flush dev bst0",
            "ip address show dev bst0 | grep -q 100.72.0.53/32 && ping -c1 -W1 100.72.0.1",
        ),
        (
            "ip link set bst0 mtu 1300",
            "test \"$(cat /sys/class/net/bst0/mtu)\" = 1420",
        ),
        (
            "nft delete table inet bastide",
            "nft list table inet bastide | grep -q chain",
        ),
        (
            "sysctl -qw net.ipv4.conf.bst0.forwarding=0",
            "test \"$(sysctl -n net.ipv4.conf.bst0.forwarding)\" = 1",
        ),
    ] {
        assert!(site.succeeds("boreas", is_whole), "before `{breaks}`");
        site.run("boreas", &format!("{breaks}; ! ({is_whole})"));
        until("it to be put back", || site.succeeds("boreas", is_whole));
    }
    site.down();
}
