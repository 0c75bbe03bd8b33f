//! The Python client hvac, which others wrote for Vault, against the development server.

use std::net::SocketAddr;

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::python::{HVAC, Python};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_finds_a_vault() {
    let Some(python) = Python::with(&[HVAC]).await else {
        return;
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Secret::new("hvac-root".to_owned());
    let dev = dev::start(any, Some(token)).await.unwrap();
    let at = format!("http://{}", dev.address);
    python
        .passes(include_str!("hvac.py"), &[&at, "hvac-root"])
        .await;
    dev.server.stop().await;
}
