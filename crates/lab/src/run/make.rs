//! Makes a lab, in the namespaces of its supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use bastide_linux::cgroup::{GroupError, Hierarchies};
use bastide_linux::mount::{self, MountError};
use bastide_linux::namespace::{Kind, Namespace, NamespaceError};
use bastide_linux::netlink::{LinkIndex, NetlinkError, Request as Change, Route, Socket, VethEnd};
use bastide_linux::nft::{self, NftError};
use bastide_linux::spawn::{Child, Command, SpawnError, Stdio};
use bastide_linux::sysctl::{self, SysctlError};

use super::init::READY_FD as INIT_READY_FD;
use crate::core::operations::{self, Operation};
use crate::core::plan::{End, NodeName, Plan};

/// Why a lab could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("could not make node `{node}`")]
    Sysctl {
        node: NodeName,
        #[source]
        source: SysctlError,
    },
    #[error("could not prepare the switches")]
    SwitchSysctl {
        #[source]
        source: SysctlError,
    },
    #[error("could not make the network of node `{node}`")]
    Network {
        node: NodeName,
        #[source]
        source: NetlinkError,
    },
    #[error("could not make the switches")]
    Switches(#[source] NetlinkError),
    #[error("could not load the rules of router `{node}`")]
    Firewall {
        node: NodeName,
        #[source]
        source: NftError,
    },
    #[error("could not start host `{node}`")]
    Host {
        node: NodeName,
        #[source]
        source: SpawnError,
    },
    #[error("host `{node}` did not come up: {why}")]
    World { node: NodeName, why: String },
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("could not {operation}")]
    System {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

/// What a supervisor is told on its command line.
pub(super) struct Arguments {
    /// The lab's control group, below the root of each hierarchy.
    pub(super) group: String,
    /// The program whose `init` part a host's first process is.
    pub(super) program: PathBuf,
    /// What stands before `init` on its command line.
    pub(super) before: Vec<String>,
}

impl Arguments {
    pub(super) fn parse(arguments: &[String]) -> Option<Self> {
        let [group, program, before @ ..] = arguments else {
            return None;
        };
        Some(Self {
            group: group.clone(),
            program: program.into(),
            before: before.to_vec(),
        })
    }
}

/// What was made.
pub(super) struct Made {
    pub(super) networks: BTreeMap<NodeName, Namespace>,
    pub(super) hosts: BTreeMap<NodeName, Child>,
    /// Hosts whose first process has ended.
    pub(super) ended: BTreeSet<u32>,
    /// In the namespace of the switches, which is the supervisor's own.
    pub(super) switches: Socket,
    pub(super) cut: BTreeSet<End>,
}

/// Makes `plan` real.
pub(super) fn make(plan: &Plan, arguments: &Arguments) -> Result<Made, MakeError> {
    mount::make_private()?;
    // Process ids are those of this PID namespace from now on, so `/proc` must be too.
    mount::mount("proc", Path::new("/proc"), "")?;
    let operations = operations::operations(plan);
    let own = |source| MakeError::SwitchSysctl { source };
    write_sysctls(&operations::SWITCH_SYSCTLS).map_err(own)?;
    let mut networks = BTreeMap::new();
    for operation in &operations {
        if let Operation::Network { node, sysctls } = operation {
            networks.insert(node.clone(), make_network(node, sysctls)?);
        }
    }
    let mut switches = Socket::open().map_err(MakeError::Switches)?;
    switches
        .apply_all(&wire_requests(&operations, &networks))
        .map_err(MakeError::Switches)?;
    for (node, network) in &networks {
        let failed = |source| MakeError::Network {
            node: node.clone(),
            source,
        };
        let mut socket = Socket::open_in(network).map_err(failed)?;
        socket
            .apply_all(&node_requests(&operations, node))
            .map_err(failed)?;
    }
    // Loading rules and making a host's world mostly wait for the kernel: so all at the same time.
    let hosts = thread::scope(|scope| {
        let mut loading = Vec::new();
        for operation in &operations {
            if let Operation::Firewall { node, ruleset } = operation {
                let network = &networks[node];
                loading.push(scope.spawn(move || {
                    nft::apply_in(network, ruleset).map_err(|source| MakeError::Firewall {
                        node: node.clone(),
                        source,
                    })
                }));
            }
        }
        let hosts = make_hosts(&operations, &networks, arguments);
        for thread in loading {
            thread.join().expect("loading rules does not panic")?;
        }
        hosts
    })?;
    Ok(Made {
        networks,
        hosts,
        ended: BTreeSet::new(),
        switches,
        cut: BTreeSet::new(),
    })
}

fn make_network(
    node: &NodeName,
    sysctls: &[(&'static str, &'static str)],
) -> Result<Namespace, MakeError> {
    let (network, written) = Namespace::new_network(|| write_sysctls(sysctls))?;
    written.map_err(|source| MakeError::Sysctl {
        node: node.clone(),
        source,
    })?;
    Ok(network)
}

/// Writes settings of the calling thread's network namespace.
fn write_sysctls(sysctls: &[(&'static str, &'static str)]) -> Result<(), SysctlError> {
    for (name, value) in sysctls {
        match sysctl::write(name, value) {
            // A kernel without IPv6.
            Err(error) if error.is_unknown() => {}
            result => result?,
        }
    }
    Ok(())
}

fn wire_requests(
    operations: &[Operation],
    networks: &BTreeMap<NodeName, Namespace>,
) -> Vec<Change> {
    let mut requests = Vec::new();
    for operation in operations {
        match operation {
            Operation::Bridge { index, name } => {
                requests.push(Change::add_bridge(name, Some(LinkIndex(*index))));
            }
            Operation::Wire {
                port,
                port_name,
                bridge,
                node,
                interface,
                index,
                mtu,
            } => {
                let near = VethEnd {
                    index: Some(LinkIndex(*port)),
                    master: Some(LinkIndex(*bridge)),
                    mtu: *mtu,
                    ..VethEnd::new(port_name)
                };
                let far = VethEnd {
                    network: Some(networks[node].as_fd()),
                    index: Some(LinkIndex(*index)),
                    mtu: *mtu,
                    ..VethEnd::new(interface.as_str())
                };
                requests.push(Change::add_veth(&near, &far));
            }
            _ => {}
        }
    }
    requests
}

fn node_requests(operations: &[Operation], of: &NodeName) -> Vec<Change> {
    let mut requests = Vec::new();
    for operation in operations {
        match operation {
            Operation::Address {
                node,
                index,
                addresses,
            } if node == of => {
                requests.push(Change::set_up(LinkIndex(*index)));
                for net in addresses {
                    requests.push(Change::add_address(LinkIndex(*index), *net));
                }
            }
            Operation::Route { node, to, via } if node == of => {
                requests.push(Change::replace_route(&Route::via(*to, *via)));
            }
            _ => {}
        }
    }
    requests
}

fn make_hosts(
    operations: &[Operation],
    networks: &BTreeMap<NodeName, Namespace>,
    arguments: &Arguments,
) -> Result<BTreeMap<NodeName, Child>, MakeError> {
    let mut starting = BTreeMap::new();
    for operation in operations {
        if let Operation::Host { node } = operation {
            starting.insert(node.clone(), start_host(node, &networks[node], arguments)?);
        }
    }
    let mut hosts = BTreeMap::new();
    for (node, (child, mut ready)) in starting {
        let mut why = String::new();
        let read = ready.read_to_string(&mut why);
        read.map_err(|source| MakeError::System {
            operation: "wait for a host",
            source,
        })?;
        if why != "ok" {
            let why = if why.is_empty() {
                "it ended".to_owned()
            } else {
                why
            };
            return Err(MakeError::World { node, why });
        }
        hosts.insert(node, child);
    }
    Ok(hosts)
}

fn start_host(
    node: &NodeName,
    network: &Namespace,
    arguments: &Arguments,
) -> Result<(Child, io::PipeReader), MakeError> {
    let system = |operation| move |source| MakeError::System { operation, source };
    let group = Hierarchies::find()?.create(&format!("{}/{node}", arguments.group))?;
    let (ready, ready_write) = io::pipe().map_err(system("make a pipe"))?;
    let mut command = Command::new(&arguments.program);
    command
        .args(&arguments.before)
        .args(["init", node.as_str()])
        .stdin(Stdio::Null)
        .stdout(Stdio::Null)
        .stderr(Stdio::Null)
        .descriptor(INIT_READY_FD, ready_write)
        .enter(network.try_clone().map_err(system("share a namespace"))?)
        .new_namespaces(&[Kind::Pid, Kind::Mount, Kind::Uts, Kind::Ipc, Kind::Cgroup])
        .new_session();
    for procs in group.open_procs()? {
        command.join_group(procs);
    }
    let child = command.spawn();
    Ok((
        child.map_err(|source| MakeError::Host {
            node: node.clone(),
            source,
        })?,
        ready,
    ))
}
