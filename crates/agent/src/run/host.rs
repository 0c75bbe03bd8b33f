//! This host's kernel: the mesh device's addresses and routes, and what is unreachable without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bastide_cluster::core::collisions::{self, Owner, Taken};
use bastide_linux::netlink::{LinkIndex, NetlinkError, Route, Socket};
use bastide_linux::sysctl::SysctlError;
use ipnet::{IpNet, Ipv4Net};
use tracing::info;

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

/// Returns what this host's own addresses and routes use; ours are left out.
pub fn taken() -> Result<Vec<Taken>, HostError> {
    let mut socket = Socket::open().map_err(HostError::Netlink)?;
    let links = socket.links().map_err(HostError::Netlink)?;
    let names: BTreeMap<_, _> = links
        .into_iter()
        .map(|link| (link.index, link.name))
        .collect();
    let interface = |index| names.get(&index).cloned().unwrap_or_default();
    let mut taken = Vec::new();
    for address in socket.addresses().map_err(HostError::Netlink)? {
        if let IpNet::V4(range) = address.net {
            let interface = interface(address.link);
            taken.push((interface.clone(), range, Owner::Address { interface }));
        }
    }
    for route in socket.routes().map_err(HostError::Netlink)? {
        if let (IpNet::V4(range), Some(dev)) = (route.to, route.dev) {
            let interface = interface(dev);
            taken.push((interface.clone(), range, Owner::Route { interface }));
        }
    }
    Ok(taken
        .into_iter()
        .filter(|(interface, ..)| !collisions::is_own_interface(interface, INTERFACE))
        .map(|(_, range, by)| Taken { range, by })
        .collect())
}

/// The mesh device in the kernel.
#[derive(Default)]
pub struct MeshDevice {
    wanted: Option<Device>,
    /// Destinations that take no more than this, bytes.
    limits: BTreeMap<Ipv4Net, u16>,
    /// The routes that are there, with their MTU if it is below the device's; `None` before the first
    /// look at what an earlier run left.
    routes: Option<BTreeMap<Ipv4Net, Option<u16>>>,
}

impl MeshDevice {
    /// Brings the device's addresses and routes in line with what is wanted.
    pub fn apply(&mut self, device: &Device) -> Result<(), HostError> {
        let mut socket = Socket::open().map_err(HostError::Netlink)?;
        let link = link(&mut socket)?;
        let wanted: BTreeSet<IpNet> = device.addresses.iter().copied().map(IpNet::V4).collect();
        let present = socket.addresses().map_err(HostError::Netlink)?;
        let present: BTreeSet<IpNet> = present
            .into_iter()
            .filter(|address| address.link == link && address.net.addr().is_ipv4())
            .map(|address| address.net)
            .collect();
        for gone in present.difference(&wanted) {
            socket
                .delete_address(link, *gone)
                .map_err(HostError::Netlink)?;
        }
        // In the order given: the first address is the one that the kernel prefers as a source.
        for address in device.addresses.iter().copied().map(IpNet::V4) {
            if !present.contains(&address) {
                socket
                    .add_address(link, address)
                    .map_err(HostError::Netlink)?;
            }
        }
        socket
            .set_mtu(link, device.mtu.into())
            .map_err(HostError::Netlink)?;
        socket.set_up(link).map_err(HostError::Netlink)?;
        self.wanted = Some(device.clone());
        self.set_routes(&mut socket, link)
    }

    /// Gives destinations routes of their own MTU, and the others the device's. The kernel then makes
    /// packets that fit, and tells forwarded senders to.
    pub fn limit(&mut self, limits: BTreeMap<Ipv4Net, u16>) -> Result<(), HostError> {
        // Without routes, the last attempt failed.
        let is_news = self.limits != limits || self.routes.is_none();
        if !is_news || self.wanted.is_none() {
            return Ok(());
        }
        self.limits = limits;
        let mut socket = Socket::open().map_err(HostError::Netlink)?;
        let link = link(&mut socket)?;
        self.set_routes(&mut socket, link)
    }

    fn set_routes(&mut self, socket: &mut Socket, link: LinkIndex) -> Result<(), HostError> {
        let Some(device) = &self.wanted else {
            return Ok(());
        };
        let mut wanted: BTreeMap<Ipv4Net, Option<u16>> =
            device.routes.iter().map(|to| (*to, None)).collect();
        wanted.extend(self.limits.iter().map(|(to, mtu)| (*to, Some(*mtu))));
        let route = |to: &Ipv4Net, mtu: Option<u16>| {
            let mut route = Route::on_link(IpNet::V4(*to), link);
            route.src = Some(IpAddr::V4(device.source));
            route.mtu = mtu.map(u32::from);
            route
        };
        let known = match self.routes.take() {
            Some(known) => known,
            None => {
                let mut left = routes(socket, link)?;
                // Made anew: an earlier run may have had another source.
                left.retain(|to, _| !wanted.contains_key(to));
                left
            }
        };
        for gone in known.keys().filter(|to| !wanted.contains_key(to)) {
            let gone = Route::on_link(IpNet::V4(*gone), link);
            socket.delete_route(&gone).map_err(HostError::Netlink)?;
        }
        for (to, mtu) in &wanted {
            if known.get(to) != Some(mtu) {
                if mtu.is_some() {
                    info!(%to, mtu, "route takes less than the device");
                }
                socket
                    .replace_route(&route(to, *mtu))
                    .map_err(HostError::Netlink)?;
            }
        }
        self.routes = Some(wanted);
        Ok(())
    }
}

/// Returns the routes over a device, with their MTU: on the mesh device nobody else makes any.
fn routes(
    socket: &mut Socket,
    device: LinkIndex,
) -> Result<BTreeMap<Ipv4Net, Option<u16>>, HostError> {
    let routes = socket.routes().map_err(HostError::Netlink)?;
    let ours = routes.iter().filter(|route| route.dev == Some(device));
    let to = ours.filter_map(|route| match route.to {
        IpNet::V4(to) => Some((to, route.mtu.and_then(|mtu| u16::try_from(mtu).ok()))),
        IpNet::V6(_) => None,
    });
    Ok(to.collect())
}

fn link(socket: &mut Socket) -> Result<LinkIndex, HostError> {
    let link = socket.link(INTERFACE).map_err(HostError::Netlink)?;
    Ok(link.ok_or(HostError::NoDevice)?.index)
}
