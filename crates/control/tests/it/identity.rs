//! What the server signs, judged by the Python package jwcrypto, which others wrote.

use std::net::SocketAddr;
use std::process::Command;

use bastide_api::Secret;
use bastide_control::run::dev;

use crate::{hvac, skipped};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_believes_what_is_signed_here_and_nothing_else() {
    let python = tokio::task::spawn_blocking(|| {
        let python = hvac::python()?;
        let has = |what: &str| {
            let asked = Command::new(&python).args(["-c", what]).output();
            asked.is_ok_and(|asked| asked.status.success())
        };
        if !has("import jwcrypto") {
            let pip = ["-m", "pip", "install", "--quiet", "jwcrypto==1.6.1"];
            let _ = Command::new(&python).args(pip).output();
        }
        if !has("import jwcrypto") {
            skipped("the Python package jwcrypto");
            return None;
        }
        Some(python)
    });
    let Some(python) = python.await.unwrap() else {
        return;
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token = Secret::new("identity-root".to_owned());
    let dev = dev::start(any, Some(token)).await.unwrap();
    let mut command = tokio::process::Command::new(python);
    command.arg("-c").arg(include_str!("identity.py"));
    command
        .arg(format!("http://{}", dev.address))
        .arg("identity-root");
    let done = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).trim(),
        "all checks passed"
    );
    dev.server.stop().await;
}
