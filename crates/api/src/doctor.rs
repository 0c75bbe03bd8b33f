//! What `bastide doctor --json` prints: every check of this host, layer by layer.

use serde::{Deserialize, Serialize};

/// What a check is about. Each layer stands on those before it, so the first that fails is the one
/// to mend first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Kernel, devices, programs, room on disk.
    Host,
    /// The clock.
    Time,
    /// Who holds the ports that are ours.
    Ports,
    /// The control plane as this host reaches it, and this host's certificate.
    ControlPlane,
    /// Device, addresses, routes, packet filter, and the way to each peer.
    Mesh,
    /// The resolver.
    Names,
    /// The container engine and its membership in the Swarm.
    Engine,
    /// What the agent itself reports as wrong.
    Reported,
}

impl Layer {
    /// Returns the layer as a heading says it.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Time => "time",
            Self::Ports => "ports",
            Self::ControlPlane => "control plane",
            Self::Mesh => "mesh",
            Self::Names => "names",
            Self::Engine => "engine",
            Self::Reported => "reported by the agent",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// It could not be looked at; what is found says why.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it is about.
    pub layer: Layer,
    /// Its name, stable from version to version: `tun`, `peer boreas`.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to type; only where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    /// A check that passed.
    pub fn pass(layer: Layer, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::of(layer, name, Outcome::Pass, found, None)
    }

    /// A check that could not be made.
    pub fn skip(layer: Layer, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::of(layer, name, Outcome::Skip, why, None)
    }

    /// A check that failed, with the command that mends it.
    pub fn fail(
        layer: Layer,
        name: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::of(layer, name, Outcome::Fail, found, Some(mend.into()))
    }

    fn of(
        layer: Layer,
        name: impl Into<String>,
        outcome: Outcome,
        found: impl Into<String>,
        mend: Option<String>,
    ) -> Self {
        Self {
            layer,
            name: name.into(),
            outcome,
            found: found.into(),
            mend,
        }
    }
}
