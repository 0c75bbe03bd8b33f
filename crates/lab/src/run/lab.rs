//! The handle of a lab: brings it up, runs things in it, takes it down.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bastide_linux::cgroup::Hierarchies;
use bastide_linux::namespace::{self, Kind, Namespace};
use bastide_linux::netlink::{Link, Socket};
use bastide_linux::nft;
use bastide_linux::spawn::{Child, Command, Signal, Stdio};

use self::owner::Owner;
use super::GROUP_PREFIX;
use super::capture::Capture;
use super::control::{Answer, Connection, Request, Status};
use super::process::{Output, Process, lock};
use super::state::{Removed, State};
use crate::core::fault::{self, Fault};
use crate::core::plan::{Plan, Role};
use crate::core::tally::Filters;

mod error;
mod owner;

pub use error::LabError;

/// How long a supervisor may take to end once it was told to.
const END_WAIT: Duration = Duration::from_secs(20);

/// How a lab is brought up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where labs keep their state while they are up: one folder each. A short path: a socket's
    /// path has at most 107 bytes.
    pub state_root: PathBuf,
    /// The program that supervises labs and is the first process of hosts: it must call
    /// [`crate::run::supervisor_main`] when its arguments are `before` and `supervisor …`, and
    /// [`crate::run::init_main`] when they are `before` and `init …`, with what follows.
    pub program: PathBuf,
    /// What stands before those words on its command line.
    pub before: Vec<String>,
}

/// A lab that is up.
///
/// Dropping the handle of whoever brought it up takes it down, and so does that process's end,
/// unless [`Lab::keep`] was called. Dropping a handle got by [`Lab::attach`] does nothing.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    folder: PathBuf,
    group: String,
    control: Mutex<Connection>,
    /// If this handle brought it up.
    owner: Option<Owner>,
    /// Processes started through this handle. The first process of a PID namespace ends only when
    /// all others were waited for by their parents, which for these is us.
    processes: Mutex<Vec<Weak<Mutex<Child>>>>,
    removed_before: Vec<Removed>,
}

impl Lab {
    /// Brings `plan` up, and returns when its network stands and its hosts run.
    pub fn up(plan: Plan, options: &Options) -> Result<Self, LabError> {
        let (mut state, removed_before) = State::take(&options.state_root, plan.name())?;
        let group = format!("{GROUP_PREFIX}{}-{}", plan.name(), random_word()?);
        state.record(&group, plan.text())?;
        match Owner::start(&plan, options, &state, &group) {
            Ok((owner, control)) => Ok(Self {
                plan,
                folder: state.folder().to_owned(),
                group,
                control: Mutex::new(control),
                owner: Some(owner),
                processes: Mutex::default(),
                removed_before,
            }),
            Err(error) => {
                let _ = state.remove();
                Err(error)
            }
        }
    }

    /// Finds the lab called `name` that is up.
    pub fn attach(name: &str, state_root: &Path) -> Result<Self, LabError> {
        let folder = state_root.join(name);
        let not_up = |source| LabError::NotUp {
            lab: name.to_owned(),
            source,
        };
        let name_is_path = name.contains('/') || name.starts_with('.') || name.is_empty();
        if name_is_path {
            return Err(not_up(io::ErrorKind::InvalidInput.into()));
        }
        let control = UnixStream::connect(folder.join("control")).map_err(not_up)?;
        let text = std::fs::read_to_string(folder.join("lab.yaml")).map_err(not_up)?;
        let group = std::fs::read_to_string(folder.join("lock")).map_err(not_up)?;
        Ok(Self {
            plan: Plan::parse(&text).map_err(LabError::File)?,
            folder,
            group,
            control: Mutex::new(Connection::new(control)),
            owner: None,
            processes: Mutex::default(),
            removed_before: Vec::new(),
        })
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns what an earlier lab of the name had left behind and [`Lab::up`] removed.
    pub fn removed_before(&self) -> &[Removed] {
        &self.removed_before
    }

    /// Returns the supervisor's process id, if this handle brought the lab up.
    pub fn supervisor_pid(&self) -> Option<u32> {
        self.owner.as_ref().map(Owner::supervisor_pid)
    }

    /// Returns the name of the lab's control group, below the root of each hierarchy.
    pub fn control_group(&self) -> &str {
        &self.group
    }

    /// Starts `command` in a node: in all namespaces of a host, or in the network of a router or
    /// switch. It ends with the lab at the latest, and when the returned value is dropped.
    pub fn spawn(&self, node: &str, mut command: Command) -> Result<Process, LabError> {
        command.new_session();
        self.start(node, command)
    }

    /// Runs `command` in a node to its end, with our own standard streams unless told otherwise.
    pub fn exec(&self, node: &str, mut command: Command) -> Result<ExitStatus, LabError> {
        // This thread waits for it, so its end is ours.
        command.death_signal(Signal::KILL);
        let mut process = self.start(node, command)?;
        process.wait()
    }

    /// Runs `command` in a node to its end: hands it `input`, and returns what it wrote.
    pub fn output(
        &self,
        node: &str,
        mut command: Command,
        input: &[u8],
    ) -> Result<Output, LabError> {
        command.stdin(if input.is_empty() {
            Stdio::Null
        } else {
            Stdio::Pipe
        });
        command
            .stdout(Stdio::Pipe)
            .stderr(Stdio::Pipe)
            .death_signal(Signal::KILL);
        let mut process = self.spawn(node, command)?;
        let (stdin, stdout, stderr) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        );
        let follow = |source| LabError::Follow {
            node: node.to_owned(),
            source,
        };
        let read = |file: Option<File>| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.map_or(Ok(0), |mut file| file.read_to_end(&mut bytes))?;
            Ok(bytes)
        };
        thread::scope(|scope| {
            scope.spawn(move || {
                // A command that does not want its input may close it.
                stdin.map(|mut stdin| stdin.write_all(input))
            });
            let stderr = scope.spawn(move || read(stderr));
            let stdout = read(stdout).map_err(follow)?;
            let stderr = stderr
                .join()
                .expect("reading does not panic")
                .map_err(follow)?;
            Ok(Output {
                status: process.wait()?,
                stdout,
                stderr,
            })
        })
    }

    /// Returns a node's network namespace. All switches share one.
    pub fn network(&self, node: &str) -> Result<Namespace, LabError> {
        let namespaces = self.namespaces(node)?;
        let network = namespaces
            .into_iter()
            .find(|namespace| namespace.kind() == Kind::Network);
        network.ok_or_else(|| LabError::NoNode {
            node: node.to_owned(),
        })
    }

    /// Lists the links of a node as they are now.
    pub fn links(&self, node: &str) -> Result<Vec<Link>, LabError> {
        Ok(Socket::open_in(&self.network(node)?)?.links()?)
    }

    /// Does `work` on a thread of its own in a node's network, to open sockets there for example.
    pub fn within<T: Send>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        Ok(namespace::within(&[&self.network(node)?], work)?)
    }

    /// Drops everything on a link (`node/interface`, either end), both ways, until it is healed.
    /// Its ends notice nothing: they keep their carrier, addresses and routes.
    pub fn cut(&self, link: &str) -> Result<(), LabError> {
        self.ask(&Request::Cut {
            link: link.to_owned(),
        })
        .map(drop)
    }

    /// Undoes [`Lab::cut`].
    pub fn heal(&self, link: &str) -> Result<(), LabError> {
        self.ask(&Request::Heal {
            link: link.to_owned(),
        })
        .map(drop)
    }

    /// Makes a node drop packets, instead of those that it dropped before. With none it drops nothing
    /// any more.
    pub fn fault(&self, node: &str, faults: &[Fault]) -> Result<(), LabError> {
        Ok(nft::apply_in(
            &self.network(node)?,
            &fault::ruleset(faults),
        )?)
    }

    /// Returns how many packets a node has dropped since its faults were set.
    pub fn dropped(&self, node: &str) -> Result<u64, LabError> {
        let listing = self.within(node, || nft::list(fault::TABLE))??;
        Ok(fault::dropped(&listing.unwrap_or_default()))
    }

    /// Counts the frames on an interface of a node, from now on.
    pub fn capture(
        &self,
        node: &str,
        interface: &str,
        filters: &Filters,
    ) -> Result<Capture, LabError> {
        Ok(Capture::begin(
            &self.network(node)?,
            interface,
            filters,
            None,
        )?)
    }

    /// The same, and writes all frames to a pcap file too.
    pub fn capture_to(
        &self,
        node: &str,
        interface: &str,
        filters: &Filters,
        file: &Path,
    ) -> Result<Capture, LabError> {
        Ok(Capture::begin(
            &self.network(node)?,
            interface,
            filters,
            Some(file),
        )?)
    }

    /// Tells how the lab is.
    pub fn status(&self) -> Result<Status, LabError> {
        match self.ask(&Request::Status)?.0 {
            Answer::Status(status) => Ok(status),
            other => Err(LabError::Refused {
                why: format!("unexpected answer {other:?}"),
            }),
        }
    }

    /// Lets the lab live on when this handle is dropped and when this process ends.
    pub fn keep(mut self) -> Result<(), LabError> {
        if let Some(owner) = self.owner.take() {
            let operation = "tell the supervisor to live on";
            owner
                .let_live()
                .map_err(|source| LabError::System { operation, source })?;
        }
        Ok(())
    }

    /// Takes the lab down and returns when nothing of it is left.
    pub fn down(mut self) -> Result<Vec<Removed>, LabError> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<Removed>, LabError> {
        // One that is dead already does not answer; what it left is removed all the same.
        let _ = self.ask(&Request::Down);
        for process in self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            if let Some(child) = process.upgrade() {
                let mut child = lock(&child);
                let _ = child.signal(Signal::KILL);
                let _ = child.wait();
            }
        }
        if let Some(owner) = self.owner.take() {
            owner.end();
        } else {
            // The supervisor is another's child: its end shows as the end of the connection.
            self.control
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .wait_for_end();
        }
        // Its files are closed one after the other: the lock may be free a moment later.
        let deadline = Instant::now() + END_WAIT;
        loop {
            match State::lock(&self.folder)? {
                Some(state) => return Ok(state.remove()?),
                None if !self.folder.exists() || deadline < Instant::now() => return Ok(Vec::new()),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn start(&self, node: &str, mut command: Command) -> Result<Process, LabError> {
        let (name, found) = self.plan.node(node).ok_or_else(|| LabError::NoNode {
            node: node.to_owned(),
        })?;
        for namespace in self.namespaces(node)? {
            command.enter(namespace);
        }
        command.env_default("HOME", "/root");
        if found.role == Role::Host {
            let hierarchies = Hierarchies::find()?;
            let leaf = if hierarchies.is_unified_only() {
                "/init"
            } else {
                ""
            };
            for procs in hierarchies
                .group(&format!("{}/{name}{leaf}", self.group))
                .open_procs()?
            {
                command.join_group(procs);
            }
        }
        let spawned = command.spawn();
        let mut child = spawned.map_err(|source| LabError::Spawn {
            node: node.to_owned(),
            source,
        })?;
        let file = |end: Option<OwnedFd>| end.map(File::from);
        let (stdin, stdout, stderr) = (
            file(child.stdin.take()),
            file(child.stdout.take()),
            file(child.stderr.take()),
        );
        let child = Arc::new(Mutex::new(child));
        let mut processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        processes.retain(|process| process.strong_count() != 0);
        processes.push(Arc::downgrade(&child));
        Ok(Process {
            node: node.to_owned(),
            child,
            stdin,
            stdout,
            stderr,
        })
    }

    fn namespaces(&self, node: &str) -> Result<Vec<Namespace>, LabError> {
        let (answer, descriptors) = self.ask(&Request::Namespaces {
            node: node.to_owned(),
        })?;
        let Answer::Namespaces { kinds } = answer else {
            return Err(LabError::Refused {
                why: format!("unexpected answer {answer:?}"),
            });
        };
        let known = |name: &str| Kind::ALL.into_iter().find(|kind| kind.file_name() == name);
        let pairs = kinds.iter().zip(descriptors);
        Ok(pairs
            .filter_map(|(kind, file)| Some(Namespace::from_fd(known(kind)?, file)))
            .collect())
    }

    fn ask(&self, request: &Request) -> Result<(Answer, Vec<OwnedFd>), LabError> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let not_up = |source| LabError::NotUp {
            lab: self.plan.name().to_string(),
            source,
        };
        control.send(request, &[]).map_err(not_up)?;
        match control.receive().map_err(not_up)? {
            Some((Answer::Refused { why }, _)) => Err(LabError::Refused { why }),
            Some(answer) => Ok(answer),
            None => Err(not_up(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owner.is_some()
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "lab could not be taken down whole");
        }
    }
}

fn random_word() -> Result<String, LabError> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
        |error| LabError::System {
            operation: "draw a random number",
            source: error.into(),
        },
    )?;
    Ok(format!("{:08x}", u32::from_ne_bytes(bytes)))
}
