//! Puts the host's packet filter in place and takes it away.

use std::process::{Output, Stdio};

use bastide_linux::nft;
use tokio::process::Command;

use crate::core::firewall::{self, Commands, Fallible, Rules};

/// Why the packet filter is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// nftables did not take the rules.
    #[error("nftables refused the rules of table `{}`", firewall::TABLE)]
    Nft(#[source] nft::NftError),
    /// A program could not be run.
    #[error("could not run `{program}`")]
    Program {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program refused.
    #[error("`iptables {arguments}` failed: {message}")]
    Iptables {
        /// How it was called.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// Docker's chain does not exist: the engine has not started, or manages no packet filter.
    #[error("the container engine made no chain `{}`", firewall::DOCKER_CHAIN)]
    NoDockerChain,
}

/// Makes our tables what `rules` says.
pub fn apply(rules: &Rules) -> Result<(), FilterError> {
    nft::apply(&firewall::ruleset(rules)).map_err(FilterError::Nft)
}

/// Removes our tables.
pub fn remove() -> Result<(), FilterError> {
    nft::apply(&firewall::undo()).map_err(FilterError::Nft)
}

/// Returns whether Docker's chains let pass what our tables judged.
pub async fn is_docker_jump_in_place(mesh_interface: &str) -> Result<bool, FilterError> {
    let mut in_place = true;
    for command in firewall::docker_checks(mesh_interface) {
        in_place &= iptables(&command).await?.status.success();
    }
    Ok(in_place)
}

/// Makes Docker's chains let pass what our tables judged; true if that was not so. To be called
/// each round: an engine's start may have made its chains anew.
///
/// The program is the `iptables` of the host's path, which the engine uses too, so that both speak
/// of the same tables whichever backend that one has.
pub async fn ensure_docker_jump(mesh_interface: &str) -> Result<bool, FilterError> {
    if is_docker_jump_in_place(mesh_interface).await? {
        return Ok(false);
    }
    let listed = iptables(&["-w", "5", "-S", firewall::DOCKER_CHAIN].map(str::to_owned)).await?;
    if !listed.status.success() {
        return Err(FilterError::NoDockerChain);
    }
    let (Fallible(first), rest) = firewall::docker_apply(mesh_interface);
    attempt(&first).await?;
    for command in rest {
        let output = iptables(&command).await?;
        if !output.status.success() {
            return Err(FilterError::Iptables {
                arguments: command.join(" "),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
    }
    Ok(true)
}

/// Removes our jump and chain from Docker's chains.
pub async fn remove_docker_jump() -> Result<(), FilterError> {
    attempt(&firewall::docker_undo().0).await
}

async fn attempt(commands: &Commands) -> Result<(), FilterError> {
    for command in commands {
        iptables(command).await?;
    }
    Ok(())
}

async fn iptables(arguments: &[String]) -> Result<Output, FilterError> {
    Command::new("iptables")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| FilterError::Program {
            program: "iptables",
            source,
        })
}
