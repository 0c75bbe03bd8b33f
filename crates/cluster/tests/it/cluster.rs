//! Hosts on a mesh, each with an engine and the part of an agent that is under test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bastide_api::v1::SwarmReport;
use bastide_api::{
    AddressPlan, ClusterId, ClusterRecord, Controller, DiscoveryKey, NodeId, NodeRecord, Revision,
    Secret, SwarmSettings, UnixTime, View, WireGuardKey,
};
use bastide_cluster::core::state::{Member, MemberId, SwarmId};
use bastide_cluster::firewall::{self, Frames, HostChange, Rules};
use bastide_cluster::{RebuildError, Reconciler, Report, SwarmAccess, filter};
use bastide_linux::nft;

use crate::hosts::{Host, PATIENCE};
use crate::registry::Image;
use crate::wire::Net;
use crate::{alone, ready};

/// Hosts on a mesh, each with an agent's part that is under test.
pub struct Cluster {
    pub hosts: Vec<Host>,
    pub agents: Vec<Reconciler>,
    pub reports: Vec<Report>,
    pub wire: Net,
    pub view: View,
    pub tokens: Tokens,
    /// Hosts that are gone for good.
    pub lost: BTreeSet<usize>,
    image: Arc<Image>,
    _folder: tempfile::TempDir,
}

/// What the control plane would keep.
#[derive(Default)]
pub struct Tokens {
    pub swarm: Option<String>,
    pub managers: Vec<Ipv4Addr>,
    manager_ids: BTreeSet<MemberId>,
    pub worker: String,
    manager: String,
}

pub fn id(slot: u32) -> NodeId {
    NodeId::from_bytes([u8::try_from(slot).unwrap() + 1; 16])
}

pub fn node(slot: u32) -> NodeRecord {
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
        tags: BTreeSet::new(),
        expires: UnixTime::from_millis(u64::MAX),
    }
}

fn now() -> UnixTime {
    bastide_linux::clock::wall()
}

impl Cluster {
    /// Starts `count` hosts; `None`, said aloud, if the image cannot be built.
    pub async fn start(count: u32) -> Option<Self> {
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
            lost: BTreeSet::new(),
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
    pub async fn round(&mut self) {
        self.reports.clear();
        for slot in 0..self.agents.len() {
            let access = self.access(slot);
            let agent = &mut self.agents[slot];
            let report = if self.lost.contains(&slot) {
                Report::default()
            } else {
                agent.step(&self.view, &access, &[], now()).await
            };
            if let Some(told) = &report.swarm {
                self.told(told);
            }
            self.reports.push(report);
        }
    }

    /// What the control plane would answer the agent of host `slot`.
    pub fn access(&self, slot: usize) -> SwarmAccess {
        let is_controller = slot < self.view.cluster.controllers.len();
        let token = if is_controller {
            &self.tokens.manager
        } else {
            &self.tokens.worker
        };
        SwarmAccess {
            swarm: self.tokens.swarm.clone().map(SwarmId),
            managers: self.tokens.managers.clone(),
            manager_ids: self.tokens.manager_ids.clone(),
            token: (!token.is_empty()).then(|| Secret::new(token.clone())),
        }
    }

    /// What the control plane would keep of a manager's report.
    pub fn told(&mut self, told: &SwarmReport) {
        self.tokens = Tokens {
            swarm: Some(told.swarm.clone()),
            managers: told.managers.clone(),
            manager_ids: told.manager_ids.iter().cloned().map(MemberId).collect(),
            worker: told.worker_token.clone(),
            manager: told.manager_token.clone(),
        };
    }

    /// Lets the first `count` hosts run the control plane.
    pub fn controllers(&mut self, count: u32) {
        self.view.cluster.controllers = (0..count)
            .map(|slot| Controller {
                node: id(slot),
                channel: Vec::new(),
            })
            .collect();
    }

    /// Rebuilds the Swarm from host `slot`.
    pub async fn rebuild(&mut self, slot: usize, anew: bool) -> Result<(), RebuildError> {
        let access = self.access(slot);
        let agent = &mut self.agents[slot];
        let told = agent.rebuild(&self.view, &access, &[], anew).await?;
        self.told(&told);
        Ok(())
    }

    /// Goes on until `reached`.
    pub async fn until(
        &mut self,
        what: &str,
        mut reached: impl AsyncFnMut(&Self) -> bool,
    ) -> Duration {
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

    pub async fn members(&self) -> Vec<Member> {
        self.hosts[0].engine.members().await.unwrap_or_default()
    }

    /// Forms the Swarm of all hosts, with the engine's chains open for what we judged.
    pub async fn form(&mut self) -> Duration {
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

    pub fn deploy(&mut self, replicas: u32) {
        let image = format!("fixture@{}", self.image.digest);
        let stack = format!(
            r#"{{"name":"hello","services":{{"web":{{"image":"{image}","replicas":{replicas},
            "resources":{{"limit_cpus":500000000,"limit_memory":67108864,"limit_pids":64}},
            "restart":{{"condition":"any","delay":500}},"stop_signal":"SIGKILL"}}}}}}"#
        );
        self.view.stacks.insert("hello".parse().unwrap(), stack);
    }

    /// Returns the addresses of the healthy replicas on each host.
    pub fn replicas(&self) -> Vec<Vec<Ipv4Addr>> {
        let of = |report: &Report| {
            let tasks = report.tasks.iter().flatten();
            let web = tasks.filter(|task| task.service.is_some() && task.healthy);
            web.map(|task| task.address).collect()
        };
        self.reports.iter().map(of).collect()
    }

    pub async fn spread(&mut self, what: &str, counts: &[usize]) -> Duration {
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
    pub fn client(&self, slot: usize, name: &str) {
        let image = self.image.name();
        let host = &self.hosts[slot];
        host.docker(&format!(
            "run -d --name {name} --network bastide {image} wait"
        ))
        .unwrap();
    }

    pub fn ask(&self, slot: usize, client: &str, to: Ipv4Addr, port: u16) -> String {
        let host = &self.hosts[slot];
        host.docker(&format!("exec {client} /fixture ask {to}:{port}"))
            .unwrap()
    }
}

/// Answers each question for an address with `answer` on the resolver's address of `net`; returns
/// the names that were asked for (RFC 1035, section 4.1).
pub fn resolver(net: &Net, answer: Ipv4Addr) -> Arc<Mutex<BTreeSet<String>>> {
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
pub fn jump(host: &Host) -> bool {
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

pub fn run(test: impl AsyncFnOnce()) {
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
