//! The development server: in memory, unsealed, plain HTTP, as `vault server -dev`.

use std::net::SocketAddr;
use std::sync::Arc;

use bastide_api::{ClusterId, Secret};
use bastide_store::{DevSeal, RedbStore};

use crate::core::config::{Compat, Ttls};
use crate::core::engine::ServerInfo;
use crate::core::lockout::Configured;
use crate::core::registry::Registry;
use crate::run::http::Door;
use crate::run::listen::Security;
use crate::run::server::{self, Server, StartError, VAULT_VERSION};

/// A development server at work. What it holds ends with it.
pub struct DevServer {
    /// The server.
    pub server: Server,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its root token.
    pub root_token: Secret<String>,
}

/// Starts a development server on `listen` (port 0: any free one), with key-value version 2 at
/// `secret/`, and the root token given or a random one. Must be called within a tokio runtime.
pub async fn start(
    listen: SocketAddr,
    root_token: Option<Secret<String>>,
) -> Result<DevServer, StartError> {
    let store = Arc::new(RedbStore::in_memory()?);
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).expect("the system's random source answers");
    let cluster = ClusterId::from_bytes(id);
    let (barrier, root_token) = server::initialise(&*store, &DevSeal::new(), cluster, root_token)?;
    let info = ServerInfo {
        version: VAULT_VERSION.to_owned(),
        cluster_name: "dev".to_owned(),
        cluster_id: cluster.to_string(),
        storage: "inmem",
        seal: "dev".to_owned(),
        audit: Vec::new(),
        // It is for trying things out, and Vault does so.
        audit_by_api: true,
        started: server::now(),
        compat: Compat::Strict,
        ttls: Ttls::default(),
        lockouts: Configured::new(),
    };
    let mut server = Server::on(store, barrier, Registry::built_in(), info, None)?;
    let address = server.listen(listen, Security::Plain, Door::API).await?;
    Ok(DevServer {
        server,
        address,
        root_token,
    })
}
