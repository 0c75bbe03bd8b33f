//! Services: how a [`Wish`] is said to Swarm.

use std::collections::HashMap;

use bastide_stack::{
    FailureAction, Healthcheck, Protocol, Resources, Restart, RestartCondition, Update, UpdateOrder,
};
use bollard::models;
use bollard::query_parameters::{ListServicesOptions, UpdateServiceOptionsBuilder};

use super::Engine;
use super::error::{EngineError, Object};
use crate::core::facts::LABEL_STACK;
use crate::core::service::{LABEL_REVISION, Wish};
use crate::core::state::{ServiceId, SwarmService, UpdateState};
use crate::core::swarm::NETWORK;

impl Engine {
    /// Lists the services, on a manager.
    pub async fn services(&self) -> Result<Vec<SwarmService>, EngineError> {
        let listed = Object::new("listing", "services")
            .ask(self.docker.list_services(None::<ListServicesOptions>))
            .await?;
        Ok(listed.into_iter().filter_map(service).collect())
    }

    /// Makes a service.
    pub async fn create_service(&self, wish: &Wish) -> Result<(), EngineError> {
        let object = Object::new("creating service", wish.name());
        let spec = spec(wish, wish.spec.replicas);
        object.ask(self.docker.create_service(spec, None)).await?;
        Ok(())
    }

    /// Makes service `id` what `wish` says, with so many replicas.
    pub async fn update_service(
        &self,
        id: &ServiceId,
        wish: &Wish,
        replicas: u32,
    ) -> Result<(), EngineError> {
        let object = Object::new("updating service", wish.name());
        let found = object
            .ask(self.docker.inspect_service(
                &id.0,
                None::<bollard::query_parameters::InspectServiceOptions>,
            ))
            .await?;
        let version = found
            .version
            .and_then(|version| version.index)
            .unwrap_or_default();
        let options = UpdateServiceOptionsBuilder::new()
            .version(i32::try_from(version).unwrap_or(i32::MAX))
            .registry_auth_from("spec")
            .build();
        let spec = spec(wish, replicas);
        let update = self.docker.update_service(&id.0, spec, options, None);
        object.ask(update).await?;
        Ok(())
    }

    /// Removes a service; one that does not exist is removed already.
    pub async fn remove_service(&self, id: &ServiceId) -> Result<(), EngineError> {
        match Object::new("removing service", id.0.clone())
            .ask(self.docker.delete_service(&id.0))
            .await
        {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }
}

fn service(found: models::Service) -> Option<SwarmService> {
    let spec = found.spec.unwrap_or_default();
    let state = found.update_status.and_then(|status| status.state);
    let replicated = spec.mode.and_then(|mode| mode.replicated);
    Some(SwarmService {
        id: ServiceId(found.id?),
        name: spec.name.unwrap_or_default(),
        revision: spec
            .labels
            .and_then(|mut labels| labels.remove(LABEL_REVISION)),
        replicas: replicated
            .and_then(|replicated| replicated.replicas)
            .and_then(|count| u32::try_from(count).ok()),
        update: match state {
            Some(models::ServiceUpdateStatusStateEnum::UPDATING) => UpdateState::Running,
            Some(
                models::ServiceUpdateStatusStateEnum::PAUSED
                | models::ServiceUpdateStatusStateEnum::ROLLBACK_PAUSED,
            ) => UpdateState::Paused,
            Some(
                models::ServiceUpdateStatusStateEnum::ROLLBACK_STARTED
                | models::ServiceUpdateStatusStateEnum::ROLLBACK_COMPLETED,
            ) => UpdateState::RolledBack,
            Some(
                models::ServiceUpdateStatusStateEnum::COMPLETED
                | models::ServiceUpdateStatusStateEnum::EMPTY,
            )
            | None => UpdateState::Settled,
        },
    })
}

/// Says `wish` in Swarm's words, with so many replicas.
///
/// Endpoint mode `dnsrr`: names are ours, and no virtual address needs a kernel with IPVS. The image
/// is a digest at the node's own registry, so no registry is asked for it.
pub(super) fn spec(wish: &Wish, replicas: u32) -> models::ServiceSpec {
    let written = &wish.spec;
    let mut labels = hash(&written.service_labels);
    labels.insert(LABEL_STACK.to_owned(), wish.stack.to_string());
    labels.insert(LABEL_REVISION.to_owned(), wish.revision());
    let rollback = written.rollback.unwrap_or(Update {
        failure_action: FailureAction::Pause,
        ..written.update
    });
    models::ServiceSpec {
        name: Some(wish.name()),
        labels: Some(labels),
        task_template: Some(models::TaskSpec {
            container_spec: Some(container(wish)),
            resources: Some(resources(&written.resources)),
            restart_policy: Some(restart(&written.restart)),
            placement: Some(placement(wish)),
            networks: Some(vec![models::NetworkAttachmentConfig {
                target: Some(NETWORK.to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        mode: Some(models::ServiceSpecMode {
            replicated: Some(models::ServiceSpecModeReplicated {
                replicas: Some(i64::from(replicas)),
            }),
            ..Default::default()
        }),
        update_config: Some(models::ServiceSpecUpdateConfig {
            parallelism: Some(i64::from(written.update.parallelism)),
            delay: Some(written.update.delay.nanos()),
            monitor: Some(written.update.monitor.nanos()),
            failure_action: Some(match written.update.failure_action {
                FailureAction::Pause => models::ServiceSpecUpdateConfigFailureActionEnum::PAUSE,
                FailureAction::Continue => {
                    models::ServiceSpecUpdateConfigFailureActionEnum::CONTINUE
                }
                FailureAction::Rollback => {
                    models::ServiceSpecUpdateConfigFailureActionEnum::ROLLBACK
                }
            }),
            order: Some(match wish.order(written.update.order) {
                UpdateOrder::StartFirst => models::ServiceSpecUpdateConfigOrderEnum::START_FIRST,
                UpdateOrder::StopFirst => models::ServiceSpecUpdateConfigOrderEnum::STOP_FIRST,
            }),
            max_failure_ratio: None,
        }),
        rollback_config: Some(models::ServiceSpecRollbackConfig {
            parallelism: Some(i64::from(rollback.parallelism)),
            delay: Some(rollback.delay.nanos()),
            monitor: Some(rollback.monitor.nanos()),
            failure_action: Some(match rollback.failure_action {
                FailureAction::Continue => {
                    models::ServiceSpecRollbackConfigFailureActionEnum::CONTINUE
                }
                FailureAction::Pause | FailureAction::Rollback => {
                    models::ServiceSpecRollbackConfigFailureActionEnum::PAUSE
                }
            }),
            order: Some(match wish.order(rollback.order) {
                UpdateOrder::StartFirst => models::ServiceSpecRollbackConfigOrderEnum::START_FIRST,
                UpdateOrder::StopFirst => models::ServiceSpecRollbackConfigOrderEnum::STOP_FIRST,
            }),
            max_failure_ratio: None,
        }),
        networks: None,
        endpoint_spec: Some(models::EndpointSpec {
            mode: Some(models::EndpointSpecModeEnum::DNSRR),
            ports: Some(written.ports.iter().copied().map(port).collect()),
        }),
    }
}

fn container(wish: &Wish) -> models::TaskSpecContainerSpec {
    let written = &wish.spec;
    let mut labels = hash(&written.labels);
    labels.insert(LABEL_STACK.to_owned(), wish.stack.to_string());
    let mut dropped = written.cap_drop.clone();
    if !dropped
        .iter()
        .any(|name| name == "ALL" || name.ends_with("NET_RAW"))
    {
        // With raw sockets a container can answer ARP for others on its bridge.
        dropped.push("NET_RAW".to_owned());
    }
    let environment = written
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    models::TaskSpecContainerSpec {
        image: Some(wish.image.to_string()),
        labels: Some(labels),
        command: written.entrypoint.clone(),
        args: written.command.clone(),
        hostname: written.hostname.clone(),
        env: Some(environment.collect()),
        dir: written.working_dir.clone(),
        user: written.user.clone(),
        read_only: Some(written.read_only),
        mounts: Some(mounts(wish)),
        stop_signal: written.stop_signal.clone(),
        stop_grace_period: written.stop_grace_period.map(bastide_stack::Millis::nanos),
        health_check: written.healthcheck.as_ref().map(health),
        dns_config: Some(models::TaskSpecContainerSpecDnsConfig {
            nameservers: Some(vec![wish.dns.to_string()]),
            search: Some(vec![wish.search.clone()]),
            // Engines write `ndots:0` otherwise, with which musl never looks in the domain.
            options: Some(vec!["ndots:1".to_owned()]),
        }),
        init: written.init,
        capability_drop: Some(dropped),
        ..Default::default()
    }
}

fn mounts(wish: &Wish) -> Vec<models::Mount> {
    let volumes = wish.spec.volumes.iter().map(|mount| models::Mount {
        typ: Some(models::MountType::VOLUME),
        source: Some(format!("{}_{}", wish.stack, mount.volume)),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        volume_options: Some(models::MountVolumeOptions {
            labels: Some(HashMap::from([(
                LABEL_STACK.to_owned(),
                wish.stack.to_string(),
            )])),
            ..Default::default()
        }),
        ..Default::default()
    });
    let memory = wish.spec.tmpfs.iter().map(|mount| models::Mount {
        typ: Some(models::MountType::TMPFS),
        target: Some(mount.target.clone()),
        tmpfs_options: Some(models::MountTmpfsOptions {
            size_bytes: Some(
                mount
                    .size
                    .unwrap_or(wish.spec.resources.limit_memory)
                    .signed(),
            ),
            ..Default::default()
        }),
        ..Default::default()
    });
    volumes.chain(memory).collect()
}

fn health(check: &Healthcheck) -> models::HealthConfig {
    match check {
        Healthcheck::Disabled => models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        },
        Healthcheck::Probe {
            test,
            interval,
            timeout,
            retries,
            start_period,
        } => models::HealthConfig {
            test: test.as_ref().map(bastide_stack::ProbeCommand::engine_words),
            interval: interval.map(bastide_stack::Millis::nanos),
            timeout: timeout.map(bastide_stack::Millis::nanos),
            retries: retries.map(i64::from),
            start_period: start_period.map(bastide_stack::Millis::nanos),
            start_interval: None,
        },
    }
}

fn resources(written: &Resources) -> models::TaskSpecResources {
    models::TaskSpecResources {
        limits: Some(models::Limit {
            nano_cpus: Some(written.limit_cpus.signed()),
            memory_bytes: Some(written.limit_memory.signed()),
            pids: Some(i64::from(written.limit_pids)),
        }),
        reservations: Some(models::ResourceObject {
            nano_cpus: written.reserve_cpus.map(bastide_stack::NanoCpus::signed),
            memory_bytes: written.reserve_memory.map(bastide_stack::ByteSize::signed),
            generic_resources: None,
        }),
        ..Default::default()
    }
}

fn restart(written: &Restart) -> models::TaskSpecRestartPolicy {
    models::TaskSpecRestartPolicy {
        condition: Some(match written.condition {
            RestartCondition::None => models::TaskSpecRestartPolicyConditionEnum::NONE,
            RestartCondition::OnFailure => models::TaskSpecRestartPolicyConditionEnum::ON_FAILURE,
            RestartCondition::Any => models::TaskSpecRestartPolicyConditionEnum::ANY,
        }),
        delay: Some(written.delay.nanos()),
        max_attempts: written.max_attempts.map(i64::from),
        window: written.window.map(bastide_stack::Millis::nanos),
    }
}

fn placement(wish: &Wish) -> models::TaskSpecPlacement {
    let placement = &wish.spec.placement;
    let constraints = placement
        .constraints
        .iter()
        .map(|one| one.as_str().to_owned());
    let spread = wish
        .spread()
        .into_iter()
        .map(|label| models::TaskSpecPlacementPreferences {
            spread: Some(models::TaskSpecPlacementSpread {
                spread_descriptor: Some(label),
            }),
        });
    models::TaskSpecPlacement {
        constraints: Some(constraints.collect()),
        preferences: Some(spread.collect()),
        max_replicas: placement.max_replicas_per_node.map(i64::from),
        platforms: None,
    }
}

fn port(written: bastide_stack::Port) -> models::EndpointPortConfig {
    models::EndpointPortConfig {
        name: None,
        protocol: Some(match written.protocol {
            Protocol::Tcp => models::EndpointPortConfigProtocolEnum::TCP,
            Protocol::Udp => models::EndpointPortConfigProtocolEnum::UDP,
        }),
        target_port: Some(i64::from(written.target)),
        published_port: written.published.map(i64::from),
        publish_mode: Some(models::EndpointPortConfigPublishModeEnum::HOST),
    }
}

fn hash(labels: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    labels.clone().into_iter().collect()
}

#[cfg(test)]
mod tests;
