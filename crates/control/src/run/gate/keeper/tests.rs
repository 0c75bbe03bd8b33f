use std::future::Future;
use std::pin::Pin;

use bastide_api::{ClusterId, Secret};
use bastide_store::KeyFileSeal;

use super::*;
use crate::core::config::{Compat, Storage, Ttls};
use crate::core::lockout::Configured;
use crate::core::registry::Registry;
use crate::run::channel::ControllerError;
use crate::run::gate::{Gatehouse, Post};
use crate::run::server::ServerConfig;

/// What runs beside the plane, and does not come up.
struct Down;

impl Crew for Down {
    fn open<'a>(
        &'a mut self,
        _server: &'a mut Server,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Post>, ControllerError>> + Send + 'a>> {
        Box::pin(async { Err(ControllerError::NoCluster) })
    }

    fn close(&mut self) {}

    fn wait(&mut self) -> Result<Vec<Post>, ControllerError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_store_that_was_made_gives_its_shares_out_though_the_server_does_not_come_up() {
    let config = GateConfig {
        server: ServerConfig {
            storage: Storage::Memory,
            seal: SealKey::Absent,
            audit: None,
            cluster_name: "test".to_owned(),
            compat: Compat::Strict,
            ttls: Ttls::default(),
            lockouts: Configured::new(),
        },
        cluster: ClusterId::from_bytes([7; 16]),
        registry: Registry::built_in,
        seals: vec![Arc::new(KeyFileSeal::from_key(Secret::new([7; 32])))],
        seals_disabled: Vec::new(),
    };
    let house = Gatehouse::start(config, Box::new(Down)).await.unwrap();
    let made = house.gate().init(Sharing::new(3, 2).unwrap()).await;
    let made = made.unwrap();
    assert_eq!(made.shares.len(), 3);
    assert!(made.root.expose().starts_with("hvs."));
    assert!(house.gate().is_initialised() && house.gate().plane().is_none());
    house.stop().await;
}
