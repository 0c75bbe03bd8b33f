//! A control plane that is sealed by shares, from its first start on.

use std::path::PathBuf;
use std::time::Instant;

use bastide_lab::run::Output;
use serde_json::Value;

use crate::site::{ATLAS, SOON, Site, Started, bastide, can_run, kill_all_of, until};

const BEGIN: &str = "/var/lib/bastide/server/begin";
const STORE: &str = "/var/lib/bastide/server/store.redb";

const INIT: &[&str] = &[
    "init",
    "--cluster",
    "test",
    "--public",
    ATLAS,
    "--site",
    "cloud",
    "--shares",
    "3",
    "--threshold",
    "2",
    "--json",
];

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A first start that is killed half way, as soon as there is something on the disk. Tells whether it
/// was in time.
fn killed_init(site: &mut Site) -> bool {
    let init = site.start("atlas", bastide(INIT), "");
    let root = PathBuf::from(format!("/proc/{}/root", init.pid));
    let is_there = |path: &str| root.join(path.trim_start_matches('/')).exists();
    let began = Instant::now();
    while !is_there(&format!("{BEGIN}/store.redb")) && began.elapsed() < SOON {
        std::hint::spin_loop();
    }
    let in_time = !is_there(STORE);
    kill_all_of(init.pid);
    site.wait_for_end(&init);
    in_time && !site.succeeds("atlas", &format!("test -e {STORE}"))
}

/// `bastide init`; returns the shares.
fn init(site: &mut Site) -> Vec<String> {
    let output = site.try_bastide("atlas", INIT);
    assert!(output.status.success(), "{}", told(&output));
    let words = told(&output);
    assert!(words.contains("Any 2 of the 3 shares"), "{words}");
    assert!(
        words.contains("24 hours") && words.contains("12 hours"),
        "{words}"
    );
    let made: Value = serde_json::from_str(&output.text()).unwrap();
    let shares = made["shares"].as_array().unwrap().iter();
    shares.map(|it| it.as_str().unwrap().to_owned()).collect()
}

fn up(site: &mut Site) -> Started {
    site.start("atlas", bastide(&["up", "--foreground"]), "")
}

fn is_sealed(site: &Site) -> Option<bool> {
    let ask = "curl -s --unix-socket /var/lib/bastide/server/server.sock \
               http://x/v1/sys/seal-status";
    let status: Value =
        serde_json::from_str(&site.output("atlas", crate::site::sh(ask), "").text()).ok()?;
    status["sealed"].as_bool()
}

fn unseal(site: &Site, shares: &[String]) -> Output {
    site.output("atlas", bastide(&["unseal"]), &(shares.join("\n") + "\n"))
}

#[test]
fn a_sealed_control_plane_waits_for_shares_and_the_mesh_does_not() {
    if !can_run(&["ping", "ip", "curl"]) {
        return;
    }
    let mut site = Site::three_and("sealed", "");
    // What was cut off has begun nothing; one that was faster than the kill does not count.
    let cut_off = (0..20).any(|_| {
        let cut_off = killed_init(&mut site);
        if !cut_off {
            site.run("atlas", "rm -r /var/lib/bastide/server");
        }
        cut_off
    });
    assert!(cut_off, "no first start could be cut off");
    assert!(site.succeeds("atlas", &format!("test -e {BEGIN}")));
    let shares = init(&mut site);
    assert_eq!(shares.len(), 3);
    assert!(site.succeeds("atlas", &format!("test -e {STORE} && ! test -e {BEGIN}")));
    let again = site.try_bastide("atlas", INIT);
    assert_eq!(again.status.code(), Some(6), "{}", told(&again));

    // It starts sealed, and waits; a share that is wrong is refused, and all with it.
    let started = up(&mut site);
    until("a sealed server", || is_sealed(&site) == Some(true));
    let mut wrong = shares[1].clone();
    wrong.replace_range(
        0..4,
        if wrong.starts_with("AAAA") {
            "BBBB"
        } else {
            "AAAA"
        },
    );
    let refused = unseal(&site, &[shares[0].clone(), wrong]);
    assert_eq!(refused.status.code(), Some(3), "{}", told(&refused));
    assert!(
        told(&refused).contains("1 of 2 shares are given"),
        "{}",
        told(&refused)
    );
    assert!(
        told(&refused).contains("do not open this store"),
        "{}",
        told(&refused)
    );
    let first = unseal(&site, &shares[..1]);
    assert!(first.status.success() && is_sealed(&site) == Some(true));
    let second = unseal(&site, &shares[2..]);
    assert!(
        told(&second).contains("the control plane is open"),
        "{}",
        told(&second)
    );
    let ticket = started.line("a ticket");
    let boreas = site.join_with("boreas", &ticket, &[]);
    until("the mesh", || site.pings("boreas", "atlas"));

    // Sealed while all run: nodes go on, and whoever asks for more is told why not.
    let sealed = site.try_bastide("atlas", &["seal"]);
    assert!(sealed.status.success(), "{}", told(&sealed));
    let ticket = site.try_bastide("atlas", &["ticket"]);
    assert_eq!(ticket.status.code(), Some(4), "{}", told(&ticket));
    assert!(told(&ticket).contains("sealed"), "{}", told(&ticket));
    until("that boreas knows", || {
        site.status("boreas")
            .is_some_and(|status| !status.controller)
    });
    assert!(site.pings("boreas", "atlas"));
    let found = crate::doctor::checks(&site, "boreas");
    assert!(
        found
            .iter()
            .any(|check| check.name.starts_with("controller") && check.found.contains("sealed")),
        "{found:?}"
    );
    // A node that is started meanwhile comes back from what it has on disk.
    kill_all_of(boreas.pid);
    site.start("boreas", bastide(&["agent"]), "");
    until("the mesh without a control plane", || {
        site.pings("boreas", "atlas")
    });

    // The controller's host too, and it says so itself.
    kill_all_of(started.pid);
    site.wait_for_end(&started);
    let started = up(&mut site);
    until("a sealed server", || is_sealed(&site) == Some(true));
    until("the mesh of a sealed controller", || {
        site.pings("boreas", "atlas")
    });
    let log = std::fs::read_to_string(&started.log).unwrap();
    assert!(log.contains("2 of 3 shares open it"), "{log}");
    let status = site.bastide("boreas", &["status"]);
    assert!(
        status.contains("sealed") && !status.contains("--forget"),
        "{status}"
    );
    let open = unseal(&site, &shares[1..]);
    assert!(
        told(&open).contains("the control plane is open"),
        "{}",
        told(&open)
    );
    until("the control plane", || {
        site.status("boreas")
            .is_some_and(|status| status.controller)
    });
    site.join("cygnus", &[]);
    until("the new node", || site.pings("cygnus", "atlas"));
}
