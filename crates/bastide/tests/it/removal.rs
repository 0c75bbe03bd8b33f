//! Nodes that are removed, and machines that run with another's keys.

use std::time::{Duration, Instant};

use crate::site::{Site, Started, bastide, can_run, kill_all_of, until};

/// One more host with a public address, and one behind nothing that looks like it.
const DELOS: &str = "
  delos:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.40/24 }
  eris:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.41/24 }
";
const DELOS_AT: &str = "203.0.113.40";
/// Within what time a removed node has to be off every peer.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// Counts what a host sends to an address from now on, whatever it is.
fn count(site: &Site, host: &str, to: &str) {
    site.run(
        host,
        &format!(
            "nft delete table ip seen 2>/dev/null; nft add table ip seen && \
             nft 'add chain ip seen out {{ type filter hook output priority 0; }}' && \
             nft add rule ip seen out ip daddr {to} counter"
        ),
    );
}

/// How many packets were counted.
fn counted(site: &Site, host: &str) -> u64 {
    let rules = site.run(host, "nft list chain ip seen out");
    let words: Vec<_> = rules.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets").unwrap();
    words[at + 1].parse().unwrap()
}

fn restart(site: &mut Site, host: &str, run: &Started) -> Started {
    kill_all_of(run.pid);
    site.wait_for_end(run);
    let agent = site.start(host, bastide(&["agent"]), "");
    until("the agent", || site.status(host).is_some());
    agent
}

#[test]
fn a_removed_node_is_off_every_peer_within_five_seconds_and_stays_out() {
    if !can_run(&["ping", "nft"]) {
        return;
    }
    let mut site = Site::three_and("removal", DELOS);
    site.up();
    site.join("boreas", &[]);
    let cygnus = site.join("cygnus", &[]);
    let delos = site.join("delos", &["--public", DELOS_AT]);
    until("the mesh", || {
        let from = ["atlas", "boreas", "cygnus"];
        from.iter().all(|host| site.pings(host, "delos"))
    });
    // Started anew, a node sends to delos at once: what is counted below would be seen.
    count(&site, "cygnus", DELOS_AT);
    let cygnus = restart(&mut site, "cygnus", &cygnus);
    until("what is sent to a member", || 0 < counted(&site, "cygnus"));
    until("the mesh", || {
        site.pings("cygnus", "delos") && site.pings("cygnus", "boreas")
    });
    kill_all_of(cygnus.pid);
    site.wait_for_end(&cygnus);

    let address = site.node("atlas", "delos").unwrap().address;
    let began = Instant::now();
    site.bastide("atlas", &["node", "remove", "delos"]);
    until("its end", || {
        ["atlas", "boreas"]
            .iter()
            .all(|host| site.node(host, "delos").is_none())
    });
    let known = began.elapsed();
    for host in ["atlas", "boreas"] {
        assert!(!site.succeeds(host, &format!("ping -n -c1 -W1 {address}")));
    }
    let took = began.elapsed();
    assert!(took < REMOVED_WITHIN, "it took {took:?}");
    eprintln!("off every view after {known:?}, not reached after {took:?}");
    // Nobody sends it anything any more: what was on its way has arrived.
    for host in ["atlas", "boreas"] {
        count(&site, host, DELOS_AT);
    }
    let answers = "nft insert rule ip seen out tcp sport 7443 accept";
    site.run("atlas", answers);
    // It knows, and sends nothing either.
    until("its own word", || {
        let told = site.bastide("delos", &["status"]);
        told.contains("this node was removed from the cluster")
    });
    count(&site, "delos", "203.0.113.0/24");
    site.run("delos", "nft insert rule ip seen out tcp dport 7443 accept");
    let boreas = site.node("atlas", "boreas").unwrap().address;
    site.run("atlas", &format!("ping -n -c 20 -i 0.1 {boreas}"));
    for host in ["atlas", "boreas"] {
        assert_eq!(counted(&site, host), 0, "{host} sent something");
    }
    assert_eq!(counted(&site, "delos"), 0, "it sent something");

    // A node that was away meanwhile learns of it before it sends anything to it.
    count(&site, "cygnus", DELOS_AT);
    site.start("cygnus", bastide(&["agent"]), "");
    until("the mesh", || {
        site.pings("cygnus", "boreas") && site.pings("cygnus", "atlas")
    });
    assert!(site.node("cygnus", "delos").is_none());
    assert_eq!(counted(&site, "cygnus"), 0, "it sent something");

    // It does not come back: not as it was, and not with a new ticket and its old keys.
    let ticket = site.bastide("atlas", &["ticket"]);
    let join = |site: &Site| {
        let output = site.output("delos", bastide(&["join", "-", "--foreground"]), &ticket);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("bastide down --forget"), "{said}");
        (output.status.code(), said)
    };
    kill_all_of(delos.pid);
    site.wait_for_end(&delos);
    let (code, said) = join(&site);
    assert!(code == Some(3) && said.contains("removed"), "{said}");
    site.run("delos", "rm /var/lib/bastide/agent/membership.json");
    let (code, said) = join(&site);
    assert!(
        code == Some(3) && said.contains("keys were those of node `delos`"),
        "{said}"
    );
    let records = site.run("atlas", "cat /var/lib/bastide/server/audit.log");
    for word in ["the node was removed", "keys of a removed node"] {
        assert!(records.contains(word), "{word}");
    }
    // As a new machine it does, with the same name and the ticket that was not spent.
    site.bastide("delos", &["down", "--forget"]);
    site.join_with("delos", &ticket, &[]);
    until("the mesh", || site.pings("cygnus", "delos"));
}

#[test]
fn a_copied_disk_keeps_out_of_the_mesh_and_both_machines_are_told_of() {
    if !can_run(&["ping", "nft", "tar"]) {
        return;
    }
    let mut site = Site::three_and("removal-copy", DELOS);
    site.up();
    site.join("boreas", &[]);
    let original = site.join("delos", &["--public", DELOS_AT]);
    until("the mesh", || {
        site.pings("atlas", "delos") && site.pings("boreas", "delos")
    });
    let address = site.node("atlas", "delos").unwrap().address;
    // Its disk is copied while it runs, and the copy is started elsewhere.
    let disk = "tar -c -C /var/lib/bastide agent | base64";
    let disk = site.run("delos", disk);
    let restore = "mkdir -p /var/lib/bastide && base64 -d | tar -x -C /var/lib/bastide";
    let restored = site.output("eris", crate::site::sh(restore), &disk);
    assert!(restored.status.success(), "{restored:?}");
    count(&site, "eris", "203.0.113.0/24");
    // All that is sent to controllers goes to TCP port 7443.
    site.run("eris", "nft insert rule ip seen out tcp dport 7443 accept");
    count(&site, "boreas", "203.0.113.0/24");
    site.start("eris", bastide(&["agent"]), "");
    until("the copy's word", || {
        site.status("eris").is_some_and(|status| {
            let mut troubles = status.troubles.iter();
            troubles.any(|line| line.contains("another machine runs with this node's keys"))
        })
    });
    let checks = crate::doctor::checks(&site, "eris");
    let is_told = |check: &bastide_api::doctor::Check| {
        check.outcome == bastide_api::doctor::Outcome::Fail
            && check
                .found
                .contains("another machine runs with this node's keys")
            && check.mend.is_some()
    };
    assert!(checks.iter().any(is_told), "{checks:?}");
    // Nothing is lost while all come to know.
    let pings = site.output(
        "boreas",
        crate::site::sh(&format!("ping -n -c 100 -i 0.1 {address}")),
        "",
    );
    assert!(pings.text().contains(" 0% packet loss"), "{}", pings.text());
    until("the others' word", || {
        let told = site.bastide("boreas", &["status"]);
        told.contains("delos: two machines run with this node's keys")
            && told.contains("203.0.113.41 is kept out")
    });
    assert_eq!(
        counted(&site, "eris"),
        0,
        "the copy sent something into the mesh"
    );

    // The original may be started again meanwhile.
    restart(&mut site, "delos", &original);
    until("the mesh", || site.pings("boreas", "delos"));
    assert_eq!(
        counted(&site, "eris"),
        0,
        "the copy sent something into the mesh"
    );
    assert!(0 < counted(&site, "boreas"), "what is sent is counted");
}

/// Whether a host's engine takes itself for a member of a Swarm.
fn is_in_swarm(site: &Site, host: &str) -> bool {
    site.run(host, "docker info -f '{{.Swarm.LocalNodeState}}'")
        .trim()
        == "active"
}

#[test]
fn a_removed_node_leaves_the_swarm_whose_tokens_are_made_anew_and_one_that_comes_back_joins_again()
{
    if !can_run(&["dockerd", "docker", "iptables"]) {
        return;
    }
    let mut site = Site::three_and("removal-swarm", "");
    site.start_engines(&["atlas", "boreas"]);
    site.up();
    let joined = site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    let tokens = |site: &Site| {
        ["worker", "manager"]
            .map(|role| site.run("atlas", &format!("docker swarm join-token -q {role}")))
    };
    let members = |site: &Site| site.run("atlas", "docker node ls -q").lines().count();
    let before = tokens(&site);
    assert_eq!(members(&site), 2);

    // Its agent is away; its engine notices nothing by itself.
    kill_all_of(joined.pid);
    site.wait_for_end(&joined);
    let began = Instant::now();
    site.bastide("atlas", &["node", "remove", "boreas"]);
    until("the member's end", || members(&site) == 1);
    let took = began.elapsed();
    assert!(took < REMOVED_WITHIN, "it took {took:?}");
    eprintln!("out of the Swarm after {took:?}");
    let after = tokens(&site);
    assert!(
        before[0] != after[0] && before[1] != after[1],
        "both are new"
    );
    assert!(is_in_swarm(&site, "boreas"));
    // When its agent comes back it is told, and takes the engine out.
    let agent = site.start("boreas", bastide(&["agent"]), "");
    until("the engine's leave", || !is_in_swarm(&site, "boreas"));
    kill_all_of(agent.pid);
    site.wait_for_end(&agent);
    site.bastide("boreas", &["down", "--forget"]);
    let joined = site.join("boreas", &[]);
    site.until_swarm(&["boreas"]);

    // A node that lost its folder joins anew: its engine takes itself for a member still.
    kill_all_of(joined.pid);
    site.wait_for_end(&joined);
    site.bastide("atlas", &["node", "remove", "boreas"]);
    until("the member's end", || members(&site) == 1);
    site.run("boreas", "rm -r /var/lib/bastide/agent");
    assert!(is_in_swarm(&site, "boreas"));
    site.join("boreas", &[]);
    site.until_swarm(&["boreas"]);
    until("two members", || members(&site) == 2);
}
