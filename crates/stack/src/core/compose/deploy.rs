//! The section `deploy` of a service.

use std::collections::BTreeMap;

use bastide_api::ServiceName;

use super::reader::Reader;
use super::{refused, service, units};
use crate::core::model::{
    ByteSize, FailureAction, Millis, NanoCpus, Placement, Resources, Restart, RestartCondition,
    Update, UpdateOrder,
};
use crate::core::yaml::Node;

/// Most tasks of a service.
const REPLICAS_MAX: u32 = 10_000;
/// The engine refuses less than 6 MiB.
const MEMORY_MIN: ByteSize = ByteSize(6 << 20);
const MEMORY_MAX: ByteSize = ByteSize(1 << 44);
/// The engine refuses less than a thousandth.
const CPUS_MIN: NanoCpus = NanoCpus(1_000_000);
const CPUS_MAX: NanoCpus = NanoCpus(1_024_000_000_000);
/// Linux cannot have more.
const PIDS_MAX: u32 = 4_194_304;
/// Most constraints, and most preferences, of a service.
const PLACEMENT_MAX: usize = 32;
/// Over what tasks are spread where the file does not say: the label that holds a node's site.
const SPREAD_DEFAULT: &str = "node.labels.bastide.site";

/// What `deploy` says, defaults filled in.
pub struct Deploy {
    pub replicas: u32,
    pub placement: Placement,
    pub resources: Resources,
    pub update: Update,
    pub rollback: Option<Update>,
    pub restart: Option<Restart>,
    pub labels: BTreeMap<String, String>,
}

pub fn read(reader: &mut Reader, name: &ServiceName, node: Option<&Node>) -> Deploy {
    const KEYS: &[&str] = &[
        "labels",
        "mode",
        "placement",
        "replicas",
        "resources",
        "restart_policy",
        "rollback_config",
        "update_config",
    ];
    let fields = node
        .filter(|node| !node.is_null())
        .and_then(|node| reader.fields(node, "`deploy`", KEYS, refused::in_deploy));
    let get = |key: &str| fields.as_ref().and_then(|fields| fields.get(key));
    if let Some(node) = get("mode") {
        let expected = "`replicated`, which is the only mode so far";
        reader.value(node, expected, |text| (text == "replicated").then_some(()));
    }
    Deploy {
        replicas: get("replicas")
            .and_then(|node| reader.number(node, REPLICAS_MAX))
            .unwrap_or(1),
        placement: placement(reader, get("placement")),
        resources: resources(reader, name, get("resources")),
        update: get("update_config")
            .and_then(|node| update(reader, node, "`update_config`"))
            .unwrap_or_default(),
        rollback: get("rollback_config").and_then(|node| rollback(reader, node)),
        restart: get("restart_policy").and_then(|node| restart(reader, node)),
        labels: get("labels")
            .map(|node| service::labels(reader, node))
            .unwrap_or_default(),
    }
}

fn placement(reader: &mut Reader, node: Option<&Node>) -> Placement {
    const KEYS: &[&str] = &["constraints", "preferences", "max_replicas_per_node"];
    let mut placement = Placement::default();
    let fields = node.and_then(|node| reader.fields(node, "`placement`", KEYS, refused::nothing));
    let get = |key: &str| fields.as_ref().and_then(|fields| fields.get(key));
    if let Some(node) = get("constraints") {
        for node in reader.list(node, "`constraints`").unwrap_or_default() {
            let expected = "a constraint such as `node.labels.disk == ssd`";
            let constraint = reader.value(node, expected, |text| text.parse().ok());
            placement.constraints.extend(constraint);
        }
        limit(reader, node, placement.constraints.len());
    }
    match get("preferences") {
        Some(node) => {
            for node in reader.list(node, "`preferences`").unwrap_or_default() {
                let fields = reader.fields(node, "a preference", &["spread"], refused::nothing);
                let Some(node) = fields.and_then(|fields| fields.get("spread")) else {
                    continue;
                };
                let expected = "a label of nodes such as `node.labels.rack`";
                placement
                    .spread
                    .extend(reader.value(node, expected, node_label));
            }
            limit(reader, node, placement.spread.len());
        }
        None => placement.spread.push(SPREAD_DEFAULT.to_owned()),
    }
    placement.max_replicas_per_node = get("max_replicas_per_node")
        .and_then(|node| reader.number(node, REPLICAS_MAX))
        .filter(|number| *number != 0);
    placement
}

fn limit(reader: &mut Reader, node: &Node, length: usize) {
    if PLACEMENT_MAX < length {
        reader.error(
            node.at,
            format!("at most {PLACEMENT_MAX} are allowed here"),
            None,
        );
    }
}

fn node_label(text: &str) -> Option<String> {
    let label = ["node.labels.", "engine.labels."]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let fits = !label.is_empty() && label.len() <= 128 && label.bytes().all(good);
    fits.then(|| text.to_owned())
}

fn resources(reader: &mut Reader, service: &ServiceName, node: Option<&Node>) -> Resources {
    let mut resources = Resources::default();
    let fields = node.and_then(|node| {
        reader.fields(
            node,
            "`resources`",
            &["limits", "reservations"],
            refused::nothing,
        )
    });
    let get = |key: &str| fields.as_ref().and_then(|fields| fields.get(key));
    let mut added = Vec::new();
    let limits = get("limits").and_then(|node| {
        reader.fields(
            node,
            "`limits`",
            &["cpus", "memory", "pids"],
            refused::in_resources,
        )
    });
    let get_limit = |key: &str| limits.as_ref().and_then(|fields| fields.get(key));
    match get_limit("cpus") {
        Some(node) => resources.limit_cpus = cpus(reader, node).unwrap_or_default(),
        None => added.push("1 CPU"),
    }
    match get_limit("memory") {
        Some(node) => resources.limit_memory = memory(reader, node).unwrap_or_default(),
        None => added.push("256 MiB of memory"),
    }
    match get_limit("pids") {
        Some(node) => {
            resources.limit_pids = reader
                .value(
                    node,
                    &format!("a number of processes from 1 to {PIDS_MAX}"),
                    |text| {
                        text.parse()
                            .ok()
                            .filter(|pids| (1..=PIDS_MAX).contains(pids))
                    },
                )
                .unwrap_or_default();
        }
        None => added.push("256 processes"),
    }
    if !added.is_empty() {
        reader.note(format!(
            "service `{service}`: limited to {} (default; change it under `deploy.resources.limits`)",
            added.join(", ")
        ));
    }
    let reservations = get("reservations").and_then(|node| {
        reader.fields(
            node,
            "`reservations`",
            &["cpus", "memory"],
            refused::in_resources,
        )
    });
    let get = |key: &str| reservations.as_ref().and_then(|fields| fields.get(key));
    if let Some(node) = get("cpus") {
        resources.reserve_cpus = cpus(reader, node);
        if resources.limit_cpus < resources.reserve_cpus.unwrap_or_default() {
            reader.error(
                node.at,
                "more processor time is reserved than allowed",
                None,
            );
        }
    }
    if let Some(node) = get("memory") {
        resources.reserve_memory = memory(reader, node);
        if resources.limit_memory < resources.reserve_memory.unwrap_or_default() {
            reader.error(node.at, "more memory is reserved than allowed", None);
        }
    }
    resources
}

fn cpus(reader: &mut Reader, node: &Node) -> Option<NanoCpus> {
    reader.value(node, "a number of processors from 0.001 to 1024", |text| {
        units::cpus(text).filter(|cpus| (CPUS_MIN..=CPUS_MAX).contains(cpus))
    })
}

fn memory(reader: &mut Reader, node: &Node) -> Option<ByteSize> {
    reader.value(node, "a size from `6m` to `16t`", |text| {
        units::size(text).filter(|size| (MEMORY_MIN..=MEMORY_MAX).contains(size))
    })
}

fn update(reader: &mut Reader, node: &Node, context: &str) -> Option<Update> {
    const KEYS: &[&str] = &["parallelism", "delay", "failure_action", "monitor", "order"];
    let fields = reader.fields(node, context, KEYS, refused::nothing)?;
    let mut update = Update::default();
    let time = |reader: &mut Reader, key: &str, default: Millis| {
        fields
            .get(key)
            .and_then(|node| reader.value(node, "a duration such as `10s`", units::duration))
            .unwrap_or(default)
    };
    update.delay = time(reader, "delay", update.delay);
    update.monitor = time(reader, "monitor", update.monitor);
    if let Some(node) = fields.get("parallelism") {
        update.parallelism = reader.number(node, REPLICAS_MAX).unwrap_or_default();
    }
    if let Some(node) = fields.get("order") {
        update.order = reader.value(node, "`start-first` or `stop-first`", |text| match text {
            "start-first" => Some(UpdateOrder::StartFirst),
            "stop-first" => Some(UpdateOrder::StopFirst),
            _ => None,
        });
    }
    if let Some(node) = fields.get("failure_action") {
        let expected = "`pause`, `continue` or `rollback`";
        let action = reader.value(node, expected, |text| match text {
            "pause" => Some(FailureAction::Pause),
            "continue" => Some(FailureAction::Continue),
            "rollback" => Some(FailureAction::Rollback),
            _ => None,
        });
        update.failure_action = action.unwrap_or(FailureAction::Rollback);
    }
    Some(update)
}

fn rollback(reader: &mut Reader, node: &Node) -> Option<Update> {
    let mut rollback = update(reader, node, "`rollback_config`")?;
    if rollback.failure_action == FailureAction::Rollback {
        if let Some(at) = super::reader::key_position(node, "failure_action") {
            let hint = "write `pause` or `continue`";
            reader.error(at, "a failed rollback has nothing to return to", Some(hint));
        }
        rollback.failure_action = FailureAction::Pause;
    }
    Some(rollback)
}

fn restart(reader: &mut Reader, node: &Node) -> Option<Restart> {
    const KEYS: &[&str] = &["condition", "delay", "max_attempts", "window"];
    let fields = reader.fields(node, "`restart_policy`", KEYS, refused::nothing)?;
    let mut restart = Restart::default();
    if let Some(node) = fields.get("condition") {
        let expected = "`none`, `on-failure` or `any`";
        let condition = reader.value(node, expected, |text| match text {
            "none" => Some(RestartCondition::None),
            "on-failure" => Some(RestartCondition::OnFailure),
            "any" => Some(RestartCondition::Any),
            _ => None,
        });
        restart.condition = condition.unwrap_or(RestartCondition::Any);
    }
    let mut time = |key: &str| {
        let node = fields.get(key)?;
        reader.value(node, "a duration such as `10s`", units::duration)
    };
    restart.delay = time("delay").unwrap_or(restart.delay);
    restart.window = time("window");
    restart.max_attempts = fields
        .get("max_attempts")
        .and_then(|node| reader.number(node, 1_000_000));
    Some(restart)
}
