//! The hosts' own container engines, started as a machine's service manager would.

use std::collections::BTreeSet;
use std::time::Duration;

use super::scene::Scene;
use super::{PLACES, until};

/// How long an engine may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Starts an engine on every host and waits until all answer.
pub fn start(scene: &Scene) -> anyhow::Result<()> {
    for place in &PLACES {
        scene.start_engine(place.host)?;
    }
    for place in &PLACES {
        until(READY_WITHIN, "the container engine", || {
            Ok(scene
                .run(place.host, &["docker", "version", "--format", "ok"], None)?
                .success)
        })?;
    }
    Ok(())
}

/// Returns the ids (12 characters, as the containers' host names) of a stack's running tasks.
pub fn replicas(scene: &Scene, host: &str, stack: &str) -> anyhow::Result<BTreeSet<String>> {
    let filter = format!("label=com.docker.stack.namespace={stack}");
    let output = scene.run(host, &["docker", "ps", "-q", "--filter", &filter], None)?;
    super::expect_success("docker ps", &output)?;
    Ok(output
        .stdout
        .lines()
        .map(|id| id.trim().to_owned())
        .collect())
}
