use std::collections::BTreeSet;

use bastide_api::UnixTime;

use super::*;
use crate::core::schedule::Life;

const NOW: u64 = 1_800_000_000_000;

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_millis(NOW.saturating_add_signed(seconds * 1000))
}

/// A node on which everything is as it should be.
fn sound() -> Seen {
    let addresses = BTreeSet::from(["100.72.0.3".parse().unwrap()]);
    let routes = BTreeSet::from(["100.72.0.0/16".parse().unwrap()]);
    Seen {
        host: HostSeen {
            kernel: "6.1.0-18-amd64".to_owned(),
            tun: Ok(()),
            programs: vec![ProgramSeen {
                name: "nft",
                package: "nftables",
                found: true,
            }],
            folder: "/var/lib/bastide".to_owned(),
            free_bytes: Ok(1 << 30),
            writable: Ok(()),
            forwards: Some(true),
            ports: vec![PortSeen {
                protocol: Protocol::Udp,
                port: 51820,
                purpose: "the mesh",
                holder: Holder::Bastide,
                daemon: Some("agent"),
            }],
        },
        node: Some(NodeSeen {
            control_plane: ControlPlaneSeen {
                wall: at(0),
                now: at(0),
                certificate: CertificateSeen::Good(Life {
                    begins: at(-3600),
                    ends: at(23 * 3600),
                }),
                controllers: vec![("203.0.113.10:7443".into(), ControllerSeen::Answered(at(1)))],
            },
            mesh: MeshSeen {
                interface: "bst0",
                device: Some(DeviceSeen {
                    is_up: true,
                    mtu: 1420,
                    addresses: addresses.clone(),
                    routes: routes.clone(),
                }),
                addresses_wanted: addresses,
                routes_wanted: routes,
                mtu_wanted: 1420,
                tables_missing: Ok(Vec::new()),
                peers: vec![PeerSeen {
                    name: "atlas".to_owned(),
                    path: Some("direct".to_owned()),
                    answers: Ok(()),
                }],
                agent: true,
            },
            names: NamesSeen {
                address: "100.72.0.53:53".parse().unwrap(),
                name: "boreas.node.home.internal".to_owned(),
                answered: Ok(()),
            },
            troubles: Some(Vec::new()),
        }),
        engine: EngineSeen {
            socket: "/var/run/docker.sock".to_owned(),
            version: Ok("20.10.24".to_owned()),
            swarm: Ok(SwarmSeen::Active(None)),
            way_open: Ok(true),
        },
    }
}

/// Breaks something on a sound node; exactly the named checks fail, each with a command.
fn check(broken: impl FnOnce(&mut Seen), failing: &[&str]) {
    let mut seen = sound();
    broken(&mut seen);
    let checks = judge(&seen);
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .collect();
    let names: Vec<_> = failed.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, failing);
    assert!(failed.iter().all(|check| check.mend.is_some()));
    assert_eq!(is_sound(&checks), failing.is_empty());
}

fn node(seen: &mut Seen) -> &mut NodeSeen {
    seen.node.as_mut().unwrap()
}

#[test]
fn a_sound_node_passes_every_check() {
    check(|_| {}, &[]);
    let checks = judge(&sound());
    assert!(checks.iter().all(|check| check.outcome == Outcome::Pass));
}

#[test]
fn checks_come_in_the_order_in_which_to_mend() {
    let layers: Vec<_> = judge(&sound()).iter().map(|check| check.layer).collect();
    let first_engine = layers.iter().position(|one| *one == Layer::Engine).unwrap();
    let last_mesh = layers.iter().rposition(|one| *one == Layer::Mesh).unwrap();
    assert!(last_mesh < first_engine);
    assert_eq!(layers[0], Layer::Host);
}

#[test]
fn each_fault_of_the_host_fails_its_own_check() {
    check(|seen| seen.host.kernel = "4.19.0-26".into(), &["kernel"]);
    check(
        |seen| seen.host.tun = Err("no such device".into()),
        &["tun"],
    );
    check(|seen| seen.host.programs[0].found = false, &["program nft"]);
    check(|seen| seen.host.free_bytes = Ok(1 << 20), &["disk"]);
    check(
        |seen| seen.host.writable = Err("read-only".into()),
        &["disk"],
    );
    check(|seen| seen.host.forwards = Some(false), &["forwarding"]);
    check(
        |seen| seen.host.ports[0].holder = Holder::Other("`nginx` (process 7)".into()),
        &["UDP 51820"],
    );
    check(
        |seen| seen.host.ports[0].holder = Holder::Nobody,
        &["UDP 51820"],
    );
}

#[test]
fn a_clock_is_judged_by_the_controllers_and_without_one_by_the_certificate() {
    let answer = |seen: &mut Seen, how| node(seen).control_plane.controllers[0].1 = how;
    check(
        |seen| answer(seen, ControllerSeen::Answered(at(3600))),
        &["clock"],
    );
    check(
        |seen| answer(seen, ControllerSeen::Answered(at(-3600))),
        &["clock"],
    );
    check(|seen| answer(seen, ControllerSeen::Answered(at(59))), &[]);
    let silent = || ControllerSeen::Silent("refused".into());
    check(
        |seen| {
            answer(seen, silent());
            node(seen).control_plane.wall = at(-7200);
        },
        &["clock", "controller 203.0.113.10:7443"],
    );
    check(
        |seen| answer(seen, silent()),
        &["controller 203.0.113.10:7443"],
    );
}

#[test]
fn a_certificate_that_was_not_renewed_is_told_before_it_ends() {
    let ends = |seen: &mut Seen, seconds| {
        let begins = at(seconds - 24 * 3600);
        let ends = at(seconds);
        node(seen).control_plane.certificate = CertificateSeen::Good(Life { begins, ends });
    };
    check(|seen| ends(seen, 13 * 3600), &[]);
    check(|seen| ends(seen, 5 * 3600), &["certificate"]);
    check(|seen| ends(seen, -1), &["certificate"]);
    check(
        |seen| node(seen).control_plane.certificate = CertificateSeen::Unreadable,
        &["certificate"],
    );
}

#[test]
fn each_answer_of_a_controller_has_its_own_words() {
    let mut found = BTreeSet::new();
    for how in [
        ControllerSeen::Sealed,
        ControllerSeen::Refused("removed".into()),
        ControllerSeen::Stranger("wrong CA".into()),
        ControllerSeen::Silent("timeout".into()),
    ] {
        let mut seen = sound();
        node(&mut seen).control_plane.controllers[0].1 = how;
        let checks = judge(&seen);
        let failed = checks.iter().find(|check| check.outcome == Outcome::Fail);
        found.insert(failed.unwrap().found.clone());
    }
    assert_eq!(found.len(), 4);
}

#[test]
fn each_fault_of_the_mesh_fails_its_own_check() {
    check(|seen| node(seen).mesh.device = None, &["device"]);
    let device = |seen: &mut Seen, change: fn(&mut DeviceSeen)| {
        change(node(seen).mesh.device.as_mut().unwrap());
    };
    check(|seen| device(seen, |one| one.is_up = false), &["device"]);
    check(|seen| device(seen, |one| one.mtu = 1280), &["mtu"]);
    check(
        |seen| device(seen, |one| one.addresses.clear()),
        &["addresses"],
    );
    check(|seen| device(seen, |one| one.routes.clear()), &["routes"]);
    check(
        |seen| node(seen).mesh.tables_missing = Ok(vec!["inet bastide".into()]),
        &["packet filter"],
    );
    check(|seen| node(seen).mesh.peers[0].path = None, &["peer atlas"]);
    check(
        |seen| node(seen).mesh.peers[0].answers = Err("timeout".into()),
        &["peer atlas"],
    );
    check(
        |seen| {
            node(seen).mesh.agent = false;
            node(seen).troubles = None;
        },
        &["agent"],
    );
}

#[test]
fn each_fault_of_names_and_engine_fails_its_own_check() {
    check(
        |seen| node(seen).names.answered = Err("timeout".into()),
        &["resolver"],
    );
    check(
        |seen| seen.engine.version = Err("no such file".into()),
        &["engine"],
    );
    for phase in [
        SwarmSeen::Inactive,
        SwarmSeen::Pending,
        SwarmSeen::Trouble("no quorum".into()),
    ] {
        check(|seen| seen.engine.swarm = Ok(phase), &["swarm"]);
    }
    check(
        |seen| seen.engine.way_open = Ok(false),
        &["docker's filter"],
    );
}

#[test]
fn what_the_agent_reports_fails_with_the_command_that_it_names() {
    let line = "boreas: the engine is gone; mend it with `systemctl start docker`";
    let mut seen = sound();
    node(&mut seen).troubles = Some(vec![line.to_owned()]);
    let checks = judge(&seen);
    let failed = checks.iter().find(|check| check.outcome == Outcome::Fail);
    assert_eq!(
        failed.unwrap().mend.as_deref(),
        Some("systemctl start docker")
    );
}

#[test]
fn a_host_that_is_no_node_is_judged_without_a_membership() {
    let mut seen = sound();
    seen.node = None;
    seen.host.forwards = Some(false);
    seen.host.ports[0].holder = Holder::Nobody;
    seen.host.ports[0].daemon = None;
    seen.engine.swarm = Ok(SwarmSeen::Inactive);
    let checks = judge(&seen);
    assert!(is_sound(&checks));
    let skipped = checks.iter().find(|check| check.outcome == Outcome::Skip);
    assert!(skipped.unwrap().found.contains("bastide join -"));
}
