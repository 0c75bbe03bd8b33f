//! `bastide doctor` finds what is broken on purpose, by its name, and says so no longer once it is mended.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use bastide_api::doctor::{Check, Outcome};
use bastide_api::ports;

use crate::site::{Site, bastide, can_run, kill_all_of, until};

/// What `bastide doctor` finds on a host.
fn checks(site: &Site, host: &str) -> Vec<Check> {
    let output = site.try_bastide(host, &["doctor", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The names of the checks that fail, and that each says what mends it.
fn failing(site: &Site, host: &str) -> BTreeSet<String> {
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
    if !can_run(&["ping", "ip", "nft"]) {
        return;
    }
    let mut site = Site::three_and("doctor", "");
    // A host that is no node yet is examined too.
    until_failing(&site, "boreas", &[]);

    let (_ticket, up) = site.up();
    site.join("boreas", &[]);
    site.join("cygnus", &[]);
    until("the mesh", || {
        site.pings("boreas", "atlas") && site.pings("boreas", "cygnus")
    });
    until_failing(&site, "boreas", &[]);
    until_failing(&site, "atlas", &[]);
    assert!(failing(&site, "boreas").contains("engine"), "none runs");

    site.run("boreas", "sysctl -qw net.ipv4.conf.bst0.forwarding=0");
    until_failing(&site, "boreas", &["forwarding"]);
    site.run("boreas", "sysctl -qw net.ipv4.conf.bst0.forwarding=1");
    until_failing(&site, "boreas", &[]);

    site.run("boreas", "ip link set bst0 mtu 1300");
    until_failing(&site, "boreas", &["mtu"]);
    site.run("boreas", "ip link set bst0 mtu 1420");
    until_failing(&site, "boreas", &[]);

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
    until_failing(
        &site,
        "atlas",
        &[
            "TCP 5443",
            "TCP 7443",
            "TCP 8200",
            "UDP 51820",
            "agent",
            "device",
            "resolver",
            silent,
        ],
    );

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
    site.down();
}
