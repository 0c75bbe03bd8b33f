//! Noticing that somebody undid what the agent put into the kernel: then it is put back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::NodeId;
use bastide_cluster::firewall;
use bastide_linux::netlink::{NetlinkError, Socket};
use bastide_linux::{nft, sysctl};
use ipnet::IpNet;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::follow::Picture;
use super::host::INTERFACE;
use crate::core::desired::{self, Device};

/// How often the device is looked at: three questions over netlink.
const DEVICE_EVERY: Duration = Duration::from_secs(2);
/// How often the filter and the settings are looked at, in looks at the device: each starts a program.
const FILTER_EVERY: u32 = 5;

/// Looks until dropped; tells through `missing` when something has to be put back.
pub async fn run(pictures: watch::Receiver<Picture>, me: NodeId, missing: Arc<Notify>) {
    let mut due = tokio::time::interval(DEVICE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks: u32 = 0;
    // The first tick comes at once, when nothing is in place yet.
    due.tick().await;
    loop {
        due.tick().await;
        looks = looks.wrapping_add(1);
        let wanted = desired::device(&pictures.borrow().view, me);
        let Some(wanted) = wanted else { continue };
        let with_filter = looks.is_multiple_of(FILTER_EVERY);
        let look = tokio::task::spawn_blocking(move || {
            Ok::<_, NetlinkError>(match device(&wanted)? {
                None if with_filter => filter(),
                found => found,
            })
        });
        match look.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(what))) => {
                warn!(what, "was changed by others, and is put back");
                missing.notify_one();
            }
            Ok(Err(error)) => debug!(%error, "the mesh device could not be looked at"),
            Err(error) => debug!(%error, "the look at the mesh device ended early"),
        }
    }
}

/// Returns what about the device is not as wanted.
fn device(wanted: &Device) -> Result<Option<&'static str>, NetlinkError> {
    let mut socket = Socket::open()?;
    // A device that is gone takes the mesh with it, which ends the agent: nothing to put back.
    let Some(link) = socket.link(INTERFACE)? else {
        return Ok(None);
    };
    if !link.is_up {
        return Ok(Some("the mesh device's being up"));
    }
    if link.mtu != u32::from(wanted.mtu) {
        return Ok(Some("the mesh device's MTU"));
    }
    let present: BTreeSet<IpNet> = socket
        .addresses()?
        .into_iter()
        .filter(|address| address.link == link.index)
        .map(|address| address.net)
        .collect();
    let mut addresses = wanted.addresses.iter().copied().map(IpNet::V4);
    if !addresses.all(|address| present.contains(&address)) {
        return Ok(Some("an address of the mesh device"));
    }
    let present: BTreeSet<IpNet> = socket
        .routes()?
        .into_iter()
        .filter(|route| route.dev == Some(link.index))
        .map(|route| route.to)
        .collect();
    let mut routes = wanted.routes.iter().copied().map(IpNet::V4);
    if !routes.all(|route| present.contains(&route)) {
        return Ok(Some("a route over the mesh device"));
    }
    Ok(None)
}

/// Returns what about the filter and the kernel's settings is not as wanted.
fn filter() -> Option<&'static str> {
    for family in ["inet", "bridge"] {
        // What cannot be asked is not known to be missing.
        if matches!(
            nft::list(&format!("{family} {}", firewall::TABLE)),
            Ok(None)
        ) {
            return Some("a table of the packet filter");
        }
    }
    let is_other = |change: firewall::HostChange| {
        sysctl::read(&change.path).is_ok_and(|value| value != change.value)
    };
    firewall::host_changes(INTERFACE)
        .into_iter()
        .any(is_other)
        .then_some("a kernel setting")
}
