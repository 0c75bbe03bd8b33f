//! Tasks, containers and what happens to them.

use std::collections::HashMap;

use bollard::models;
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptions, ListTasksOptions};
use futures_util::{Stream, StreamExt};

use super::Engine;
use super::error::{EngineError, Object};
use crate::core::facts::{Container, Health};
use crate::core::state::{MemberId, ServiceId, SwarmTask, TaskId};
use crate::core::swarm::NETWORK;

/// What an engine says has changed. A hint to look, never a fact: events are lost on reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A container of this engine began, ended, or changed its health.
    Container,
    /// A network of this engine.
    Network,
    /// A member or service of the Swarm; managers alone hear of it.
    Swarm,
}

impl Engine {
    /// Lists the tasks, with those that ended lately, on a manager.
    pub async fn tasks(&self) -> Result<Vec<SwarmTask>, EngineError> {
        let listed = Object::new("listing", "tasks")
            .ask(self.docker.list_tasks(None::<ListTasksOptions>))
            .await?;
        Ok(listed.into_iter().filter_map(task).collect())
    }

    /// Lists the running containers.
    pub async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        let listed = Object::new("listing", "containers")
            .ask(self.docker.list_containers(None::<ListContainersOptions>))
            .await?;
        Ok(listed.into_iter().map(container).collect())
    }

    /// Follows what changes. Ends when the engine does.
    pub fn changes(&self) -> impl Stream<Item = Result<Change, EngineError>> + Send + use<> {
        let kinds = vec!["container", "network", "node", "service"];
        let filters = HashMap::from([("type", kinds)]);
        let events = self
            .docker
            .events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
        events
            .filter_map(async |event| match event {
                Ok(event) => change(&event).map(Ok),
                Err(source) => Some(Err(Object::new("following", "events").failed(source))),
            })
            .boxed()
    }
}

fn change(event: &models::EventMessage) -> Option<Change> {
    let action = event.action.as_deref().unwrap_or_default();
    match event.typ? {
        models::EventMessageTypeEnum::CONTAINER => {
            // `exec_*`, `top`, `attach` and the like change nothing, and each health check execs.
            let matters = ["start", "die", "pause", "unpause", "rename"].contains(&action)
                || action.starts_with("health_status");
            matters.then_some(Change::Container)
        }
        models::EventMessageTypeEnum::NETWORK => Some(Change::Network),
        models::EventMessageTypeEnum::NODE | models::EventMessageTypeEnum::SERVICE => {
            Some(Change::Swarm)
        }
        models::EventMessageTypeEnum::EMPTY
        | models::EventMessageTypeEnum::BUILDER
        | models::EventMessageTypeEnum::CONFIG
        | models::EventMessageTypeEnum::DAEMON
        | models::EventMessageTypeEnum::IMAGE
        | models::EventMessageTypeEnum::PLUGIN
        | models::EventMessageTypeEnum::SECRET
        | models::EventMessageTypeEnum::VOLUME => None,
    }
}

fn task(found: models::Task) -> Option<SwarmTask> {
    let status = found.status.unwrap_or_default();
    Some(SwarmTask {
        id: TaskId(found.id?),
        service: ServiceId(found.service_id?),
        member: found.node_id.filter(|id| !id.is_empty()).map(MemberId),
        wanted: found.desired_state == Some(models::TaskState::RUNNING),
        running: status.state == Some(models::TaskState::RUNNING),
        trouble: status.err.filter(|text| !text.is_empty()),
    })
}

fn container(found: models::ContainerSummary) -> Container {
    let name = found
        .names
        .and_then(|names| names.into_iter().next())
        .unwrap_or_default();
    let networks = found
        .network_settings
        .and_then(|settings| settings.networks);
    let address = networks
        .and_then(|mut networks| networks.remove(NETWORK))
        .and_then(|endpoint| endpoint.ip_address)
        .and_then(|text| text.parse().ok());
    Container {
        name: name.trim_start_matches('/').to_owned(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        address,
        health: Health::of_status(found.status.as_deref().unwrap_or_default()),
    }
}
