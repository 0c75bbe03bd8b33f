//! Networks on their bad days, with real sockets and real routers: traffic resumes, without a restart,
//! and `status` says what happened.

#![expect(clippy::print_stderr, reason = "measured times are told aloud")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bastide_api::paths::{PathAnswer, PathChange, PathReason, RelayState};
use bastide_api::v1::PathKind;
use bastide_lab::{Fault, Which};

use crate::site::{SOON, Site, can_run, until};

/// Two more hosts with public addresses; `delos` is to relay, `eos` will move.
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

/// Between two datagrams of a pulse.
const BEAT: Duration = Duration::from_millis(50);

/// Datagrams that go from one node to another and back, twenty a second, until this is dropped.
struct Pulse {
    returned: Arc<Mutex<Vec<Instant>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pulse {
    fn start(site: &Site, from: &str, to: &str) -> Self {
        let address = address(site, to);
        let bind = |at: Ipv4Addr| move || UdpSocket::bind((at, 0)).unwrap();
        let server = site.lab().within(to, bind(address)).unwrap();
        let client = site
            .lab()
            .within(from, bind(Ipv4Addr::UNSPECIFIED))
            .unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(BEAT)).unwrap();
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let returned = Arc::new(Mutex::new(Vec::new()));
        let (over, over_too) = (Arc::clone(&is_over), Arc::clone(&is_over));
        let book = Arc::clone(&returned);
        let echo = thread::spawn(move || {
            let mut bytes = [0; 64];
            while !over.load(Ordering::Acquire) {
                if let Ok((len, back)) = server.recv_from(&mut bytes) {
                    let _ = server.send_to(&bytes[..len], back);
                }
            }
        });
        let beat = thread::spawn(move || {
            let mut bytes = [0; 64];
            while !over_too.load(Ordering::Acquire) {
                let next = Instant::now() + BEAT;
                // An error tells of a path that is gone, which is what is looked for.
                let _ = client.send(b"beat");
                while let Some(rest) = next.checked_duration_since(Instant::now()) {
                    client
                        .set_read_timeout(Some(rest.max(Duration::from_millis(1))))
                        .unwrap();
                    if client.recv(&mut bytes).is_ok() {
                        book.lock().unwrap().push(Instant::now());
                    }
                }
            }
        });
        let pulse = Self {
            returned,
            is_over,
            threads: vec![echo, beat],
        };
        until("the pulse", || !pulse.returned.lock().unwrap().is_empty());
        pulse
    }

    /// Waits until it beats again, at `since` or later, for half a second on end; returns the longest
    /// pause since then.
    fn recovery(&self, since: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        until("the pulse again", || {
            let beats = self.returned.lock().unwrap();
            let after: Vec<Instant> = beats.iter().copied().filter(|at| *at >= since).collect();
            let mut last = since;
            longest = Duration::ZERO;
            let mut steady_from = None;
            for at in &after {
                let pause = *at - last;
                longest = longest.max(pause);
                if pause > 6 * BEAT || steady_from.is_none() {
                    steady_from = Some(*at);
                }
                last = *at;
            }
            let is_steady = steady_from.is_some_and(|from| last - from > 10 * BEAT);
            is_steady && last.elapsed() < 6 * BEAT
        });
        longest
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Where a node is on the mesh.
fn address(site: &Site, name: &str) -> Ipv4Addr {
    site.node(name, name).unwrap().address
}

/// How `host` reaches node `name`.
fn path(site: &Site, host: &str, name: &str) -> Option<PathKind> {
    Some(site.node(host, name)?.path?.kind)
}

/// What `bastide mesh why` tells on `host`.
fn why(site: &Site, host: &str, from: &str, to: &str) -> PathAnswer {
    let text = site.bastide(host, &["mesh", "why", from, to, "--json"]);
    serde_json::from_str(&text).unwrap()
}

/// Carries a megabyte each way and compares every byte; returns how long it took.
fn megabyte(site: &Site, from: &str, to: &str) -> Duration {
    let sent: Vec<u8> = (0..1_000_000u32)
        .map(|at| at.wrapping_mul(31).to_be_bytes()[3])
        .collect();
    let at = address(site, to);
    let listener = site
        .lab()
        .within(to, || TcpListener::bind((at, 0)).unwrap());
    let listener = listener.unwrap();
    let to = listener.local_addr().unwrap();
    let begun = Instant::now();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut got = vec![0; 1_000_000];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    let connect = || TcpStream::connect_timeout(&to, SOON).unwrap();
    let mut client = site.lab().within(from, connect).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(&sent).unwrap();
    let mut got = vec![0; sent.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == sent, "every byte comes back as it went");
    server.join().unwrap();
    begun.elapsed()
}

#[test]
fn traffic_goes_on_when_a_relay_dies_when_udp_is_blocked_one_way_and_when_uplinks_flap() {
    if !can_run(&["nft", "ip", "ping"]) {
        return;
    }
    let mut site = Site::three_and("networks", MORE);
    let _up = site.up();
    site.join("boreas", &[]);
    site.join("cygnus", &[]);
    site.join("delos", &["--public", "203.0.113.40"]);
    until("all paths", || {
        ["atlas", "cygnus", "delos"]
            .iter()
            .all(|name| site.pings("boreas", name))
            && matches!(
                path(&site, "boreas", "delos"),
                Some(PathKind::Direct { .. })
            )
            && matches!(
                path(&site, "cygnus", "delos"),
                Some(PathKind::Direct { .. })
            )
    });
    a_relay_dies(&site);
    udp_is_blocked_one_way(&site);
    uplinks_go_and_come(&site);
    site.down();
}

/// Nothing comes from it, and nobody says so.
fn a_relay_dies(site: &Site) {
    let pulse = Pulse::start(site, "boreas", "cygnus");
    let Some(PathKind::Relayed { via }) = path(site, "boreas", "cygnus") else {
        panic!("{:?}", path(site, "boreas", "cygnus"));
    };
    let nodes = site.status("boreas").unwrap().nodes;
    let dead = nodes.iter().find(|node| node.id == via).unwrap();
    let dead = dead.name.to_string();
    let link = format!("{dead}/eth0");
    site.lab().cut(&link).unwrap();
    let begun = Instant::now();
    let gap = pulse.recovery(begun);
    eprintln!("relay dies: {gap:?}");
    assert!(gap <= Duration::from_secs(3), "{gap:?}");
    let Some(PathKind::Relayed { via: other }) = path(site, "boreas", "cygnus") else {
        panic!("{:?}", path(site, "boreas", "cygnus"));
    };
    assert_ne!(other, via);
    let events = site.node("boreas", "cygnus").unwrap().events;
    let change = PathChange::Way {
        from: PathKind::Relayed { via },
        to: PathKind::Relayed { via: other },
    };
    let told = events.iter().find(|event| event.change == change).unwrap();
    let reasons = [PathReason::NoAnswer, PathReason::PeerMoved];
    assert!(reasons.contains(&told.reason), "{told:?}");
    let story = why(site, "boreas", "boreas", "cygnus").story.unwrap();
    let used = story
        .relays
        .iter()
        .find(|relay| relay.relay == other)
        .unwrap();
    assert_eq!(used.state, RelayState::Bound);
    let text = site.bastide("boreas", &["mesh", "why", "boreas", "cygnus"]);
    assert!(text.contains("not direct:"), "{text}");
    if told.reason == PathReason::NoAnswer {
        let screen = site.bastide("boreas", &["status"]);
        let expect = format!("relayed by {dead} -> relayed by");
        assert!(screen.contains(&expect), "{screen}");
    }
    drop(pulse);
    site.lab().heal(&link).unwrap();
    until("the dead relay's return", || {
        site.pings("boreas", &dead) && site.status("boreas").is_some_and(|it| it.controller)
    });
    // What boreas reports of itself is known elsewhere.
    until("the report", || {
        why(site, "delos", "boreas", "cygnus").reported.is_some()
    });
}

/// What boreas sends to delos is dropped at home.
fn udp_is_blocked_one_way(site: &Site) {
    until("a direct path", || {
        matches!(path(site, "boreas", "delos"), Some(PathKind::Direct { .. }))
    });
    let pulse = Pulse::start(site, "boreas", "delos");
    let fault = Fault {
        which: Which::All,
        to: Some(IpAddr::from([203, 0, 113, 40])),
    };
    site.lab().fault("home-router", &[fault]).unwrap();
    let begun = Instant::now();
    let gap = pulse.recovery(begun);
    eprintln!("blocked one way: {gap:?}");
    assert!(gap <= Duration::from_secs(8), "{gap:?}");
    assert!(matches!(
        path(site, "boreas", "delos"),
        Some(PathKind::Relayed { .. })
    ));
    assert!(site.lab().dropped("home-router").unwrap() > 0);
    site.lab().fault("home-router", &[]).unwrap();
}

/// Two sites lose their uplinks, for longer than anybody is patient, and get them back at once.
fn uplinks_go_and_come(site: &Site) {
    let (out, across) = (
        Pulse::start(site, "boreas", "atlas"),
        Pulse::start(site, "boreas", "cygnus"),
    );
    let uplinks = ["home-router/wan", "edge-router/wan"];
    for uplink in uplinks {
        site.lab().cut(uplink).unwrap();
    }
    until("the loss", || {
        let is_lost = |from, to| path(site, from, to) == Some(PathKind::None);
        ["atlas", "delos", "cygnus"]
            .iter()
            .all(|name| is_lost("boreas", name))
            && ["boreas", "cygnus"]
                .iter()
                .all(|name| is_lost("atlas", name))
    });
    for uplink in uplinks {
        site.lab().heal(uplink).unwrap();
    }
    let begun = Instant::now();
    let gaps = [out.recovery(begun), across.recovery(begun)];
    eprintln!("uplinks back: {gaps:?}");
    assert!(
        gaps.iter().all(|gap| *gap <= Duration::from_secs(7)),
        "{gaps:?}"
    );
    until("all paths again", || {
        site.pings("boreas", "delos") && site.pings("cygnus", "delos")
    });
    let events = site.node("boreas", "atlas").unwrap().events;
    assert!(
        events
            .iter()
            .any(|event| event.reason == PathReason::NoAnswer)
    );
}

#[test]
fn a_host_that_moves_and_a_router_that_swallows_long_datagrams_stop_nothing_for_long() {
    if !can_run(&["nft", "ip", "ping"]) {
        return;
    }
    let mut site = Site::three_and("moves", MORE);
    let _up = site.up();
    site.join("boreas", &[]);
    site.join("eos", &[]);
    until("all paths", || {
        site.pings("boreas", "eos")
            && matches!(path(&site, "boreas", "eos"), Some(PathKind::Direct { .. }))
            && matches!(
                path(&site, "boreas", "atlas"),
                Some(PathKind::Direct { .. })
            )
    });

    // Roaming: another address.
    let pulse = Pulse::start(&site, "boreas", "eos");
    let begun = Instant::now();
    site.run(
        "eos",
        "ip address del 203.0.113.50/24 dev eth0 && ip address add 203.0.113.51/24 dev eth0",
    );
    let gap = pulse.recovery(begun);
    eprintln!("another address: {gap:?}");
    assert!(gap <= Duration::from_secs(3), "{gap:?}");
    until("the new address", || {
        let to = "203.0.113.51:51820".parse().unwrap();
        path(&site, "boreas", "eos") == Some(PathKind::Direct { to })
    });
    let events = site.node("boreas", "eos").unwrap().events;
    assert!(events.iter().any(|event| matches!(
        event.change,
        PathChange::Way { to: PathKind::Direct { to }, .. } if to.ip() == IpAddr::from([203, 0, 113, 51])
    )));
    drop(pulse);

    // What is longer than 1280 bytes vanishes at home. Each datagram goes alone: nothing cuts a train
    // up between these hosts, and the router's rule would take it for one long packet.
    for host in ["atlas", "boreas"] {
        site.run(host, "ip link set eth0 gso_max_segs 1");
    }
    until("the measure", || {
        megabyte(&site, "boreas", "atlas");
        let fact = |from, to| site.node(from, to).and_then(|node| node.path);
        fact("boreas", "atlas").and_then(|fact| fact.mtu) == Some(1420)
    });
    let fault = Fault {
        which: Which::LongerThan(1280),
        to: None,
    };
    site.lab().fault("home-router", &[fault]).unwrap();
    let took = megabyte(&site, "boreas", "atlas");
    eprintln!("swallows above 1280: a megabyte both ways after {took:?}");
    assert!(site.lab().dropped("home-router").unwrap() > 0);
    let node = site.node("boreas", "atlas").unwrap();
    assert_eq!(node.path.as_ref().unwrap().mtu, Some(1216));
    assert!(
        node.events
            .iter()
            .any(|event| event.reason == PathReason::LargeLost)
    );
    let route = site.run("boreas", &format!("ip route get {}", node.address));
    assert!(route.contains("mtu 1216"), "{route}");
    let containers = site.run("boreas", "ip route show dev bst0");
    let behind = containers
        .lines()
        .find(|line| line.starts_with("10.128.0.0/24"));
    assert!(
        behind.is_some_and(|line| line.contains("mtu 1216")),
        "{containers}"
    );
    let text = site.bastide("boreas", &["mesh", "why", "boreas", "atlas"]);
    assert!(
        text.contains("swallows longer packets than 1216 bytes"),
        "{text}"
    );
    let screen = site.bastide("boreas", &["status"]);
    assert!(screen.contains("packets of 1420 -> 1216 bytes"), "{screen}");
    let checks = crate::doctor::checks(&site, "boreas");
    let atlas = checks.iter().find(|check| check.name == "peer atlas");
    let found = &atlas.unwrap().found;
    assert!(
        found.contains("swallows longer packets than 1216"),
        "{found}"
    );
    // From now on at once.
    let took = megabyte(&site, "atlas", "boreas");
    assert!(took < Duration::from_secs(3), "{took:?}");
    site.down();
}
