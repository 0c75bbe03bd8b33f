//! This host's kernel: the mesh device's addresses and routes, and what is unreachable without it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bastide_linux::netlink::{LinkIndex, NetlinkError, Route, Socket};
use bastide_linux::sysctl::SysctlError;
use ipnet::{IpNet, Ipv4Net};

use super::ledger::Ledger;
use super::state::StateError;
use crate::core::desired::Device;
use crate::core::journal::Change;

/// The mesh device.
pub const INTERFACE: &str = "bst0";

/// What went wrong with this host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel refused.
    #[error("the kernel refused a change of the network")]
    Netlink(#[source] NetlinkError),
    /// A kernel setting could not be read or changed.
    #[error("a kernel setting could not be changed")]
    Sysctl(#[source] SysctlError),
    /// The mesh device is gone.
    #[error("the mesh device `{INTERFACE}` is gone")]
    NoDevice,
    /// The journal could not be kept, so nothing was changed.
    #[error("the journal of changes could not be kept")]
    Journal(#[source] StateError),
}

/// Lets nothing that is meant for these ranges go the default way, whether the mesh device is there or
/// not.
pub fn close_ranges(ledger: &Ledger, ranges: &[Ipv4Net]) -> Result<(), HostError> {
    let mut socket = Socket::open().map_err(HostError::Netlink)?;
    for to in ranges {
        ledger.record(Change::Unreachable { to: *to })?;
        socket
            .add_unreachable(IpNet::V4(*to))
            .map_err(HostError::Netlink)?;
    }
    Ok(())
}

/// The mesh device in the kernel.
#[derive(Default)]
pub struct MeshDevice {
    /// The routes that were made; `None` before the first look at what an earlier run left.
    routes: Option<BTreeSet<Ipv4Net>>,
}

impl MeshDevice {
    /// Brings the device's addresses and routes in line with what is wanted.
    pub fn apply(&mut self, device: &Device) -> Result<(), HostError> {
        let mut socket = Socket::open().map_err(HostError::Netlink)?;
        let link = socket
            .link(INTERFACE)
            .map_err(HostError::Netlink)?
            .ok_or(HostError::NoDevice)?;
        let wanted: BTreeSet<IpNet> = device.addresses.iter().copied().map(IpNet::V4).collect();
        let present = socket.addresses().map_err(HostError::Netlink)?;
        let present: BTreeSet<IpNet> = present
            .into_iter()
            .filter(|address| address.link == link.index && address.net.addr().is_ipv4())
            .map(|address| address.net)
            .collect();
        for gone in present.difference(&wanted) {
            socket
                .delete_address(link.index, *gone)
                .map_err(HostError::Netlink)?;
        }
        // In the order given: the first address is the one that the kernel prefers as a source.
        for address in device.addresses.iter().copied().map(IpNet::V4) {
            if !present.contains(&address) {
                socket
                    .add_address(link.index, address)
                    .map_err(HostError::Netlink)?;
            }
        }
        socket
            .set_mtu(link.index, device.mtu.into())
            .map_err(HostError::Netlink)?;
        socket.set_up(link.index).map_err(HostError::Netlink)?;
        let route = |to: &Ipv4Net| {
            let mut route = Route::on_link(IpNet::V4(*to), link.index);
            route.src = Some(IpAddr::V4(device.source));
            route
        };
        let known = match &self.routes {
            Some(known) => known.clone(),
            None => routes(&mut socket, link.index)?,
        };
        for gone in known.difference(&device.routes) {
            let gone = Route::on_link(IpNet::V4(*gone), link.index);
            socket.delete_route(&gone).map_err(HostError::Netlink)?;
        }
        for to in &device.routes {
            if self.routes.is_none() || !known.contains(to) {
                socket
                    .replace_route(&route(to))
                    .map_err(HostError::Netlink)?;
            }
        }
        self.routes = Some(device.routes.clone());
        Ok(())
    }
}

/// Returns the routes over a device: on the mesh device nobody else makes any.
fn routes(socket: &mut Socket, device: LinkIndex) -> Result<BTreeSet<Ipv4Net>, HostError> {
    let routes = socket.routes().map_err(HostError::Netlink)?;
    let ours = routes.iter().filter(|route| route.dev == Some(device));
    let to = ours.filter_map(|route| match route.to {
        IpNet::V4(to) => Some(to),
        IpNet::V6(_) => None,
    });
    Ok(to.collect())
}
