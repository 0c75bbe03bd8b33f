//! Hosts whose clocks are wrong, and clocks that jump.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bastide_api::doctor::Outcome;
use bastide_linux::clock;

use crate::doctor::checks_by;
use crate::site::{BASTIDE, Folder, Site, can_run, kill_all_of, until};
use crate::timing::{HOUR_MS, TestClock, YEAR_MS, can_set_clocks};

/// What a development server says the time is, in seconds since 1970.
fn time_of_a_server(clock: &TestClock) -> u64 {
    let mut server = Command::new(BASTIDE)
        .args(["server", "--dev", "--listen", "127.0.0.1:0"])
        .env(TestClock::VARIABLE, clock.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("VAULT_ADDR='http://")?;
        Some(rest.trim_end_matches('\'').to_owned())
    });
    let mut stream = TcpStream::connect(address.unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let question = "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["server_time_utc"].as_u64().unwrap()
}

/// The other half of this test is a build without the feature, which nothing in the gate makes twice:
/// `cargo test -p bastide --test it variable`.
#[test]
fn the_variable_that_sets_the_clock_is_obeyed_only_by_programs_built_for_tests() {
    let folder = Folder::new();
    let clock = TestClock::new(&folder);
    clock.set_wall(HOUR_MS);
    let ahead = time_of_a_server(&clock).saturating_sub(clock::wall().as_secs());
    if cfg!(feature = "clock-shift") {
        assert!((3540..=3600).contains(&ahead), "ahead by {ahead} s");
    } else {
        assert_eq!(ahead, 0);
    }
}

/// Two more hosts with public addresses.
const MORE: &str = "
  delos:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.40/24 }
  eos:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.50/24 }
";

#[test]
fn nodes_an_hour_ahead_an_hour_behind_in_1970_and_a_year_ahead_join_and_are_told() {
    if !can_set_clocks() || !can_run(&["ping"]) {
        return;
    }
    let folder = Folder::new();
    let mut site = Site::three_and("wrong-clocks", MORE);
    site.up();
    let to_1970 = i64::try_from(clock::wall().as_millis()).unwrap() - 60_000;
    let wrong = [
        ("boreas", HOUR_MS, "60 min ahead of"),
        ("cygnus", -HOUR_MS, "60 min behind"),
        ("delos", -to_1970, "days behind"),
        ("eos", YEAR_MS, "365 days ahead of"),
    ];
    for (host, ahead, _) in wrong {
        let clock = TestClock::named(&folder, host);
        clock.set_wall(ahead);
        clock.join(&mut site, host, &[]);
    }
    for (host, ahead, said) in wrong {
        until("the mesh", || {
            wrong
                .iter()
                .all(|(other, ..)| other == &host || site.pings(host, other))
        });
        let troubles = site.status(host).unwrap().troubles;
        let is_told = |line: &String| {
            line.starts_with(host) && line.contains(said) && line.contains("timedatectl")
        };
        assert!(troubles.iter().any(is_told), "{host}: {troubles:?}");
        assert!(site.resolves(host, "atlas.node.test.internal"), "{host}");
        let doctor = TestClock::named(&folder, host);
        doctor.set_wall(ahead);
        let checks = checks_by(&site, host, doctor.bastide(&["doctor", "--json"]));
        let clock = checks.iter().find(|check| check.name == "clock").unwrap();
        assert_eq!(clock.outcome, Outcome::Fail, "{host}: {clock:?}");
    }
    let troubles = site.status("atlas").unwrap().troubles;
    assert!(
        !troubles
            .iter()
            .any(|line| line.starts_with("atlas: this host's clock")),
        "atlas has the right time: {troubles:?}"
    );
    site.down();
}

/// Where a node keeps the stamp that its next handshake comes after.
const STAMP: &str = "/var/lib/bastide/agent/mesh/handshake-stamp";

#[test]
fn a_node_that_starts_again_with_its_clock_set_back_is_heard_by_its_peers() {
    if !can_set_clocks() || !can_run(&["ping", "od"]) {
        return;
    }
    let folder = Folder::new();
    let mut site = Site::three_and("set-back", MORE);
    let right = TestClock::named(&folder, "right");
    right.up(&mut site);
    right.join(&mut site, "delos", &[]);
    let clock = TestClock::named(&folder, "boreas");
    let mut boreas = clock.join(&mut site, "boreas", &[]);
    let meets = |site: &Site| site.pings("boreas", "delos") && site.pings("boreas", "atlas");
    until("the mesh", || meets(&site));

    let stamp = |site: &Site| {
        site.run(
            "boreas",
            &format!("test ! -e {STAMP} || od -An -tx1 {STAMP}"),
        )
    };
    for hours in [1, 2] {
        let before = stamp(&site);
        kill_all_of(boreas.pid);
        clock.boot_again();
        clock.set_wall(-hours * HOUR_MS);
        boreas = clock.agent(&mut site, "boreas");
        until("the mesh", || meets(&site));
        assert!(before < stamp(&site), "{before} {}", stamp(&site));
    }
    site.down();
}

#[test]
fn a_controllers_clock_that_jumps_by_a_year_and_back_ends_nothing_and_wakes_nothing() {
    if !can_set_clocks() || !can_run(&["ping"]) {
        return;
    }
    let folder = Folder::new();
    let mut site = Site::three_and("year", MORE);
    let clock = TestClock::new(&folder);
    let cluster = clock.up(&mut site);
    site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    let short_lived = site.bastide("atlas", &["ticket", "--minutes", "1"]);
    let ticket = site.bastide("atlas", &["ticket"]);

    // While the server runs, the jump is not followed, and the operator is told.
    let is_told = |site: &Site| {
        let troubles = site.status("atlas").unwrap().troubles;
        troubles
            .iter()
            .any(|line| line.contains("365 days ahead of"))
    };
    clock.set_wall(YEAR_MS);
    until("a word", || is_told(&site));
    assert!(site.pings("boreas", "atlas"));
    clock.set_wall(0);
    until("no word", || !is_told(&site));
    site.join_with("cygnus", &ticket, &[]);
    until("the mesh", || site.pings("cygnus", "boreas"));

    // Nor does the server start with it.
    kill_all_of(cluster.pid);
    clock.set_wall(YEAR_MS);
    let words = ["up", "--foreground", "--cluster", "test"];
    let refused = site.start("atlas", clock.bastide(&words), "");
    until("a word", || {
        fs::read_to_string(&refused.log)
            .unwrap()
            .contains("clock-is-right")
    });
    kill_all_of(refused.pid);

    // What has ended stays ended when the clock is set back, over a restart too.
    clock.set_wall(0);
    let cluster = clock.up(&mut site);
    clock.pass(Duration::from_secs(120));
    let is_refused = |site: &Site| {
        let join = ["join", "-", "--foreground", "--site", "delos"];
        // One that is let in stays, and would keep the test waiting for ever.
        let output = site.output("delos", clock.bounded(&join), &short_lived);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("the ticket ended at"),
            "{said}"
        );
    };
    is_refused(&site);
    kill_all_of(cluster.pid);
    clock.set_wall(-HOUR_MS);
    clock.up(&mut site);
    is_refused(&site);
    until("the mesh", || site.pings("boreas", "atlas"));
    site.down();
}
