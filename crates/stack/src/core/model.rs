//! A stack as it is stored and as it travels in the view's entry `stacks/<name>`.
//!
//! What a field does not say is the default of the compose specification, except limits, which are
//! never absent: see [`Resources`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bastide_api::{ServiceName, StackName};
use serde::{Deserialize, Serialize};

use super::image::ImageRef;

/// A deployed compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Its services.
    pub services: BTreeMap<ServiceName, Service>,
    /// The volumes that its services mount.
    #[serde(default)]
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// What was added that the file does not say, one sentence each, for the person who deploys.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A service: so many equal containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The image: as written in the file, later by digest.
    pub image: ImageRef,
    /// Replaces the image's entry point.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Ports published on the host that runs the task.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How to tell whether a task is healthy; `None` leaves it to the image.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// How many tasks. 0 stops the service.
    pub replicas: u32,
    /// Where tasks may run.
    #[serde(default)]
    pub placement: Placement,
    /// What a task may use.
    pub resources: Resources,
    /// How a new version replaces an old one.
    #[serde(default)]
    pub update: Update,
    /// How a return to the old version goes; `None` means like an update.
    #[serde(default)]
    pub rollback: Option<Update>,
    /// When a task that ended is started anew.
    #[serde(default)]
    pub restart: Restart,
    /// Named volumes.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// File systems in memory.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// Labels of the containers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels of the service.
    #[serde(default)]
    pub service_labels: BTreeMap<String, String>,
    /// The user (`name`, `uid` or `uid:gid`) inside the container.
    #[serde(default)]
    pub user: Option<String>,
    /// The working directory inside the container.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Host name inside the container.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Whether the container's root file system is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Whether an init process reaps zombies; `None` leaves it to the engine.
    #[serde(default)]
    pub init: Option<bool>,
    /// Capabilities to take away, as written (`ALL`, `NET_RAW`).
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// The signal that asks the process to end, as written (`SIGTERM`, `15`).
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How long the process has to end before it is killed.
    #[serde(default)]
    pub stop_grace_period: Option<Millis>,
}

/// A port published on the host that runs the task (`mode: host`; there is no other mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port inside the container. Not 0.
    pub target: u16,
    /// The port on the host; `None` lets the engine choose.
    #[serde(default)]
    pub published: Option<u16>,
    /// What it carries.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What a published port carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How to tell whether a task is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Healthcheck {
    /// Not at all, even if the image brings a check.
    Disabled,
    /// By running a command; what is absent is the engine's default.
    Probe {
        /// The command; `None` keeps the image's and changes only the times.
        #[serde(default)]
        test: Option<ProbeCommand>,
        /// Between two checks.
        #[serde(default)]
        interval: Option<Millis>,
        /// How long one check may take.
        #[serde(default)]
        timeout: Option<Millis>,
        /// Failures in a row until a task counts as unhealthy.
        #[serde(default)]
        retries: Option<u32>,
        /// Failures within this time after the start do not count.
        #[serde(default)]
        start_period: Option<Millis>,
    },
}

/// The command of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeCommand {
    /// A program and its arguments (compose's `CMD`).
    Exec(Vec<String>),
    /// A line for the image's shell (compose's `CMD-SHELL`).
    Shell(String),
}

impl ProbeCommand {
    /// Returns the command as the engine's API takes it: `["CMD", …]` or `["CMD-SHELL", line]`.
    pub fn engine_words(&self) -> Vec<String> {
        match self {
            Self::Exec(words) => std::iter::once("CMD".to_owned())
                .chain(words.iter().cloned())
                .collect(),
            Self::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }
    }
}

/// Where tasks may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All of these hold for the node.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Tasks are spread evenly over the values of these (`node.labels.bastide.site`), in this order.
    #[serde(default)]
    pub spread: Vec<String>,
    /// At most so many tasks on one node.
    #[serde(default)]
    pub max_replicas_per_node: Option<u32>,
}

/// A placement constraint in canonical spelling: `node.labels.disk==ssd`, `node.role!=manager`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint(String);

/// What a task may use. Limits are never absent: the reader fills in the cluster's defaults and says
/// so in [`Stack::notes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// At most so much processor time.
    pub limit_cpus: NanoCpus,
    /// At most so much memory.
    pub limit_memory: ByteSize,
    /// At most so many processes and threads.
    pub limit_pids: u32,
    /// Only nodes with so much processor time free.
    #[serde(default)]
    pub reserve_cpus: Option<NanoCpus>,
    /// Only nodes with so much memory free.
    #[serde(default)]
    pub reserve_memory: Option<ByteSize>,
}

impl Default for Resources {
    /// The cluster's defaults: 1 CPU, 256 MiB, 256 processes.
    fn default() -> Self {
        Self {
            limit_cpus: NanoCpus(1_000_000_000),
            limit_memory: ByteSize(256 << 20),
            limit_pids: 256,
            reserve_cpus: None,
            reserve_memory: None,
        }
    }
}

/// How a new version replaces an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// So many tasks at a time. 0: all at once.
    pub parallelism: u32,
    /// Pause between them.
    pub delay: Millis,
    /// Which comes first, the end of the old task or the start of the new one. `None` lets the
    /// reconciler choose: the new one first unless a volume or a host port forbids it.
    #[serde(default)]
    pub order: Option<UpdateOrder>,
    /// What to do when new tasks fail.
    pub failure_action: FailureAction,
    /// How long after its start a task's failure counts against the update.
    pub monitor: Millis,
}

impl Default for Update {
    /// One at a time, watched for ten seconds, back to the old version on failure.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Millis(0),
            order: None,
            failure_action: FailureAction::Rollback,
            monitor: Millis(10_000),
        }
    }
}

/// Which comes first in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The end of the old task.
    StopFirst,
    /// The start of the new task.
    StartFirst,
}

/// What to do when an update fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// Stay half way.
    Pause,
    /// Go on regardless.
    Continue,
    /// Return to the old version. In a rollback this is refused by the reader.
    Rollback,
}

/// When a task that ended is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// After which ends.
    pub condition: RestartCondition,
    /// Pause before the start.
    pub delay: Millis,
    /// At most so often within `window`; `None`: always.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// See `max_attempts`.
    #[serde(default)]
    pub window: Option<Millis>,
}

impl Default for Restart {
    /// Always, after five seconds: Swarm's default, written out.
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Millis(5_000),
            max_attempts: None,
            window: None,
        }
    }
}

/// After which ends a task is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it failed.
    OnFailure,
    /// Whatever happened.
    Any,
}

/// A named volume that a stack declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Which of the stack's volumes.
    pub volume: VolumeName,
    /// Absolute path inside the container, without `..`.
    pub target: String,
    /// Whether writes are refused.
    #[serde(default)]
    pub read_only: bool,
}

/// A file system in memory in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Absolute path inside the container, without `..`.
    pub target: String,
    /// At most so much; `None`: the container's memory limit.
    #[serde(default)]
    pub size: Option<ByteSize>,
}

/// The name of a volume inside its stack: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 64 bytes, never a
/// path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName(String);

/// A duration in milliseconds, at most [`Millis::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Ten days: longer is a mistake.
    pub const MAX: Self = Self(10 * 24 * 3_600_000);

    /// Returns nanoseconds, as the engine's API counts; saturating.
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Returns the number as the engine's API takes it; saturating.
    pub fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Processor time in billionths of a processor, as the engine's API counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoCpus(pub u64);

impl NanoCpus {
    /// Returns the number as the engine's API takes it; saturating.
    pub fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Why a text is not a value of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Not a constraint.
    #[error("`{0}` is not a placement constraint")]
    Constraint(String),
    /// Not a volume's name.
    #[error("`{0}` is not the name of a volume")]
    VolumeName(String),
}

const CONSTRAINT_BYTES_MAX: usize = 256;
const VOLUME_NAME_BYTES_MAX: usize = 64;

impl FromStr for Constraint {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = || ModelError::Constraint(text.chars().take(CONSTRAINT_BYTES_MAX).collect());
        let (key, operator, value) = ["==", "!="]
            .into_iter()
            .find_map(|operator| {
                let (key, value) = text.split_once(operator)?;
                Some((key.trim(), operator, value.trim()))
            })
            .ok_or_else(refuse)?;
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
        };
        let known = matches!(
            key,
            "node.id"
                | "node.hostname"
                | "node.ip"
                | "node.role"
                | "node.platform.os"
                | "node.platform.arch"
        ) || ["node.labels.", "engine.labels."].iter().any(|prefix| {
            key.strip_prefix(prefix)
                .is_some_and(|label| !label.is_empty())
        });
        if CONSTRAINT_BYTES_MAX < text.len() || !known || !word(key) || !word(value) {
            return Err(refuse());
        }
        Ok(Self(format!("{key}{operator}{value}")))
    }
}

impl FromStr for VolumeName {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let mut bytes = text.bytes();
        let begins_well = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && bytes.all(rest) && text.len() <= VOLUME_NAME_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            let text = text.chars().take(VOLUME_NAME_BYTES_MAX).collect();
            Err(ModelError::VolumeName(text))
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// Returns it as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text!(Constraint);
text!(VolumeName);

#[cfg(test)]
mod tests;
