//! The control plane is away: what the nodes have goes on, by clocks that the test sets.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_api::doctor::Outcome;
use bastide_pki::certificate_lifetime;

use crate::containers::{Container, idle};
use crate::doctor::checks_by;
use crate::site::{Folder, Site, Started, can_run, kill_all_of, until};
use crate::timing::{TestClock, can_set_clocks};

/// One more host with a public address, which relays.
const DELOS: &str = "
  delos:
    kind: host
    interfaces:
      eth0: { link: internet, address: 203.0.113.40/24 }
";
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const HOSTS: [&str; 4] = ["atlas", "boreas", "cygnus", "delos"];

/// Three sites and a relay whose server is gone, by one clock. The agents are those of [`HOSTS`].
struct Away {
    site: Site,
    clock: TestClock,
    agents: Vec<Started>,
    _folder: Folder,
}

impl Away {
    fn new(name: &str) -> Self {
        let folder = Folder::new();
        let clock = TestClock::new(&folder);
        let mut site = Site::three_and(name, DELOS);
        let up = clock.up(&mut site);
        let mut agents = vec![
            clock.join(&mut site, "boreas", &[]),
            clock.join(&mut site, "cygnus", &[]),
            clock.join(&mut site, "delos", &["--public", "203.0.113.40"]),
        ];
        until("the mesh", || is_whole(&site));
        kill_all_of(up.pid);
        agents.insert(0, clock.agent(&mut site, "atlas"));
        until("the mesh", || is_whole(&site));
        Self {
            site,
            clock,
            agents,
            _folder: folder,
        }
    }

    /// Kills the agent of a host and starts it again; returns when it reaches the others.
    fn restart(&mut self, host: &str) {
        self.start_again(host);
        // What it sends first tells its peers that their sessions are void.
        until("the mesh", || reaches_all(&self.site, host));
    }

    /// Kills the agent of a host and starts it again.
    fn start_again(&mut self, host: &str) {
        let index = HOSTS.iter().position(|known| *known == host).unwrap();
        kill_all_of(self.agents[index].pid);
        self.agents[index] = self.clock.agent(&mut self.site, host);
    }

    /// The server returns, with atlas' agent.
    fn server_returns(&mut self) {
        kill_all_of(self.agents[0].pid);
        self.agents[0] = self.clock.up(&mut self.site);
    }

    /// When the certificate of a host ends.
    fn certificate_ends(&self, host: &str) -> UnixTime {
        let text = self
            .site
            .run(host, "cat /var/lib/bastide/agent/membership.json");
        let membership: serde_json::Value = serde_json::from_str(&text).unwrap();
        let pem = membership["answer"]["certificate"].as_str().unwrap();
        certificate_lifetime(pem).unwrap().1
    }
}

/// Whether each host reaches each other over the mesh, and knows its name.
fn is_whole(site: &Site) -> bool {
    HOSTS.iter().all(|host| reaches_all(site, host))
}

/// Whether a host reaches each other over the mesh, and knows its name. Addresses are given in the
/// order in which hosts join.
fn reaches_all(site: &Site, host: &str) -> bool {
    let pings = (1..=HOSTS.len()).map(|number| format!("ping -n -c1 -W1 100.72.0.{number}"));
    let pings: Vec<_> = pings.collect();
    let knows = |other: &&str| site.resolves(host, &format!("{other}.node.test.internal"));
    site.succeeds(host, &pings.join(" && ")) && HOSTS.iter().all(knows)
}

#[test]
fn nodes_go_on_without_a_server_restart_from_their_views_and_renew_late() {
    if !can_set_clocks() || !can_run(&["ping"]) {
        return;
    }
    let mut away = Away::new("away");
    let ends = HOSTS.map(|host| away.certificate_ends(host));

    // An hour, in which each node is started again, the relay too.
    for host in ["boreas", "atlas", "delos", "cygnus"] {
        away.clock.pass(15 * MINUTE);
        away.restart(host);
        until("the mesh", || is_whole(&away.site));
    }
    let status = away.site.status("boreas").unwrap();
    assert!(!status.controller, "nobody answers it");

    // Renewal has been due for eleven hours, and nothing is dropped for it.
    away.clock.pass(22 * HOUR);
    away.restart("cygnus");
    until("the mesh", || is_whole(&away.site));

    away.server_returns();
    for (host, ended) in HOSTS.into_iter().zip(ends) {
        until("a renewed certificate", || {
            ended < away.certificate_ends(host)
        });
    }
    until("the mesh", || is_whole(&away.site));

    // After another day without a server there is no mesh; it heals by itself when one is back.
    kill_all_of(away.agents[0].pid);
    away.agents[0] = away.clock.agent(&mut away.site, "atlas");
    away.clock.pass(25 * HOUR);
    until("no mesh", || {
        !away.site.pings("boreas", "delos") && !away.site.pings("delos", "boreas")
    });
    away.start_again("boreas");
    assert!(
        !away.site.pings("boreas", "delos"),
        "what has ended stays so"
    );
    let checks = checks_by(
        &away.site,
        "boreas",
        away.clock.bastide(&["doctor", "--json"]),
    );
    let failed = checks.iter().filter(|check| check.outcome == Outcome::Fail);
    let failed: Vec<_> = failed.map(|check| check.name.as_str()).collect();
    assert!(failed.contains(&"certificate"), "{failed:?}");
    away.server_returns();
    until("the mesh", || is_whole(&away.site));
    away.site.down();
}

/// What an agent keeps.
const VIEW: &str = "/var/lib/bastide/agent/view.json";
/// And what it kept before that.
const VIEW_BEFORE: &str = "/var/lib/bastide/agent/view.before.json";

#[test]
fn a_view_that_was_damaged_is_told_of_and_the_one_before_it_serves() {
    if !can_set_clocks() || !can_run(&["ping"]) {
        return;
    }
    let mut away = Away::new("damaged");
    let says = |away: &Away, what: &str| {
        let log = fs::read_to_string(&away.agents[1].log).unwrap();
        log.contains(what)
    };
    let damages = [
        "head -c 100 view.json > cut; mv cut view.json",
        "sed 's/delos/delox/' view.json > other; mv other view.json",
        ": > view.json",
    ];
    for damage in damages {
        away.site.run(
            "boreas",
            &format!("cd /var/lib/bastide/agent; cp {VIEW} whole; {damage}"),
        );
        away.start_again("boreas");
        assert!(says(&away, "a view on disk is not believed"), "{damage}");
        // Delos joined last: the view before may not hold it.
        until("the mesh", || {
            away.site.pings("boreas", "atlas") && away.site.pings("boreas", "cygnus")
        });
        away.site
            .run("boreas", &format!("mv /var/lib/bastide/agent/whole {VIEW}"));
    }

    // With neither it is alone, says so, and learns all from the server.
    away.site
        .run("boreas", &format!("echo x > {VIEW}; rm {VIEW_BEFORE}"));
    away.start_again("boreas");
    assert!(says(&away, "no view is on disk"));
    assert_eq!(away.site.status("boreas").unwrap().nodes.len(), 1);
    away.server_returns();
    until("the mesh", || is_whole(&away.site));
    away.site.down();
}

/// The port that a container of the test listens on.
const PORT: u16 = 8080;

#[test]
fn containers_go_on_while_the_server_is_away_and_their_agents_start_again() {
    let can_run = can_set_clocks() && can_run(&["ping", "dockerd", "docker"]);
    if !can_run || idle().is_none() {
        return;
    }
    let folder = Folder::new();
    let clock = TestClock::new(&folder);
    let mut site = Site::three_and("away-engines", "");
    let hosts = ["atlas", "boreas"];
    site.start_engines(&hosts);
    let up = clock.up(&mut site);
    let boreas = clock.join(&mut site, "boreas", &[]);
    site.until_swarm(&hosts);
    let [one, other] = hosts.map(|host| Container::run(&site, host));
    let listener = other
        .within(|| TcpListener::bind((other.address, PORT)))
        .unwrap();
    let reaches = || {
        let to = (other.address, PORT).into();
        let connected = one.within(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
        connected.is_ok_and(|_stream| listener.accept().is_ok())
    };
    until("the other container", reaches);

    kill_all_of(up.pid);
    clock.agent(&mut site, "atlas");
    clock.pass(HOUR);
    until("the other container", reaches);
    kill_all_of(boreas.pid);
    clock.agent(&mut site, "boreas");
    clock.pass(HOUR);
    until("the other container", reaches);
    assert!(
        !site.status("boreas").unwrap().controller,
        "nobody answers it"
    );
    site.down();
}
