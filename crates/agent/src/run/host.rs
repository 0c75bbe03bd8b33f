//! This host's kernel: the mesh device's addresses and routes, settings, and the ledger of it all.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bastide_linux::netlink::{NetlinkError, Route, Socket};
use bastide_linux::sysctl::{self, SysctlError};
use ipnet::{IpNet, Ipv4Net};
use tracing::info;

use super::state::{StateDir, StateError};
use crate::core::desired::Device;
use crate::core::journal::{Change, Journal};

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

/// The journal on disk, shared by all that change this host.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<(StateDir, Journal)>>);

impl Ledger {
    /// Takes up the journal of earlier runs.
    pub fn open(state: StateDir) -> Result<Self, HostError> {
        let journal = state.journal().map_err(HostError::Journal)?;
        Ok(Self(Arc::new(Mutex::new((state, journal)))))
    }

    /// Writes a change down, before it is made.
    pub fn record(&self, change: Change) -> Result<(), HostError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, journal) = &mut *inner;
        if journal.record(change) {
            state.save_journal(journal).map_err(HostError::Journal)?;
        }
        Ok(())
    }

    /// The changes still to undo, last first.
    pub fn to_undo(&self) -> Vec<Change> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1.undo_order().cloned().collect()
    }

    /// Forgets a change that was undone.
    pub fn forget(&self, change: &Change) -> Result<(), HostError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, journal) = &mut *inner;
        journal.forget(change);
        state.save_journal(journal).map_err(HostError::Journal)
    }

    /// Gives a kernel setting a value, unless it has it.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), HostError> {
        let before = sysctl::read(name).map_err(HostError::Sysctl)?;
        if before == value {
            return Ok(());
        }
        self.record(Change::Sysctl {
            name: name.to_owned(),
            before,
        })?;
        info!(name, value, "kernel setting changed");
        sysctl::write(name, value).map_err(HostError::Sysctl)
    }
}

/// The mesh device in the kernel.
#[derive(Default)]
pub struct MeshDevice {
    routes: BTreeSet<Ipv4Net>,
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
        for gone in self.routes.difference(&device.routes) {
            socket
                .delete_route(&route(gone))
                .map_err(HostError::Netlink)?;
        }
        for to in device.routes.difference(&self.routes) {
            socket
                .replace_route(&route(to))
                .map_err(HostError::Netlink)?;
        }
        self.routes.clone_from(&device.routes);
        Ok(())
    }
}
