//! What the server signs, judged by the Python package jwcrypto, which others wrote.

use std::net::SocketAddr;

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::python::{HVAC, JWCRYPTO, Python};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_believes_what_is_signed_here_and_nothing_else() {
    let Some(python) = Python::with(&[HVAC, JWCRYPTO]).await else {
        return;
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Secret::new("identity-root".to_owned());
    let dev = dev::start(any, Some(token)).await.unwrap();
    let at = format!("http://{}", dev.address);
    python
        .passes(include_str!("identity.py"), &[&at, "identity-root"])
        .await;
    dev.server.stop().await;
}
