//! One Swarm of real engines over the mesh, what an operator does with it, and what its engines suffer.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bastide_api::status::ServiceStatus;

use crate::containers::{Container, idle, import};
use crate::doctor;
use crate::site::{Site, Started, can_run, signal, skip, until};

/// A service with a replica on each of `replicas` sites.
fn compose(replicas: usize, more: &str) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: idle\n    deploy:\n      replicas: {replicas}\n{more}"
    )
}

/// Deploys a compose file from atlas.
fn deploy(site: &Site, file: &str, options: &[&str]) {
    site.run(
        "atlas",
        &format!("cat > /tmp/compose.yaml <<'E'\n{file}\nE"),
    );
    let words = [&["deploy", "/tmp/compose.yaml"][..], options].concat();
    site.bastide("atlas", &words);
    site.run("atlas", "rm /tmp/compose.yaml");
}

/// What atlas says of the one service.
fn web(site: &Site) -> Option<ServiceStatus> {
    let stacks = site.status("atlas")?.stacks;
    let services = stacks.into_iter().flat_map(|stack| stack.services);
    services
        .into_iter()
        .find(|service| service.name.as_str() == "web")
}

/// Whether exactly these nodes run a healthy replica each.
fn runs_on(site: &Site, nodes: &[&str]) -> bool {
    let Some(web) = web(site) else {
        return false;
    };
    let healthy = web.tasks.iter().filter(|task| task.healthy);
    let mut on: Vec<_> = healthy.map(|task| task.node.as_str()).collect();
    on.sort_unstable();
    on == nodes
}

fn is_told(site: &Site, what: &str) -> bool {
    let status = site.status("atlas");
    status.is_some_and(|status| status.troubles.iter().any(|line| line.contains(what)))
}

/// Ends an engine, as an operator does.
fn stop(site: &mut Site, engine: &Started) {
    signal(engine.pid, rustix::process::Signal::TERM);
    site.wait_for_end(engine);
}

/// Starts the engine of a host, of the release in this folder or the installed one.
fn start(site: &mut Site, host: &str, release: Option<&Path>) -> Started {
    let Some(folder) = release else {
        return site.start_engines(&[host]).remove(0);
    };
    let path = format!("{0}/usr/sbin:{0}/usr/bin", folder.display());
    let run = format!("PATH={path}:$PATH exec dockerd --storage-driver overlay2");
    let engine = site.start(host, crate::site::sh(&run), "");
    until("the engine", || site.succeeds(host, "docker version"));
    engine
}

/// The folders of other releases of the engine, oldest first, from `BASTIDE_TEST_ENGINES`: each is laid
/// out as `dpkg -x` leaves the packages `docker.io` and `containerd` of another Debian release.
fn other_engines() -> Option<Vec<PathBuf>> {
    let folders = std::env::var("BASTIDE_TEST_ENGINES").ok();
    let folders: Option<Vec<_>> = folders.map(|text| text.split(':').map(PathBuf::from).collect());
    if folders.is_none() {
        skip("another release of the container engine (BASTIDE_TEST_ENGINES)");
    }
    folders
}

/// Whether a connection to a container's port gets through from another node.
fn reaches(site: &Site, from: &str, container: &Container) -> bool {
    let within = Duration::from_millis(700);
    let to = (container.address, 80).into();
    let connect = || TcpStream::connect_timeout(&to, within).is_ok();
    site.lab().within(from, connect).unwrap()
}

fn listen(container: &Container) -> TcpListener {
    container.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap())
}

#[expect(clippy::print_stderr, reason = "measured times are told")]
fn tell(what: &str, since: Instant) {
    eprintln!("{what} after {:?}", since.elapsed());
}

#[test]
fn a_damaged_swarm_is_rebuilt_by_one_command_and_its_services_are_whole_again() {
    if !can_run(&["dockerd", "docker", "ping"]) {
        return;
    }
    let Some(idle) = idle() else {
        return;
    };
    let mut site = Site::three_and("swarm", "");
    let engine = site.start_engines(&["atlas", "boreas", "cygnus"]).remove(0);
    site.up_with(&["--rebalance-after-s", "2"]);
    site.join("boreas", &[]);
    site.join("cygnus", &[]);
    site.until_swarm(&["atlas", "boreas", "cygnus"]);
    import(&site, "atlas", "idle", idle);
    deploy(&site, &compose(3, ""), &[]);
    until("a replica each", || {
        runs_on(&site, &["atlas", "boreas", "cygnus"])
    });

    // A new name reaches the Swarm, so that constraints go by it.
    site.bastide("atlas", &["node", "rename", "cygnus", "delphi"]);
    let named = "docker node inspect -f '{{index .Spec.Labels \"bastide.node\"}}' \
                 $(docker node ls -q) | grep -qx delphi";
    until("the label", || site.succeeds("atlas", named));
    until("the name", || {
        runs_on(&site, &["atlas", "boreas", "delphi"])
    });

    // What no node can take is said, and by `deploy` too, as soon as the engines say it.
    let nowhere = "      placement: { constraints: [ node.labels.disk == none ] }\n";
    deploy(&site, &compose(3, nowhere), &["--detach"]);
    until("why it is not placed", || {
        is_told(&site, "`shop_web`") && is_told(&site, "no suitable node")
    });
    deploy(&site, &compose(3, ""), &[]);
    until("no word of it", || !is_told(&site, "no suitable node"));

    // The only manager's state is damaged.
    stop(&mut site, &engine);
    site.run(
        "atlas",
        "rm -r /var/lib/docker/swarm/raft && echo damaged > /var/lib/docker/swarm/raft",
    );
    site.start_engines(&["atlas"]);
    until("what mends it", || {
        is_told(&site, "bastide cluster rebuild")
    });
    let failing = doctor::failing(&site, "atlas");
    assert!(failing.contains("status"), "{failing:?}");
    let planned = site.try_bastide("atlas", &["cluster", "rebuild"]);
    let planned = String::from_utf8_lossy(&planned.stderr).into_owned();
    assert!(planned.contains("nothing is done yet"), "{planned}");
    assert!(is_told(&site, "bastide cluster rebuild"));
    let began = Instant::now();
    site.bastide("atlas", &["cluster", "rebuild", "--yes"]);
    tell("the command ended", began);
    until("a replica each", || {
        runs_on(&site, &["atlas", "boreas", "delphi"])
    });
    tell("a replica runs on each node", began);
    assert!(!is_told(&site, "bastide cluster rebuild"));
    let again = site.try_bastide("atlas", &["cluster", "rebuild", "--yes"]);
    assert!(!again.status.success(), "there is nothing to rebuild");
    site.down();
}

#[test]
fn an_engine_without_room_is_told_and_goes_on_once_there_is_some() {
    if !can_run(&["dockerd", "docker", "fallocate"]) {
        return;
    }
    let Some(idle) = idle() else {
        return;
    };
    let mut site = Site::three_and("noroom", "");
    site.run(
        "atlas",
        "mkdir -p /var/lib/docker && mount -t tmpfs -o size=600m tmpfs /var/lib/docker",
    );
    site.start_engines(&["atlas"]);
    site.up();
    site.until_swarm(&["atlas"]);
    let container = Container::run(&site, "atlas");
    let listener = listen(&container);
    assert!(!is_told(&site, "is full"));

    // All of it, to the last page: the engine cannot even write its own state.
    site.run(
        "atlas",
        "dd if=/dev/zero of=/var/lib/docker/filler bs=64k 2>/dev/null; \
         test $(stat -f -c %f /var/lib/docker) = 0",
    );
    let filled = Instant::now();
    until("a word about it", || {
        is_told(&site, "the disk of the container engine is full")
    });
    tell("a full disk is told", filled);
    let failing = doctor::failing(&site, "atlas");
    assert!(failing.contains("status"), "{failing:?}");
    assert!(reaches(&site, "atlas", &container), "what runs goes on");
    assert!(site.resolves("atlas", "atlas.node.test.internal"));
    // An image that does not fit is refused, with the reason.
    let refused = "dd if=/dev/urandom of=/tmp/big bs=1M count=8 2>/dev/null; \
                   tar -C /tmp -c big | docker import - big; code=$?; rm /tmp/big; exit $code";
    assert!(!site.succeeds("atlas", refused));
    let starts = site.try_bastide("atlas", &["status"]);
    assert!(
        starts.text().contains("docker system prune"),
        "the command that mends it"
    );

    site.run("atlas", "rm /var/lib/docker/filler");
    let mended = Instant::now();
    until("no word about it", || !is_told(&site, "is full"));
    tell("room is noticed", mended);
    import(&site, "atlas", "idle", idle);
    deploy(&site, &compose(1, ""), &[]);
    assert!(runs_on(&site, &["atlas"]));
    drop(listener);
    site.bastide("atlas", &["down"]);
}

/// Two nodes' engines are replaced by later releases, one after the other, while a service runs on both.
/// Takes engines of other releases, so it runs where they are at hand: docs/operations.md.
#[test]
fn engines_are_upgraded_in_place_one_after_the_other() {
    if !can_run(&["dockerd", "docker", "iptables", "ping"]) {
        return;
    }
    let (Some(releases), Some(idle)) = (other_engines(), idle()) else {
        return;
    };
    let mut site = Site::three_and("releases", "");
    let mut engines = site.start_engines(&["atlas", "boreas"]);
    site.up_with(&["--rebalance-after-s", "2"]);
    site.join("boreas", &[]);
    site.until_swarm(&["atlas", "boreas"]);
    import(&site, "atlas", "idle", idle);
    deploy(&site, &compose(2, ""), &[]);
    until("a replica each", || runs_on(&site, &["atlas", "boreas"]));
    let jump = "iptables -C DOCKER-USER -j BASTIDE";
    for release in &releases {
        for (slot, host) in [(1, "boreas"), (0, "atlas")] {
            let other = ["boreas", "atlas"][slot];
            stop(&mut site, &engines[slot]);
            site.run(host, "iptables -F DOCKER-USER");
            let began = Instant::now();
            engines[slot] = start(&mut site, host, Some(release));
            let version = site.run(host, "docker version -f '{{.Server.Version}}'");
            until("our rules", || site.succeeds(host, jump));
            site.until_swarm(&["atlas", "boreas"]);
            // Some engines trip over their own books then; what mends it is said.
            until("a replica each, or word of why not", || {
                runs_on(&site, &["atlas", "boreas"]) || is_told(&site, "local-kv.db")
            });
            if is_told(&site, "local-kv.db") {
                tell(&format!("{host} finds its network there"), began);
                stop(&mut site, &engines[slot]);
                site.run(host, "rm /var/lib/docker/network/files/local-kv.db");
                engines[slot] = start(&mut site, host, Some(release));
            }
            until("a replica each", || runs_on(&site, &["atlas", "boreas"]));
            tell(&format!("{host} is whole with {}", version.trim()), began);
            let container = Container::run(&site, host);
            let _listener = listen(&container);
            until("the way to a new container", || {
                reaches(&site, other, &container)
            });
        }
    }
    // The control plane's words still reach engines of the last release.
    deploy(&site, &compose(4, ""), &[]);
    site.bastide("boreas", &["down"]);
    site.bastide("atlas", &["down"]);
    for host in ["atlas", "boreas"] {
        assert!(site.succeeds(
            host,
            "docker info -f '{{.Swarm.LocalNodeState}}' | grep -qx inactive"
        ));
        assert!(!site.succeeds(host, "docker network ls | grep -q bastide"));
    }
}
