//! Talking to the control plane as an operator: token and CA of this host, or of the environment.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use bastide_api::{Secret, ports};
use bastide_client::{Client, Trust};
use bastide_linux::file;

use crate::exit::{Exit, Failure};
use crate::paths;

/// Most bytes of a token or a CA file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Returns a client with the operator's token, for the control plane of this host.
pub fn client() -> anyhow::Result<Client> {
    let ca = read(paths::CA)?;
    let here = SocketAddr::from(([127, 0, 0, 1], ports::API));
    Ok(Client::new(
        vec![here],
        Trust::Ca(ca),
        None,
        Some(token()?),
    )?)
}

/// Returns the operator's token.
pub fn token() -> anyhow::Result<Secret<String>> {
    let token = Secret::new(read(paths::OPERATOR_TOKEN)?);
    Ok(Secret::new(token.expose().trim().to_owned()))
}

fn read(path: &str) -> anyhow::Result<String> {
    let bytes = file::read_bounded(Path::new(path), FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{path}`"))?
        .ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("this host holds no operator's token (`{path}`)"),
            )
            .hint("run this on the cluster's first controller")
        })?;
    String::from_utf8(bytes).with_context(|| format!("`{path}` is damaged"))
}
