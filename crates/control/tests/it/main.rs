//! The control plane from outside: other people's clients, a real disk, a real kill.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod audit;
mod bad_days;
mod consul_template;
mod disk;
mod durability;
mod go_client;
mod hvac;
mod identity;
mod judges;
mod node;
mod oidc;
mod pki;
mod python;
mod seal;
mod slow;
mod standalone;
mod storm;
mod vaultrs;
mod wire;

use std::path::PathBuf;

use bastide_control::run::outbox::AuditTo;
use bastide_control::run::server::{SealKey, ServerConfig};

/// Says aloud that a test was not run, and why.
fn skipped(what: &str) {
    eprintln!("skipped: {what} is missing");
}

fn config(folder: &std::path::Path) -> ServerConfig {
    ServerConfig {
        audit: Some(AuditTo::file(folder.join("audit.log"))),
        cluster_name: "trial".to_owned(),
        ..ServerConfig::in_folder(
            folder.join("server"),
            SealKey::File(folder.join("seal.key")),
        )
    }
}

/// Returns an example of this package, which cargo builds along with its tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    profile.join("examples").join(name)
}
