//! What needs root says so at once.

use crate::exit::{Exit, Failure};

/// Refuses to go on without root.
pub fn require_root(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let what = format!("`{what}` needs root: it makes a network device and rules");
    Err(Failure::new(Exit::Usage, what)
        .hint("run it with sudo")
        .into())
}
