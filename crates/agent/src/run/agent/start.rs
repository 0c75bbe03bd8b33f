//! How the agent starts: first what needs no device, then what listens on the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bastide_api::ports;
use bastide_client::TaskGroup;
use bastide_cluster::images::{Fetcher, Peers, serve_loopback, serve_peers};
use bastide_mesh::{Mesh, MeshConfig};
use bastide_names::{Resolver, ResolverConfig, Zone};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::{Agent, AgentError};
use crate::core::journal::Change;
use crate::run::engine::{EngineLoop, EngineState};
use crate::run::follow::{self, Picture};
use crate::run::host::{INTERFACE, MeshDevice};
use crate::run::images::{self, ImageError};
use crate::run::ledger::Ledger;
use crate::run::membership::{Member, fresh_key};
use crate::run::report::{self, Observed};
use crate::run::sessions::Sessions;
use crate::run::socket;
use crate::run::sshd::Sshd;
use crate::run::state::StateDir;
use crate::run::upkeep;

/// Orders for the engine's loop that may wait: it takes one between two rounds, and a round may take a
/// while where the engine is slow. More are refused.
const ORDERS_MAX: usize = 4;

impl Agent {
    pub(super) async fn start(
        state: StateDir,
        member: Member,
        ledger: Ledger,
        socket: &Path,
    ) -> Result<Self, AgentError> {
        let me = member.node();
        let settings = member.settings();
        let mesh = start_mesh(&state, &member, &ledger).await?;
        let mut tasks = TaskGroup::new();
        let first = follow::first_picture(&state, &member);
        let zone = Zone::build(&first.view, &first.facts, &BTreeSet::new());
        let (zone, _) = watch::channel(Arc::new(zone));
        let (pictures_sender, pictures) = watch::channel(first);
        let (paths, paths_receiver) = watch::channel(BTreeMap::new());
        let (engine_sender, engine) = watch::channel(EngineState::default());
        let (orders, orders_receiver) = mpsc::channel(ORDERS_MAX);
        let (image_peers, image_addresses) = watch::channel(Vec::new());
        let (upstreams, _) = watch::channel(Vec::new());
        let blobs = Arc::new(images::open(state.images())?);
        let sshd = Sshd::new(member.clone(), pictures.clone(), state.path());
        let (listener, router, inbox) = socket::open(socket)?;
        let router = router.merge(sshd.routes());
        let mut front = TaskGroup::new();
        let stop = front.stop_token();
        front.spawn("socket", async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        });
        let follower = follow::follow(state.clone(), member.clone(), pictures_sender);
        tasks.spawn("watch", endless(follower));
        let observed = Observed {
            endpoints: mesh.endpoints(),
            paths: paths_receiver,
            engine: engine.clone(),
            clock: member.clock().clone(),
            pictures: pictures.clone(),
        };
        tasks.spawn("report", endless(report::run(observed, member.clone())));
        let fetcher = Fetcher::new(
            Arc::clone(&blobs),
            Peers {
                addresses: image_addresses,
                tls: None,
            },
        );
        let loopback = images::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::IMAGES)))?;
        let loopback = TcpListener::from_std(loopback).map_err(ImageError::from)?;
        tasks.spawn(
            "images",
            endless(serve_loopback(loopback, Arc::new(fetcher))),
        );
        let engine_loop = EngineLoop {
            socket: settings.engine,
            me,
            pictures: pictures.clone(),
            member: member.clone(),
            ledger: ledger.clone(),
            state: engine_sender,
            orders: orders_receiver,
            standing: member.standing(),
        };
        tasks.spawn("engine", endless(engine_loop.run()));
        let swept = images::sweep(Arc::clone(&blobs), pictures.clone());
        tasks.spawn("image sweep", endless(swept));
        let missing = Arc::new(Notify::new());
        let upkeep = upkeep::run(pictures.clone(), me, Arc::clone(&missing));
        tasks.spawn("upkeep", endless(upkeep));
        tasks.spawn("sshd", endless(sshd.run()));
        Ok(Self {
            standing: member.standing(),
            member,
            me,
            ledger,
            mesh,
            device: MeshDevice::default(),
            rules: None,
            paths,
            pictures,
            engine,
            orders,
            zone,
            image_peers,
            upstreams,
            blobs,
            inbox,
            socket: socket.to_owned(),
            tasks,
            front,
            has_resolver: false,
            missing,
            is_outside: false,
            peers_until: None,
        })
    }

    /// Starts what listens on the mesh device's addresses, which exist from now on.
    pub(super) async fn start_on_mesh(&mut self, picture: &Picture) {
        let Some(own) = picture.view.nodes.get(&self.me) else {
            return;
        };
        let plan = &picture.view.cluster.plan;
        let sources = [plan.mesh, plan.containers].map(IpNet::V4).to_vec();
        let config = ResolverConfig {
            listen: SocketAddr::from((plan.dns, ports::DNS)),
            sources,
            upstreams: self.upstreams.subscribe(),
        };
        let here = |port| TcpListener::bind((own.address, port));
        let started = tokio::try_join!(
            async { Ok(Resolver::start(config, self.zone.subscribe()).await) },
            here(ports::IMAGES),
            here(ports::SESSIONS),
        );
        match started {
            Ok((Ok(resolver), listener, sessions)) => {
                self.tasks.spawn("names", endless(resolver.run()));
                let blobs = Arc::clone(&self.blobs);
                self.tasks.spawn(
                    "images for peers",
                    endless(serve_peers(listener, blobs, None)),
                );
                let serve = Sessions::new(self.member.clone()).serve(sessions);
                self.tasks.spawn("sessions", endless(serve));
                self.has_resolver = true;
                info!(address = %own.address, "on the mesh");
            }
            Ok((Err(error), _, _)) => warn!(%error, "names are not answered"),
            Err(error) => warn!(%error, "images and sessions are not served"),
        }
    }
}

/// Starts the mesh, with its device written down before it is made.
async fn start_mesh(
    state: &StateDir,
    member: &Member,
    ledger: &Ledger,
) -> Result<Mesh, AgentError> {
    let answer = member.answer();
    let plan = &answer.cluster.plan;
    ledger.record(Change::Interface {
        name: INTERFACE.to_owned(),
    })?;
    Mesh::start(MeshConfig {
        interface: INTERFACE.to_owned(),
        port: ports::MESH,
        private_key: state.wireguard(fresh_key)?,
        discovery_key: state.discovery(fresh_key)?,
        node: member.node(),
        mtu: plan.mtu,
        state: state.mesh(),
        public: member.settings().public,
        exclude: vec![
            plan.mesh,
            plan.containers,
            plan.swarm_pool,
            plan.swarm_gateway,
        ],
    })
    .await
    .map_err(AgentError::Mesh)
}

/// A task that ends only when it is dropped.
async fn endless(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}
