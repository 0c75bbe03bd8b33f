//! Three engines on a mesh.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bastide_api::Secret;
use bastide_cluster::core::state::Phase;
use bastide_cluster::{filter, firewall};
use bastide_linux::nft;

use crate::cluster::{Cluster, id, node, resolver, run};
use crate::wire::Net;

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
