//! A node needs no control plane, not even to start.

use bastide_api::v1::PathKind;

use crate::site::{Site, bastide, can_run, kill_all_of, until};

/// One more host with a public address.
const DELOS: &str = "
  delos:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.40/24 }
";

/// How `host` reaches node `name`.
fn path(site: &Site, host: &str, name: &str) -> Option<PathKind> {
    Some(site.node(host, name)?.path?.kind)
}

#[test]
fn a_node_that_was_killed_starts_and_finds_the_others_without_a_controller() {
    if !can_run(&["ping", "ip"]) {
        return;
    }
    let mut site = Site::three_and("restart", DELOS);
    let (_ticket, up) = site.up();
    let boreas = site.join("boreas", &[]);
    site.join("cygnus", &[]);
    site.join("delos", &["--public", "203.0.113.40"]);
    let delos = site.status("delos").unwrap().node;
    // What is on disk when it is killed is what it starts from.
    until("all of the view", || {
        ["atlas", "cygnus", "delos"]
            .iter()
            .all(|name| site.pings("boreas", name))
    });

    kill_all_of(up.pid);
    kill_all_of(boreas.pid);
    assert!(!site.succeeds("delos", "ping -c1 -W1 100.72.0.2"));
    site.start("boreas", bastide(&["agent"]), "");
    until("a direct path", || site.pings("boreas", "delos"));
    until("a relayed path", || site.pings("boreas", "cygnus"));
    until("a relay that lives", || {
        path(&site, "boreas", "cygnus") == Some(PathKind::Relayed { via: delos })
    });
    assert!(site.resolves("boreas", "cygnus.node.test.internal"));
    let status = site.status("boreas").unwrap();
    assert!(!status.controller, "nobody answers it");
    assert!(!site.pings("boreas", "atlas"));

    // The control plane returns, and the node follows it again.
    site.up();
    until("the control plane", || {
        site.status("boreas")
            .is_some_and(|status| status.controller)
    });
    until("the mesh", || site.pings("boreas", "atlas"));
}
