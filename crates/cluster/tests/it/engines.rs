//! Three engines on a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bastide_api::{
    AddressPlan, ClusterId, ClusterRecord, Controller, DiscoveryKey, NodeId, NodeRecord, Revision,
    Secret, SwarmSettings, UnixTime, View, WireGuardKey,
};
use bastide_cluster::core::state::{Member, Phase, SwarmId};
use bastide_cluster::firewall::{self, Frames, HostChange, Rules};
use bastide_cluster::{Reconciler, Report, SwarmAccess, filter};
use bastide_linux::nft;

use crate::hosts::{Host, PATIENCE};
use crate::registry::Image;
use crate::wire::Net;
use crate::{alone, ready};

/// Hosts on a mesh, each with an agent's part that is under test.
struct Cluster {
    hosts: Vec<Host>,
    agents: Vec<Reconciler>,
    reports: Vec<Report>,
    wire: Net,
    view: View,
    tokens: Tokens,
    image: Arc<Image>,
    _folder: tempfile::TempDir,
}

/// What the control plane would keep.
#[derive(Default)]
struct Tokens {
    swarm: Option<String>,
    managers: Vec<Ipv4Addr>,
    worker: String,
}

fn id(slot: u32) -> NodeId {
    NodeId::from_bytes([u8::try_from(slot).unwrap() + 1; 16])
}

fn node(slot: u32) -> NodeRecord {
    let (address, containers) = AddressPlan::default().slot(slot).unwrap();
    let byte = [u8::try_from(slot).unwrap(); 32];
    NodeRecord {
        id: id(slot),
        name: format!("node-{slot}").parse().unwrap(),
        site: format!("site-{slot}").parse().unwrap(),
        arch: bastide_api::Arch::Amd64,
        address,
        containers,
        wireguard: WireGuardKey::from_bytes(byte),
        discovery: DiscoveryKey::from_bytes(byte),
        public: Vec::new(),
        routes: Vec::new(),
        tags: std::collections::BTreeSet::new(),
        expires: UnixTime::from_millis(u64::MAX),
    }
}

fn now() -> UnixTime {
    bastide_linux::clock::wall()
}

impl Cluster {
    /// Starts `count` hosts; `None`, said aloud, if the image cannot be built.
    async fn start(count: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let Some(image) = Image::build(folder.path()) else {
            eprintln!("skipped: rustc for x86_64-unknown-linux-musl is missing");
            return None;
        };
        let image = Arc::new(image);
        let wire = Net::new();
        wire.run("ip link add wire type bridge");
        wire.run("ip link set wire mtu 1420 up");
        let mut hosts = Vec::new();
        for slot in 0..count {
            hosts.push(Self::host(folder.path(), &wire, &image, slot, count).await);
        }
        let agents = hosts.iter().zip(0..);
        let agents =
            agents.map(|(host, slot)| Reconciler::new(host.engine.clone(), id(slot), "bst0"));
        let view = View {
            revision: Revision(1),
            cluster: ClusterRecord {
                id: ClusterId::from_bytes([9; 16]),
                name: "test".parse().unwrap(),
                plan: AddressPlan::default(),
                controllers: vec![Controller {
                    node: id(0),
                    channel: Vec::new(),
                }],
                swarm: SwarmSettings {
                    heartbeat_ms: 2_000,
                    rebalance_after_ms: 1_000,
                },
            },
            nodes: (0..count).map(|slot| (id(slot), node(slot))).collect(),
            stacks: BTreeMap::new(),
            joins: BTreeMap::new(),
        };
        let tokens = Tokens::default();
        let agents = agents.collect();
        let reports = Vec::new();
        Some(Self {
            hosts,
            agents,
            reports,
            wire,
            view,
            tokens,
            image,
            _folder: folder,
        })
    }

    /// Makes a host with the mesh, the settings and the filter that its agent would make.
    async fn host(folder: &Path, wire: &Net, image: &Arc<Image>, slot: u32, count: u32) -> Host {
        let host = Host::start(folder, &format!("host-{slot}")).await;
        let me = node(slot);
        wire.wire(&format!("p{slot}"), &host.net, "bst0");
        wire.run(&format!("ip link set p{slot} mtu 1420 master wire"));
        host.net.run("ip link set bst0 mtu 1420");
        host.net
            .run(&format!("ip addr add {}/32 dev bst0", me.address));
        host.net.run(&format!(
            "ip route add 100.72.0.0/16 dev bst0 src {}",
            me.address
        ));
        for other in (0..count).filter(|other| *other != slot).map(node) {
            let (to, via) = (other.containers, other.address);
            host.net
                .run(&format!("ip route add {to} via {via} dev bst0 onlink"));
        }
        for HostChange { path, value } in firewall::host_changes("bst0") {
            host.net
                .inside(|| std::fs::write(format!("/proc/sys/{path}"), value))
                .unwrap();
        }
        let rules = Rules::new(
            &AddressPlan::default(),
            &me,
            "bst0",
            host.engine.version().major,
        );
        assert_eq!(rules.frames, Frames::DerivedMac);
        host.net
            .inside(|| nft::apply(&firewall::ruleset(&rules)))
            .unwrap();
        image.serve(&host.net);
        host
    }

    /// Lets each agent do one round, and carries the tokens as the control plane would.
    async fn round(&mut self) {
        self.reports.clear();
        for agent in &mut self.agents {
            let token =
                (!self.tokens.worker.is_empty()).then(|| Secret::new(self.tokens.worker.clone()));
            let access = SwarmAccess {
                swarm: self.tokens.swarm.clone().map(SwarmId),
                managers: self.tokens.managers.clone(),
                token,
            };
            let report = agent.step(&self.view, &access, now()).await;
            if let Some(told) = &report.swarm {
                self.tokens = Tokens {
                    swarm: Some(told.swarm.clone()),
                    managers: told.managers.clone(),
                    worker: told.worker_token.clone(),
                };
            }
            self.reports.push(report);
        }
    }

    /// Goes on until `reached`.
    async fn until(&mut self, what: &str, mut reached: impl AsyncFnMut(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            self.round().await;
            if reached(self).await {
                return begin.elapsed();
            }
            let troubles: Vec<String> = self
                .reports
                .iter()
                .flat_map(|report| &report.troubles)
                .map(ToString::to_string)
                .collect();
            assert!(
                begin.elapsed() < PATIENCE,
                "{what} did not come: {troubles:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn members(&self) -> Vec<Member> {
        self.hosts[0].engine.members().await.unwrap_or_default()
    }

    /// Forms the Swarm of all hosts, with the engine's chains open for what we judged.
    async fn form(&mut self) -> Duration {
        let count = self.hosts.len();
        let took = self
            .until("the Swarm", async |cluster| {
                let members = cluster.members().await;
                let quiet = cluster
                    .reports
                    .iter()
                    .all(|report| report.done.is_empty() && Duration::from_secs(1) < report.next);
                quiet && members.iter().filter(|member| member.ready).count() == count
            })
            .await;
        for host in &self.hosts {
            assert!(jump(host), "the jump was not there yet");
            assert!(!jump(host), "the jump is there now");
            host.net.run("iptables -F DOCKER-USER");
            assert!(jump(host), "somebody took it away");
        }
        took
    }

    fn deploy(&mut self, replicas: u32) {
        let image = format!("fixture@{}", self.image.digest);
        let stack = format!(
            r#"{{"name":"hello","services":{{"web":{{"image":"{image}","replicas":{replicas},
            "resources":{{"limit_cpus":500000000,"limit_memory":67108864,"limit_pids":64}},
            "restart":{{"condition":"any","delay":500}},"stop_signal":"SIGKILL"}}}}}}"#
        );
        self.view.stacks.insert("hello".parse().unwrap(), stack);
    }

    /// Returns the addresses of the healthy replicas on each host.
    fn replicas(&self) -> Vec<Vec<Ipv4Addr>> {
        let of = |report: &Report| {
            let tasks = report.tasks.iter().flatten();
            let web = tasks.filter(|task| task.service.is_some() && task.healthy);
            web.map(|task| task.address).collect()
        };
        self.reports.iter().map(of).collect()
    }

    async fn spread(&mut self, what: &str, counts: &[usize]) -> Duration {
        self.until(what, async |cluster| {
            cluster
                .replicas()
                .iter()
                .map(Vec::len)
                .eq(counts.iter().copied())
        })
        .await
    }

    /// Starts a container that waits, on the service network of host `slot`.
    fn client(&self, slot: usize, name: &str) {
        let image = self.image.name();
        let host = &self.hosts[slot];
        host.docker(&format!(
            "run -d --name {name} --network bastide {image} wait"
        ))
        .unwrap();
    }

    fn ask(&self, slot: usize, client: &str, to: Ipv4Addr, port: u16) -> String {
        let host = &self.hosts[slot];
        host.docker(&format!("exec {client} /fixture ask {to}:{port}"))
            .unwrap()
    }
}

/// Answers each question for an address with `answer` on the resolver's address of `net`; returns
/// the names that were asked for (RFC 1035, section 4.1).
fn resolver(net: &Net, answer: Ipv4Addr) -> Arc<Mutex<BTreeSet<String>>> {
    net.run("ip addr add 100.72.0.53/32 dev lo");
    let socket = net.inside(|| UdpSocket::bind("100.72.0.53:53").unwrap());
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let names = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut packet) {
            let (mut at, mut labels) = (12, Vec::new());
            while packet[at] != 0 {
                let end = at + 1 + usize::from(packet[at]);
                labels.push(String::from_utf8_lossy(&packet[at + 1..end]).into_owned());
                at = end;
            }
            let is_address = packet[at + 1..at + 3] == [0, 1];
            let end = at + 5;
            assert!(end <= count);
            names.lock().unwrap().insert(labels.join("."));
            let mut reply = packet[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[6..12].copy_from_slice(&[0, u8::from(is_address), 0, 0, 0, 0]);
            if is_address {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
                reply.extend(answer.octets());
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    asked
}

/// Makes sure of the jump in Docker's chains, inside the host; true if it was not there.
fn jump(host: &Host) -> bool {
    host.net.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(filter::ensure_docker_jump("bst0"))
            .unwrap()
    })
}

fn run(test: impl AsyncFnOnce()) {
    if !ready(&[
        "dockerd",
        "docker",
        "containerd",
        "nft",
        "iptables",
        "ip",
        "nsenter",
        "setpriv",
    ]) {
        return;
    }
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
}

#[test]
fn three_engines_become_one_swarm_whose_services_spread_and_reach_each_other() {
    run(async || {
        let Some(mut cluster) = Cluster::start(3).await else {
            return;
        };
        let formed = cluster.form().await;

        for member in cluster.members().await {
            let slot = u32::from(member.address.unwrap().octets()[3]) - 1;
            assert_eq!(member.labels["bastide.site"], format!("site-{slot}"));
            assert_eq!(member.labels["bastide.node"], format!("node-{slot}"));
            assert_eq!(member.manager, slot == 0);
        }
        let listening = cluster.hosts[0].net.run("ss -Hlntu");
        for port in ["2377", "7946"] {
            let of_port = listening
                .lines()
                .filter(|line| line.contains(&format!(":{port} ")));
            let addresses: BTreeSet<&str> = of_port
                .map(|line| line.split_whitespace().nth(4).unwrap())
                .collect();
            assert_eq!(
                addresses,
                BTreeSet::from([format!("100.72.0.1:{port}").as_str()])
            );
        }
        cluster
            .until("the end of Swarm's ingress", async |cluster| {
                let networks = cluster.hosts[0].engine.networks().await.unwrap();
                !networks.contains_key("ingress")
            })
            .await;

        cluster.deploy(3);
        let deployed = cluster.spread("a replica on each node", &[1, 1, 1]).await;
        eprintln!("formed in {formed:?}, three replicas in {deployed:?}");
        cluster.client(0, "client");
        for replica in cluster.replicas().concat() {
            let answer = cluster.ask(0, "client", replica, 80);
            assert!(
                answer.starts_with("ok ") && answer.ends_with(" 65536"),
                "{replica}: {answer}"
            );
        }
        let mtu = cluster.hosts[0]
            .net
            .run("cat /proc/sys/net/ipv6/conf/bst-containers/mtu");
        assert_eq!(mtu.trim(), "1420");

        // A task asks for a short name: the resolver and the domain are those of its spec.
        let asked = resolver(&cluster.hosts[1].net, cluster.replicas()[2][0]);
        let task = cluster.hosts[1]
            .docker("ps -q --filter name=hello_web")
            .unwrap();
        let host = &cluster.hosts[1];
        let answer = host
            .docker(&format!("exec {task} /fixture ask web:80"))
            .unwrap();
        assert!(answer.starts_with("ok "), "{answer}");
        assert!(
            asked.lock().unwrap().contains("web.hello.test.internal"),
            "{asked:?}"
        );

        cluster.round().await;
        let tasks = cluster.reports[0].tasks.clone().unwrap();
        assert!(
            tasks
                .iter()
                .any(|task| task.name.as_deref() == Some("client")),
            "{tasks:?}"
        );

        cluster.view.stacks.clear();
        cluster.spread("an end of the service", &[0, 0, 0]).await;
    });
}

#[test]
fn from_a_real_container_neither_its_host_nor_the_control_plane_is_reached() {
    run(async || {
        let Some(mut cluster) = Cluster::start(2).await else {
            return;
        };
        cluster.form().await;
        cluster.deploy(2);
        cluster.spread("a replica on each node", &[1, 1]).await;
        let (host, peer) = (node(0).address, node(1).address);
        let serve = |net: &Net, address: Ipv4Addr, port: u16| {
            net.inside(|| std::net::TcpListener::bind((address, port)).unwrap())
        };
        let _listeners = [
            serve(&cluster.hosts[0].net, host, 22),
            serve(&cluster.hosts[0].net, host, 8200),
            serve(&cluster.hosts[1].net, peer, 8200),
        ];
        cluster.client(0, "client");
        let forbidden = [
            (host, 22),
            (host, 8200),
            (host, 2377),
            (peer, 8200),
            (peer, 7946),
        ];
        for (to, port) in forbidden {
            let answer = cluster.ask(0, "client", to, port);
            assert!(
                answer.starts_with("error: ") && !answer.contains("refused"),
                "{to}:{port} {answer}"
            );
        }
        // The controls: the same container asks another, and without our table it gets through.
        let remote = cluster.replicas()[1][0];
        assert!(cluster.ask(0, "client", remote, 80).starts_with("ok "));
        cluster.hosts[0]
            .net
            .inside(|| nft::apply(&firewall::undo()))
            .unwrap();
        let answer = cluster.ask(0, "client", host, 2377);
        assert!(!answer.contains("timed out"), "{answer}");
    });
}

#[test]
fn a_removed_node_leaves_the_swarm_and_its_token_is_void() {
    run(async || {
        let Some(mut cluster) = Cluster::start(3).await else {
            return;
        };
        cluster.form().await;
        let before = cluster.tokens.worker.clone();
        cluster.view.nodes.remove(&id(2));
        let took = cluster
            .until("its removal", async |cluster| {
                cluster.members().await.len() == 2
            })
            .await;
        eprintln!("removed in {took:?}");
        assert_ne!(cluster.tokens.worker, before);

        let removed = &cluster.hosts[2].engine;
        let (address, manager) = (node(2).address, [node(0).address]);
        removed.leave_swarm().await.unwrap();
        let void = removed
            .join_swarm(address, &manager, &Secret::new(before))
            .await;
        let void = void.expect_err("the old token is void").to_string();
        assert!(void.contains("token"), "{void}");
        removed.leave_swarm().await.unwrap();
        let valid = Secret::new(cluster.tokens.worker.clone());
        removed
            .join_swarm(address, &manager, &valid)
            .await
            .expect("the new token is not");
    });
}

#[test]
fn replicas_return_to_a_node_that_was_away() {
    run(async || {
        let Some(mut cluster) = Cluster::start(3).await else {
            return;
        };
        cluster.form().await;
        cluster.deploy(3);
        cluster.spread("a replica on each node", &[1, 1, 1]).await;

        cluster.wire.run("ip link set p2 down");
        let away = cluster
            .until("three replicas on two nodes", async |cluster| {
                cluster.replicas()[..2].concat().len() == 3
            })
            .await;
        cluster.wire.run("ip link set p2 up");
        let back = cluster
            .spread("a replica on each node again", &[1, 1, 1])
            .await;
        eprintln!("replaced in {away:?}, spread again in {back:?}");
        let fresh = cluster.replicas()[2][0];
        cluster.client(0, "client");
        assert!(cluster.ask(0, "client", fresh, 80).starts_with("ok "));
    });
}

#[test]
fn a_node_that_was_removed_and_taken_in_again_is_a_member_again() {
    run(async || {
        let Some(mut cluster) = Cluster::start(2).await else {
            return;
        };
        cluster.form().await;
        let taken = cluster.view.nodes.remove(&id(1)).unwrap();
        cluster
            .until("its removal", async |cluster| {
                let removed = cluster.hosts[1].engine.membership().await.unwrap();
                removed.phase == Phase::Inactive && cluster.members().await.len() == 1
            })
            .await;
        cluster.view.nodes.insert(id(1), taken);
        let back = cluster
            .until("its return", async |cluster| {
                let members = cluster.members().await;
                members.iter().filter(|member| member.ready).count() == 2
            })
            .await;
        eprintln!("a member again in {back:?}");
    });
}

#[test]
fn a_port_that_a_service_publishes_is_reached_from_the_world_and_its_address_is_not() {
    run(async || {
        let Some(mut cluster) = Cluster::start(1).await else {
            return;
        };
        cluster.form().await;
        cluster.deploy(1);
        let text = cluster.view.stacks.values_mut().next().unwrap();
        let ports = r#""stop_signal":"SIGKILL","ports":[{"target":80,"published":8080}]"#;
        *text = text.replace(r#""stop_signal":"SIGKILL""#, ports);
        cluster.spread("the replica", &[1]).await;

        let (host, world) = (&cluster.hosts[0].net, Net::new());
        host.wire("eth0", &world, "eth0");
        host.run("ip addr add 203.0.113.1/24 dev eth0");
        world.run("ip addr add 203.0.113.9/24 dev eth0");
        world.run("ip route add default via 203.0.113.1");
        let reach = |address: Ipv4Addr, port: u16| {
            let to = std::net::SocketAddr::from((address, port));
            let patience = Duration::from_millis(500);
            world
                .inside(|| std::net::TcpStream::connect_timeout(&to, patience))
                .is_ok()
        };
        assert!(reach(Ipv4Addr::new(203, 0, 113, 1), 8080));
        assert!(!reach(cluster.replicas()[0][0], 80));
    });
}

#[test]
fn an_engine_that_leaves_keeps_nothing_of_ours() {
    run(async || {
        let Some(mut cluster) = Cluster::start(2).await else {
            return;
        };
        cluster.form().await;
        cluster.deploy(2);
        cluster.spread("a replica on each node", &[1, 1]).await;
        for (agent, host) in cluster.agents.iter().zip(&cluster.hosts) {
            agent.leave().await.unwrap();
            let left: Vec<String> = host.engine.networks().await.unwrap().into_keys().collect();
            assert_eq!(left, ["bridge", "host", "none"]);
            host.net.inside(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime
                    .unwrap()
                    .block_on(filter::remove_docker_jump())
                    .unwrap();
            });
            assert!(!host.net.run("iptables -S").contains("BASTIDE"));
        }
    });
}
