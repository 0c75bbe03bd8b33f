//! Machines that join, and those that do not: each hears why, and so does the operator.

use bastide_api::{CaPin, Secret, Ticket};
use serde_json::Value;

use crate::site::{Site, Started, bastide, can_run, until};

/// Two hosts behind one router, which has one address.
const ONE_NAT: &str = "
  port-router:
    kind: router
    nat: port-restricted
    wan: wan
    interfaces:
      wan: { link: internet, address: 203.0.113.50/24 }
      lan: { link: port, address: 192.168.7.1/24 }
  port:
    kind: switch
  delos:
    kind: host
    interfaces:
      eth0: { link: port, address: 192.168.7.10/24 }
    routes:
      default: 192.168.7.1
  eris:
    kind: host
    interfaces:
      eth0: { link: port, address: 192.168.7.11/24 }
    routes:
      default: 192.168.7.1
";

/// Tries to join; returns the exit code and what was said.
fn refused(site: &Site, host: &str, ticket: &str, options: &[&str]) -> (i32, String) {
    let words = [&["join", "-", "--foreground"], options].concat();
    let output = site.output(host, bastide(&words), ticket);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

/// What `bastide node show` knows of a node.
fn shown(site: &Site, name: &str) -> Value {
    let text = site.bastide("atlas", &["node", "show", name, "--json"]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn two_machines_behind_one_router_join_with_one_ticket_and_stay_two() {
    if !can_run(&["ping"]) {
        return;
    }
    let mut site = Site::three_and("join-nat", ONE_NAT);
    site.up();
    let ticket = site.bastide(
        "atlas",
        &["ticket", "--uses", "2", "--for", "10m", "--tag", "edge"],
    );
    for host in ["delos", "eris"] {
        site.join_with(host, &ticket, &[]);
    }
    until("the mesh", || {
        let pairs = [
            ("atlas", "delos"),
            ("eris", "atlas"),
            ("delos", "eris"),
            ("eris", "delos"),
        ];
        pairs.iter().all(|(from, to)| site.pings(from, to))
    });
    let (delos, eris) = (shown(&site, "delos"), shown(&site, "eris"));
    for distinct in ["id", "address", "containers", "wireguard"] {
        assert_ne!(delos[distinct], eris[distinct]);
    }
    assert_eq!(
        (&delos["tags"], &delos["ticket"]),
        (&eris["tags"], &eris["ticket"])
    );
    assert_eq!(delos["tags"], serde_json::json!(["edge"]));

    // A third is one too many, and that is told to it, to the operator and to the log.
    let (code, said) = refused(&site, "boreas", &ticket, &[]);
    assert!(
        code == 3 && said.contains("spent") && said.contains("`bastide ticket`"),
        "{said}"
    );
    let told = site.bastide("atlas", &["status"]);
    assert!(
        told.contains("could not join as `boreas`: the ticket is spent"),
        "{told}"
    );
    assert!(
        told.contains("203.0.113.20"),
        "its router's address: {told}"
    );
    // Another ticket is no help to who wants another's name.
    let ticket = site.bastide("atlas", &["ticket"]);
    let (code, said) = refused(&site, "boreas", &ticket, &["--name", "eris"]);
    assert!(
        code == 3 && said.contains("`eris` is taken") && said.contains("--name"),
        "{said}"
    );
    site.join_with("boreas", &ticket, &[]);

    // A node gets another name: all know it by that from then on.
    site.bastide("atlas", &["node", "rename", "eris", "ferro"]);
    until("its new name", || {
        ["delos", "boreas", "eris"].iter().all(|host| {
            site.resolves(host, "ferro.node.test.internal")
                && !site.resolves(host, "eris.node.test.internal")
        })
    });
    until("its path", || site.pings("boreas", "ferro"));
    assert_eq!(shown(&site, "ferro")["id"], eris["id"]);
    // One that leaves for good gives its name up.
    site.bastide("eris", &["down", "--forget"]);
    until("its end", || site.node("delos", "ferro").is_none());
}

#[test]
fn a_ticket_that_is_no_good_is_refused_in_words_that_mend_it_and_each_time_recorded() {
    if !can_run(&[]) {
        return;
    }
    let mut site = Site::three_and("join-no", "");
    let (good, _) = site.up();
    let parsed = |text: &str| text.trim().parse::<Ticket>().unwrap();
    let forged = Ticket {
        secret: Secret::new([7; 32]),
        ..parsed(&good)
    };
    let other_cluster = Ticket {
        pin: CaPin([7; 32]),
        ..parsed(&good)
    };
    let revoked = site.bastide("atlas", &["ticket", "--tag", "spare"]);
    site.bastide(
        "atlas",
        &["ticket", "revoke", &parsed(&revoked).id.to_string()],
    );
    let brief = site.bastide("atlas", &["ticket", "--for", "1s"]);
    until("the ticket's end", || {
        let listed = site.bastide("atlas", &["ticket", "list", "--json"]);
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let brief = parsed(&brief).id.to_string();
        listed
            .iter()
            .any(|one| one["id"] == brief.as_str() && one["state"] == "ended")
    });
    let truncated = &good[..good.trim().len() - 9];
    for (what, ticket, code, words) in [
        ("truncated", truncated, 2, "incomplete or mistyped"),
        ("no ticket", "hello", 2, "begins with `bst1-`"),
        ("forged", forged.reveal().expose(), 3, "not valid"),
        (
            "of another cluster",
            other_cluster.reveal().expose(),
            3,
            "nothing was sent",
        ),
        ("revoked", &revoked, 3, "was revoked at"),
        ("ended", &brief, 3, "the ticket ended at"),
    ] {
        let (found, said) = refused(&site, "boreas", ticket, &[]);
        assert_eq!(found, code, "{what}: {said}");
        assert!(
            said.contains(words) && said.contains("`bastide ticket`"),
            "{what}: {said}"
        );
        assert!(!said.contains(ticket), "no part of it is shown");
    }
    let records = site.run("atlas", "cat /var/lib/bastide/server/audit.log");
    for word in [
        "no such ticket, or not its secret",
        "the ticket was revoked",
        "the ticket ended",
    ] {
        assert!(records.contains(word), "{word}");
    }
    // The one that none of this touched is good, and joining twice does no harm.
    let join = site.join_with("boreas", &good, &[]);
    let (code, said) = refused(&site, "boreas", &good, &[]);
    assert!(code == 6 && said.contains("bastide status"), "{said}");
    crate::site::kill_all_of(join.pid);
    site.wait_for_end(&join);
    let again = site.join_with("boreas", &good, &[]);
    let said = std::fs::read_to_string(&again.log).unwrap();
    assert!(
        said.contains("`boreas` already: the ticket is not spent"),
        "{said}"
    );
}

/// `bastide join -` on a host, which goes on until an operator has decided.
fn ask(site: &mut Site, host: &str, ticket: &str) -> Started {
    site.start(
        host,
        bastide(&["join", "-", "--foreground", "--site", host]),
        ticket,
    )
}

#[test]
fn a_machine_whose_ticket_asks_for_it_waits_for_an_operator_in_the_sight_of_all() {
    if !can_run(&[]) {
        return;
    }
    let mut site = Site::three_and("join-wait", "");
    site.up();
    let ticket = site.bastide(
        "atlas",
        &["ticket", "--approve", "--uses", "2", "--tag", "guest"],
    );
    let waits = |site: &Site, name: &str| {
        let status = site.status("atlas").unwrap();
        status.joins.iter().any(|join| join.name.as_str() == name)
    };
    ask(&mut site, "boreas", &ticket);
    until("who waits", || waits(&site, "boreas"));
    assert!(site.node("atlas", "boreas").is_none() && site.status("boreas").is_none());
    let told = site.bastide("atlas", &["status"]);
    assert!(told.contains("bastide node admit boreas"), "{told}");
    site.bastide("atlas", &["node", "admit", "boreas"]);
    until("the new node", || site.status("boreas").is_some());
    assert_eq!(shown(&site, "boreas")["tags"], serde_json::json!(["guest"]));
    assert!(!waits(&site, "boreas"));

    let asked = ask(&mut site, "cygnus", &ticket);
    // Whoever is a node sees it, too.
    until("who waits", || {
        let status = site.status("boreas").unwrap();
        status
            .joins
            .iter()
            .any(|join| join.name.as_str() == "cygnus")
    });
    site.bastide("atlas", &["node", "refuse", "cygnus"]);
    site.wait_for_end(&asked);
    let said = std::fs::read_to_string(&asked.log).unwrap();
    assert!(said.contains("an operator refused this machine"), "{said}");
    assert!(site.status("cygnus").is_none() && !waits(&site, "cygnus"));
    let (code, said) = refused(&site, "cygnus", &ticket, &[]);
    assert!(
        code == 3 && said.contains("refused"),
        "its ticket's use is spent: {said}"
    );
}
