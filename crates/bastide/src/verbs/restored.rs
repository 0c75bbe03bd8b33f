//! `bastide accept-restored`: a store from a backup is from now on the one that counts.

use anyhow::Context;
use serde_json::json;

use crate::output;
use crate::verbs::operator;

/// Has the control plane of this host begin a new generation, which all nodes follow.
pub async fn accept() -> anyhow::Result<()> {
    let answer = operator::client()?
        .call("POST", "/v1/mesh/history/accept", Some(json!({})))
        .await?;
    let generation = answer["generation"]
        .as_u64()
        .context("the control plane answered without a generation")?;
    output::note(format!(
        "all nodes follow this store from now on (generation {generation}). Nodes that joined after \
         the backup was made have to leave and join anew (`bastide down --forget`); nodes that were \
         removed after it are back: remove them again"
    ));
    Ok(())
}
