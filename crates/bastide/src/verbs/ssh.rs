//! `bastide ssh`: log in to nodes without keys lying about, and have nodes let people in so.

mod connect;
mod enable;
mod files;
mod helper;
mod host;

use std::process::ExitCode;

use crate::cli::{Ssh, SshVerb};

pub use helper::{answer_prompt, pam, principals};
pub use host::undo_if_set_up;

/// Runs what was asked for.
pub async fn run(arguments: Ssh) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Some(SshVerb::Enable) => enable::run().await?,
        Some(SshVerb::Setup(setup)) => host::setup(&setup).await?,
        Some(SshVerb::Teardown) => host::teardown()?,
        None => return connect::run(arguments.connect).await,
    }
    Ok(ExitCode::SUCCESS)
}
