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

use bastide_linux::cgroup::{GroupError, Hierarchies};
use bastide_linux::namespace::{self, Kind, Namespace, NamespaceError};
use bastide_linux::netlink::{Link, NetlinkError, Socket};
use bastide_linux::nft::{self, NftError};
use bastide_linux::spawn::{Child, Command, Signal, SpawnError, Stdio};

use super::GROUP_PREFIX;
use super::capture::{Capture, CaptureError};
use super::control::{Answer, Connection, Request, Status};
use super::process::{Output, Process, lock};
use super::state::{Removed, State, StateError};
use super::supervisor::{CONTROL_FD, FILE_FD, LIFE_FD, LOCK_FD, READY_FD};
use crate::core::fault::{self, Fault};
use crate::core::file::ParseError;
use crate::core::plan::{Plan, Role};
use crate::core::tally::Filters;

/// How long a supervisor may take to end once it was told to.
const END_WAIT: Duration = Duration::from_secs(20);

/// Why something could not be done with a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Its folder could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its supervisor could not be started.
    #[error("could not start the lab's supervisor")]
    Start(#[source] SpawnError),
    /// It did not come up.
    #[error("lab `{lab}` did not come up: {why}")]
    Up {
        /// The lab.
        lab: String,
        /// What its supervisor said.
        why: String,
    },
    /// It is not up.
    #[error("lab `{lab}` is not up")]
    NotUp {
        /// The lab.
        lab: String,
        /// Why it could not be reached.
        #[source]
        source: io::Error,
    },
    /// The lab's own file could not be read.
    #[error("could not read the file of the running lab")]
    File(#[source] ParseError),
    /// Its supervisor refused.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// No node has this name.
    #[error("no node is called `{node}`")]
    NoNode {
        /// The name.
        node: String,
    },
    /// A process could not be started in a node.
    #[error("could not run a command in node `{node}`")]
    Spawn {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// A process could not be waited for, or its output not be read.
    #[error("could not follow a command in node `{node}`")]
    Follow {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control group could not be joined.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A node's network could not be looked at.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A fault could not be set or looked at.
    #[error(transparent)]
    Fault(#[from] NftError),
    /// A capture could not begin.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Something else failed.
    #[error("could not {operation}")]
    System {
        /// What.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

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

#[derive(Debug)]
struct Owner {
    supervisor: Child,
    life: Connection,
}

impl Lab {
    /// Brings `plan` up, and returns when its network stands and its hosts run.
    pub fn up(plan: Plan, options: &Options) -> Result<Self, LabError> {
        let (mut state, removed_before) = State::take(&options.state_root, plan.name())?;
        let group = format!("{GROUP_PREFIX}{}-{}", plan.name(), random_word()?);
        state.record(&group, plan.text())?;
        match start(&plan, options, &state, &group) {
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
        self.owner.as_ref().map(|owner| owner.supervisor.pid())
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
        if let Some(mut owner) = self.owner.take() {
            let operation = "tell the supervisor to live on";
            owner
                .life
                .send(&Request::Keep, &[])
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
        if let Some(Owner {
            mut supervisor,
            life,
        }) = self.owner.take()
        {
            // A second way to say it, should the control socket have failed.
            drop(life);
            if !matches!(supervisor.wait_for(END_WAIT), Ok(Some(_))) {
                let _ = supervisor.signal(Signal::KILL);
                let _ = supervisor.wait_for(END_WAIT);
            }
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

fn start(
    plan: &Plan,
    options: &Options,
    state: &State,
    group: &str,
) -> Result<(Owner, Connection), LabError> {
    let system = |operation| move |source| LabError::System { operation, source };
    let listener = state.listen()?;
    let (mut ready, ready_write) = io::pipe().map_err(system("make a pipe"))?;
    let (file, file_write) = io::pipe().map_err(system("make a pipe"))?;
    let (life, life_theirs) = UnixStream::pair().map_err(system("make a socket"))?;
    let mut command = Command::new(&options.program);
    command
        .args(&options.before)
        .args(["supervisor", group])
        .arg(&options.program)
        .args(&options.before)
        .stdin(Stdio::Null)
        .stdout(Stdio::Null)
        .stderr(Stdio::Null)
        .descriptor(FILE_FD, file)
        .descriptor(READY_FD, ready_write)
        .descriptor(LOCK_FD, state.lock_file()?)
        .descriptor(CONTROL_FD, listener)
        .descriptor(LIFE_FD, life_theirs)
        .new_namespaces(&[Kind::Pid, Kind::Mount, Kind::Network])
        .new_session();
    let supervisor = command.spawn().map_err(LabError::Start)?;
    let mut owner = Owner {
        supervisor,
        life: Connection::new(life),
    };
    let mut why = String::new();
    let told = tell(file_write, plan.text()).and_then(|()| ready.read_to_string(&mut why));
    if told.is_err() || why != "ok" {
        let _ = owner.supervisor.signal(Signal::KILL);
        let _ = owner.supervisor.wait();
        let why = if why.is_empty() {
            "its supervisor ended".to_owned()
        } else {
            why
        };
        return Err(LabError::Up {
            lab: plan.name().to_string(),
            why,
        });
    }
    let control = UnixStream::connect(state.folder().join("control"))
        .map_err(system("connect to the supervisor"))?;
    Ok((owner, Connection::new(control)))
}

/// Writes `text` and closes the pipe, which tells the reader that it is whole.
fn tell(mut pipe: io::PipeWriter, text: &str) -> io::Result<()> {
    pipe.write_all(text.as_bytes())
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
