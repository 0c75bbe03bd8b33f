//! What needs root says so at once, and what runs as root gives up what it does not need.

use anyhow::Context;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use crate::exit::{Exit, Failure};

/// All that an agent can ever do beyond an ordinary process: links, routes, rules and kernel settings
/// of the network; what `iptables` opens; ports below 1024; memory that is not swapped out.
pub const AGENT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::IPC_LOCK);

/// Limits this process, and all that it ever starts, to what a daemon needs: no privileges from
/// set-uid files, and no capabilities but `kept`, if that is given. One that was started by process
/// `attached_to` ends with it.
///
/// To be called before there are threads: each of these holds for one thread and those that it starts.
pub fn confine(kept: Option<CapabilitySet>, attached_to: Option<u32>) -> anyhow::Result<()> {
    set_no_new_privs(true).context("could not give up new privileges")?;
    if let Some(kept) = kept {
        give_up_all_but(kept).context("could not give up capabilities")?;
    }
    if let Some(parent) = attached_to {
        set_parent_process_death_signal(Some(Signal::TERM))
            .context("could not be attached to the process that started this one")?;
        let now = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
        anyhow::ensure!(
            now == Some(parent),
            "the process that started this one has ended"
        );
    }
    Ok(())
}

fn give_up_all_but(kept: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // It is an error to ask for one that this kernel does not know.
        if !kept.contains(capability) && capability_is_in_bounding_set(capability) == Ok(true) {
            match remove_capability_from_bounding_set(capability) {
                // Who may not do that has none to give up, and gains none from files any more.
                Err(rustix::io::Errno::PERM) => break,
                result => result?,
            }
        }
    }
    clear_ambient_capability_set()?;
    let now = capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.effective.intersection(kept),
        permitted: now.permitted.intersection(kept),
        inheritable: CapabilitySet::empty(),
    };
    // A unit gives no more than this, and need not let us ask.
    if now == sets {
        return Ok(());
    }
    set_capabilities(None, sets)
}

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
