//! A Swarm that lost its managers is made whole.

use std::fs;
use std::time::{Duration, Instant};

use bastide_cluster::core::state::Phase;

use crate::cluster::{Cluster, id, node, run};
use crate::long;

/// Waits until every member is there and quiet, and each of these hosts runs so many replicas.
async fn whole(cluster: &mut Cluster, ready: usize, counts: &[usize]) -> Duration {
    cluster
        .until("a whole Swarm", async |cluster| {
            let survivor = (0..cluster.hosts.len()).find(|slot| !cluster.lost.contains(slot));
            let managed = cluster.reports[survivor.unwrap()].managed.clone();
            let is_ready = managed.is_some_and(|managed| {
                let run = managed.services.values();
                managed.ready.len() == ready && run.clone().all(|(run, want)| run == want)
            });
            is_ready
                && cluster
                    .replicas()
                    .iter()
                    .map(Vec::len)
                    .eq(counts.iter().copied())
        })
        .await
}

/// Waits until the survivor says what mends it.
async fn told(cluster: &mut Cluster) {
    cluster
        .until("a word about it", async |cluster| {
            let troubles = &cluster.reports[0].troubles;
            troubles
                .iter()
                .any(|trouble| trouble.to_string().contains("bastide cluster rebuild"))
        })
        .await;
}

fn traffic(cluster: &Cluster, slot: usize) {
    cluster.client(slot, "after");
    for replica in cluster.replicas().concat() {
        let answer = cluster.ask(slot, "after", replica, 80);
        assert!(answer.starts_with("ok "), "{replica}: {answer}");
    }
}

#[test]
fn a_manager_that_lost_its_state_begins_anew_and_stale_workers_rejoin_by_themselves() {
    run(async || {
        let Some(mut cluster) = Cluster::start(3).await else {
            return;
        };
        cluster.form().await;
        cluster.deploy(3);
        cluster.spread("a replica on each node", &[1, 1, 1]).await;
        let former = cluster.tokens.swarm.clone();

        cluster.hosts[0].stop_engine();
        fs::remove_dir_all(cluster.hosts[0].data().join("swarm")).unwrap();
        let began = Instant::now();
        cluster.hosts[0].start_engine().await;
        // A new Swarm without being asked: nothing of the old one is left here.
        whole(&mut cluster, 3, &[1, 1, 1]).await;
        eprintln!("whole {:?} after the state was lost", began.elapsed());
        assert_ne!(cluster.tokens.swarm, former);
        traffic(&cluster, 1);

        // State that is there and damaged may be worth something: a person decides.
        cluster.hosts[0].stop_engine();
        fs::remove_dir_all(cluster.hosts[0].data().join("swarm/raft")).unwrap();
        fs::write(cluster.hosts[0].data().join("swarm/raft"), "damaged").unwrap();
        cluster.hosts[0].start_engine().await;
        told(&mut cluster).await;
        let found = cluster.hosts[0].engine.membership().await.unwrap();
        assert!(matches!(found.phase, Phase::Error(_)), "{found:?}");
        let began = Instant::now();
        cluster.rebuild(0, false).await.unwrap();
        whole(&mut cluster, 3, &[1, 1, 1]).await;
        eprintln!("whole {:?} after the command", began.elapsed());
        traffic(&cluster, 2);
        let refused = cluster.rebuild(0, false).await.unwrap_err().to_string();
        assert!(refused.contains("nothing to rebuild"), "{refused}");
    });
}

#[test]
fn the_last_of_three_managers_keeps_its_swarm_and_goes_on_alone() {
    run(async || {
        let Some(mut cluster) = Cluster::start(3).await else {
            return;
        };
        cluster.controllers(3);
        cluster.form().await;
        let members = cluster.members().await;
        assert!(members.iter().all(|member| member.manager), "{members:?}");
        cluster.deploy(3);
        cluster.spread("a replica on each node", &[1, 1, 1]).await;
        let former = cluster.tokens.swarm.clone();

        for slot in [1, 2] {
            cluster.hosts[slot].stop_engine();
            cluster.lost.insert(slot);
        }
        let asked = Instant::now();
        told(&mut cluster).await;
        eprintln!("told {:?} after the loss", asked.elapsed());

        let began = Instant::now();
        cluster.rebuild(0, false).await.unwrap();
        eprintln!("forced in {:?}", began.elapsed());
        for slot in [1, 2] {
            cluster.view.nodes.remove(&id(slot));
        }
        // Some engines refuse every task then, and say so, until their operator starts them anew.
        cluster
            .until("tasks, or word of why not", async |cluster| {
                cluster.replicas()[0].len() == 3 || is_deaf(cluster)
            })
            .await;
        if is_deaf(&cluster) {
            eprintln!("deaf {:?} after the command", began.elapsed());
            cluster.hosts[0].stop_engine();
            cluster.hosts[0].start_engine().await;
        }
        whole(&mut cluster, 1, &[3, 0, 0]).await;
        eprintln!("whole {:?} after the command", began.elapsed());
        assert_eq!(cluster.members().await.len(), 1, "the lost are removed");
        assert_eq!(cluster.tokens.managers, [node(0).address]);
        assert_eq!(cluster.tokens.swarm, former, "it was kept");
        traffic(&cluster, 0);
        if !long() {
            return;
        }

        // Those that return find themselves removed; they are nodes again once the view says so.
        for slot in [1, 2] {
            cluster.hosts[slot].start_engine().await;
            cluster.lost.remove(&slot);
            let back = node(u32::try_from(slot).unwrap());
            cluster.view.nodes.insert(back.id, back);
        }
        cluster
            .until("three members again", async |cluster| {
                let members = cluster.members().await;
                members.len() == 3 && members.iter().all(|member| member.ready)
            })
            .await;
        eprintln!("three members {:?} after the command", began.elapsed());
    });
}

/// Whether the first engine is told to have missed that its Swarm is active.
fn is_deaf(cluster: &Cluster) -> bool {
    let told = cluster
        .reports
        .first()
        .into_iter()
        .flat_map(|report| &report.troubles);
    told.map(ToString::to_string).any(|line| {
        line.contains("refuses every task") && line.contains("systemctl restart docker")
    })
}
