//! The Swarm itself and its members.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bastide_api::Secret;
use bastide_api::ports;
use bollard::models;
use bollard::query_parameters::{
    DeleteNodeOptionsBuilder, LeaveSwarmOptionsBuilder, ListNodesOptions, UpdateNodeOptionsBuilder,
    UpdateSwarmOptionsBuilder,
};
use ipnet::Ipv4Net;

use super::error::{EngineError, Object};
use super::{Engine, raw};
use crate::core::state::{Availability, Member, MemberId, Membership, Phase, SwarmId};

/// How long a member's certificate of Swarm lives: one that was removed while it could not be
/// reached is nobody a day later.
const CERTIFICATE_LIFE: Duration = Duration::from_hours(24);
/// How an engine says that it waited too long for a part of itself.
const GAVE_UP_WAITING: &str = "context deadline exceeded";

/// The tokens with which an engine joins a Swarm. Secret.
pub struct JoinTokens {
    /// As a worker.
    pub worker: Secret<String>,
    /// As a manager.
    pub manager: Secret<String>,
}

/// A manager's Swarm.
pub(crate) struct Swarm {
    pub id: SwarmId,
    pub heartbeat_ms: u64,
    pub tokens: JoinTokens,
}

impl Engine {
    /// Asks whether and how the engine is a member of a Swarm.
    pub async fn membership(&self) -> Result<Membership, EngineError> {
        Ok(self.info().await?.0)
    }

    /// Asks for the membership and for the folder that the engine keeps everything in.
    pub(crate) async fn info(&self) -> Result<(Membership, Option<PathBuf>), EngineError> {
        let info = Object::new("asking", "info")
            .ask(self.docker.info())
            .await?;
        let membership = membership(info.swarm.unwrap_or_default());
        Ok((membership, info.docker_root_dir.map(PathBuf::from)))
    }

    /// Begins a Swarm that listens on `address` only.
    pub async fn init_swarm(
        &self,
        address: Ipv4Addr,
        pool: Ipv4Net,
        heartbeat: Duration,
    ) -> Result<(), EngineError> {
        let request = models::SwarmInitRequest {
            listen_addr: Some(format!("{address}:{}", ports::SWARM_MANAGER)),
            advertise_addr: Some(address.to_string()),
            data_path_addr: Some(address.to_string()),
            default_addr_pool: Some(vec![pool.to_string()]),
            subnet_size: Some(24.max(u32::from(pool.prefix_len()))),
            spec: Some(models::SwarmSpec {
                dispatcher: Some(models::SwarmSpecDispatcher {
                    heartbeat_period: Some(nanos(heartbeat)),
                }),
                ca_config: Some(models::SwarmSpecCaConfig {
                    node_cert_expiry: Some(nanos(CERTIFICATE_LIFE)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let object = Object::new("beginning a Swarm at", address.to_string());
        object.ask(self.docker.init_swarm(request)).await?;
        Ok(())
    }

    /// Goes on as the only manager of the Swarm that this engine knows, listening on `address` only.
    /// The other managers are none any more.
    pub async fn force_swarm(&self, address: Ipv4Addr) -> Result<(), EngineError> {
        let request = models::SwarmInitRequest {
            listen_addr: Some(format!("{address}:{}", ports::SWARM_MANAGER)),
            advertise_addr: Some(address.to_string()),
            data_path_addr: Some(address.to_string()),
            force_new_cluster: Some(true),
            ..Default::default()
        };
        let object = Object::new("forcing the Swarm to go on at", address.to_string());
        object.ask(self.docker.init_swarm(request)).await?;
        Ok(())
    }

    /// Joins the Swarm of `managers`, listening on `address` only, in the role that `token` gives.
    /// It gets no tasks until a manager lets it.
    pub async fn join_swarm(
        &self,
        address: Ipv4Addr,
        managers: &[Ipv4Addr],
        token: &Secret<String>,
    ) -> Result<(), EngineError> {
        let manager = |address: &Ipv4Addr| format!("{address}:{}", ports::SWARM_MANAGER);
        let mut request = serde_json::to_value(models::SwarmJoinRequest {
            listen_addr: Some(format!("{address}:{}", ports::SWARM_MANAGER)),
            advertise_addr: Some(address.to_string()),
            data_path_addr: Some(address.to_string()),
            remote_addrs: Some(managers.iter().map(manager).collect()),
            join_token: Some(token.expose().clone()),
        })
        .expect("a request is JSON");
        // The library's type lacks this field of the API.
        request["Availability"] = "pause".into();
        let object = Object::new("joining the Swarm of", join(managers));
        raw::post(&self.socket, self.version.api, "/swarm/join", &request)
            .await
            .map_err(|e| object.failed(e))
    }

    /// Leaves the Swarm, whatever runs.
    pub async fn leave_swarm(&self) -> Result<(), EngineError> {
        let options = LeaveSwarmOptionsBuilder::new().force(true).build();
        let leave = || async {
            let object = Object::new("leaving", "the Swarm");
            object
                .ask(self.docker.leave_swarm(Some(options.clone())))
                .await
        };
        let left = match leave().await {
            // The only manager stops its own parts in no order, and may wait for one that is gone
            // (Docker 28.5). It has stopped them all by then: the next call finds that.
            Err(EngineError::Refused { message, .. }) if message.contains(GAVE_UP_WAITING) => {
                leave().await
            }
            other => other,
        };
        match left {
            // 503: it is no member.
            Err(error) if error.status() == Some(503) => Ok(()),
            other => other,
        }
    }

    /// Asks a manager for its Swarm.
    pub(crate) async fn swarm(&self) -> Result<Swarm, EngineError> {
        let object = Object::new("inspecting", "the Swarm");
        let swarm = object.ask(self.docker.inspect_swarm()).await?;
        let dispatcher = swarm
            .spec
            .and_then(|spec| spec.dispatcher)
            .unwrap_or_default();
        let tokens = swarm.join_tokens.unwrap_or_default();
        let heartbeat = dispatcher.heartbeat_period.unwrap_or_default() / 1_000_000;
        Ok(Swarm {
            id: SwarmId(swarm.id.unwrap_or_default()),
            heartbeat_ms: u64::try_from(heartbeat).unwrap_or_default(),
            tokens: JoinTokens {
                worker: Secret::new(tokens.worker.unwrap_or_default()),
                manager: Secret::new(tokens.manager.unwrap_or_default()),
            },
        })
    }

    /// Asks a manager for the tokens with which engines join its Swarm.
    pub async fn join_tokens(&self) -> Result<JoinTokens, EngineError> {
        Ok(self.swarm().await?.tokens)
    }

    /// Makes new join tokens; those that were given out are void.
    pub async fn rotate_tokens(&self) -> Result<(), EngineError> {
        let object = Object::new("rotating the join tokens of", "the Swarm");
        self.update_swarm(&object, Rotate::Tokens, |_| ()).await
    }

    /// Sets the dispatcher's heartbeat.
    pub async fn set_heartbeat(&self, heartbeat: Duration) -> Result<(), EngineError> {
        let object = Object::new("setting the heartbeat of", "the Swarm");
        self.update_swarm(&object, Rotate::Nothing, |spec| {
            spec.dispatcher = Some(models::SwarmSpecDispatcher {
                heartbeat_period: Some(nanos(heartbeat)),
            });
        })
        .await
    }

    async fn update_swarm(
        &self,
        object: &Object,
        rotate: Rotate,
        change: impl FnOnce(&mut models::SwarmSpec),
    ) -> Result<(), EngineError> {
        let swarm = object.ask(self.docker.inspect_swarm()).await?;
        let mut spec = swarm.spec.unwrap_or_default();
        change(&mut spec);
        let version = swarm
            .version
            .and_then(|version| version.index)
            .unwrap_or_default();
        let tokens = matches!(rotate, Rotate::Tokens);
        let options = UpdateSwarmOptionsBuilder::new()
            .version(i64::try_from(version).unwrap_or(i64::MAX))
            .rotate_worker_token(tokens)
            .rotate_manager_token(tokens)
            .build();
        object.ask(self.docker.update_swarm(spec, options)).await
    }

    /// Lists the members, on a manager.
    pub async fn members(&self) -> Result<Vec<Member>, EngineError> {
        let listed = Object::new("listing", "Swarm nodes")
            .ask(self.docker.list_nodes(None::<ListNodesOptions>))
            .await?;
        Ok(listed.into_iter().filter_map(member).collect())
    }

    /// Gives a member its labels and lets it have tasks, unless an operator drained it.
    pub async fn admit(
        &self,
        id: &MemberId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let object = Object::new("admitting Swarm node", id.0.clone());
        let node = object.ask(self.docker.inspect_node(&id.0)).await?;
        let mut spec = node.spec.unwrap_or_default();
        spec.labels = Some(labels.clone().into_iter().collect());
        if spec.availability != Some(models::NodeSpecAvailabilityEnum::DRAIN) {
            spec.availability = Some(models::NodeSpecAvailabilityEnum::ACTIVE);
        }
        let version = node
            .version
            .and_then(|version| version.index)
            .unwrap_or_default();
        let options = UpdateNodeOptionsBuilder::new()
            .version(i64::try_from(version).unwrap_or(i64::MAX))
            .build();
        object
            .ask(self.docker.update_node(&id.0, spec, options))
            .await
    }

    /// Makes a manager a worker; one that does not exist is none already.
    pub async fn demote(&self, id: &MemberId) -> Result<(), EngineError> {
        let object = Object::new("demoting Swarm node", id.0.clone());
        let node = match object.ask(self.docker.inspect_node(&id.0)).await {
            Err(error) if error.status() == Some(404) => return Ok(()),
            node => node?,
        };
        let mut spec = node.spec.unwrap_or_default();
        spec.role = Some(models::NodeSpecRoleEnum::WORKER);
        let version = node
            .version
            .and_then(|version| version.index)
            .unwrap_or_default();
        let options = UpdateNodeOptionsBuilder::new()
            .version(i64::try_from(version).unwrap_or(i64::MAX))
            .build();
        let demoted = object.ask(self.docker.update_node(&id.0, spec, options));
        demoted.await
    }

    /// Removes a member, whatever it runs; one that does not exist is removed already.
    pub async fn remove_member(&self, id: &MemberId) -> Result<(), EngineError> {
        let options = DeleteNodeOptionsBuilder::new().force(true).build();
        match Object::new("removing Swarm node", id.0.clone())
            .ask(self.docker.delete_node(&id.0, Some(options)))
            .await
        {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }
}

enum Rotate {
    Nothing,
    Tokens,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn join(addresses: &[Ipv4Addr]) -> String {
    addresses
        .iter()
        .map(Ipv4Addr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads `address` or `address:port`; Swarm writes `0.0.0.0` before it knows.
fn address(text: Option<&str>) -> Option<Ipv4Addr> {
    let text = text?;
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    host.parse()
        .ok()
        .filter(|address: &Ipv4Addr| !address.is_unspecified())
}

fn membership(info: models::SwarmInfo) -> Membership {
    let error = info.error.unwrap_or_default();
    let phase = match info.local_node_state {
        Some(models::LocalNodeState::ACTIVE) => Phase::Active,
        Some(models::LocalNodeState::PENDING) => Phase::Pending,
        Some(models::LocalNodeState::ERROR) => Phase::Error(error),
        Some(models::LocalNodeState::LOCKED) => Phase::Locked,
        Some(models::LocalNodeState::INACTIVE | models::LocalNodeState::EMPTY) | None => {
            Phase::Inactive
        }
    };
    let managers = info.remote_managers.unwrap_or_default();
    Membership {
        phase,
        member: info.node_id.filter(|id| !id.is_empty()).map(MemberId),
        swarm: info.cluster.and_then(|cluster| cluster.id).map(SwarmId),
        address: address(info.node_addr.as_deref()),
        manager: info.control_available.unwrap_or(false),
        managers: managers
            .iter()
            .filter_map(|one| address(one.addr.as_deref()))
            .collect(),
        manager_ids: managers
            .into_iter()
            .filter_map(|one| one.node_id)
            .map(MemberId)
            .collect(),
    }
}

fn member(node: models::Node) -> Option<Member> {
    let spec = node.spec.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let seen = address(status.addr.as_deref());
    let managed = node
        .manager_status
        .as_ref()
        .and_then(|status| address(status.addr.as_deref()));
    Some(Member {
        id: MemberId(node.id?),
        address: managed.or(seen),
        ready: status.state == Some(models::NodeState::READY),
        availability: match spec.availability {
            Some(models::NodeSpecAvailabilityEnum::PAUSE) => Availability::Pause,
            Some(models::NodeSpecAvailabilityEnum::DRAIN) => Availability::Drain,
            Some(
                models::NodeSpecAvailabilityEnum::ACTIVE | models::NodeSpecAvailabilityEnum::EMPTY,
            )
            | None => Availability::Active,
        },
        manager: node.manager_status.is_some(),
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
    })
}
