//! The supervisor: the first process of a lab's PID namespace. It makes the lab, holds every
//! namespace of it by descriptor, answers on the control socket, and when it ends, the kernel ends
//! all the rest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bastide_linux::cgroup::Hierarchies;
use bastide_linux::namespace::{Kind, Namespace};
use bastide_linux::netlink::{LinkIndex, Request as Change};
use bastide_linux::signals::Signals;
use bastide_linux::spawn::{self, Signal};

use super::control::{Answer, Connection, LinkStatus, NodeStatus, Request, Status};
use super::make::{Arguments, Made, make};
use super::one_line;
use crate::core::operations;
use crate::core::plan::{End, Plan, Role};

/// Descriptors that the supervisor is started with: the lab's file, where to tell that it is up,
/// the lock, the control socket, and the line that breaks when whoever started it ends.
pub(crate) const FILE_FD: i32 = 3;
pub(crate) const READY_FD: i32 = 4;
pub(crate) const LOCK_FD: i32 = 5;
pub(crate) const CONTROL_FD: i32 = 6;
pub(crate) const LIFE_FD: i32 = 7;

/// Most control connections at a time; more are refused by closing them.
const CONNECTIONS_MAX: usize = 64;
/// How long ending hosts may take.
const END_WAIT: Duration = Duration::from_secs(10);

/// The program of a lab's supervisor. Runs until it is told to end.
pub fn supervisor_main(arguments: &[String]) -> ExitCode {
    let Ok(mut ready) = spawn::inherited(READY_FD).map(File::from) else {
        return ExitCode::from(2);
    };
    let lab = match begin(arguments) {
        Ok(lab) => lab,
        Err(why) => {
            let _ = ready.write_all(why.as_bytes());
            return ExitCode::FAILURE;
        }
    };
    if ready.write_all(b"ok").is_err() {
        lab.end();
        return ExitCode::FAILURE;
    }
    drop(ready);
    loop {
        match lab.signals.wait() {
            // Hosts' first processes are reaped here too; nobody waits for them elsewhere.
            Ok(Signal::CHILD) => lab.note_ended(&spawn::reap()),
            Ok(_) => {
                lab.end();
                return ExitCode::SUCCESS;
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn begin(arguments: &[String]) -> Result<Arc<Supervisor>, String> {
    let began = Instant::now();
    let arguments = Arguments::parse(arguments).ok_or("expected a group and a program")?;
    let signals = Signals::block(&[Signal::CHILD, Signal::TERM, Signal::INT])
        .map_err(|error| error.to_string())?;
    let inherit = |number| spawn::inherited(number).map_err(|error| error.to_string());
    let mut text = String::new();
    File::from(inherit(FILE_FD)?)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let lock = File::from(inherit(LOCK_FD)?);
    let listener = UnixListener::from(inherit(CONTROL_FD)?);
    let life = UnixStream::from(inherit(LIFE_FD)?);
    let plan = Plan::parse(&text).map_err(|error| error.to_string())?;
    let made = make(&plan, &arguments).map_err(|error| one_line(&error))?;
    let lab = Arc::new(Supervisor {
        plan,
        began,
        signals,
        group: arguments.group,
        made: Mutex::new(made),
        _lock: lock,
    });
    let serving = Arc::clone(&lab);
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    start("control", Box::new(move || serving.serve(&listener)))?;
    start("life", Box::new(move || watch_life(life)))?;
    Ok(lab)
}

/// Ends the supervisor when whoever started it has ended without a word.
fn watch_life(life: UnixStream) {
    let mut connection = Connection::new(life);
    match connection.receive::<Request>() {
        Ok(Some((Request::Keep, _))) => {}
        _ => end_soon(),
    }
}

/// Lets the main thread end the lab.
fn end_soon() {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, Signal::TERM);
}

struct Supervisor {
    plan: Plan,
    began: Instant,
    signals: Signals,
    group: String,
    made: Mutex<Made>,
    /// Held, not used: who can take it knows that this process has ended.
    _lock: File,
}

impl Supervisor {
    fn made(&self) -> MutexGuard<'_, Made> {
        // A thread that panicked here left nothing half done: each change is one kernel request.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_ended(&self, pids: &[u32]) {
        self.made().ended.extend(pids);
    }

    /// Ends all hosts and removes their control groups.
    fn end(&self) {
        let made = self.made();
        for host in made
            .hosts
            .values()
            .filter(|host| !made.ended.contains(&host.pid()))
        {
            let _ = host.signal(Signal::KILL);
        }
        if let Ok(hierarchies) = Hierarchies::find() {
            let _ = hierarchies.group(&self.group).remove(END_WAIT);
        }
    }

    fn serve(self: Arc<Self>, listener: &UnixListener) {
        let open = Arc::new(());
        for stream in listener.incoming().flatten() {
            let is_ours = bastide_linux::host::peer(&stream)
                .is_ok_and(|peer| peer.uid == rustix::process::geteuid().as_raw());
            if !is_ours || CONNECTIONS_MAX <= Arc::strong_count(&open) {
                continue;
            }
            let (lab, open) = (Arc::clone(&self), Arc::clone(&open));
            let _ = thread::Builder::new()
                .name("client".to_owned())
                .spawn(move || {
                    lab.converse(Connection::new(stream));
                    drop(open);
                });
        }
    }

    fn converse(&self, mut connection: Connection) {
        while let Ok(Some((request, _))) = connection.receive::<Request>() {
            let ends = request == Request::Down;
            if self.answer(request, &mut connection).is_err() {
                return;
            }
            if ends {
                // This connection stays open as long as the process lives: its end tells the client.
                end_soon();
            }
        }
    }

    fn answer(&self, request: Request, connection: &mut Connection) -> io::Result<()> {
        let answer = match request {
            Request::Status => Answer::Status(self.status()),
            Request::Cut { link } => self.set_cut(&link, true),
            Request::Heal { link } => self.set_cut(&link, false),
            Request::Down => {
                self.end();
                Answer::Done
            }
            Request::Keep => Answer::Done,
            Request::Namespaces { node } => {
                return match self.namespaces(&node) {
                    Ok(namespaces) => {
                        let kinds = namespaces
                            .iter()
                            .map(|namespace| namespace.kind().file_name().to_owned())
                            .collect();
                        let descriptors: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
                        connection.send(&Answer::Namespaces { kinds }, &descriptors)
                    }
                    Err(why) => connection.send(&Answer::Refused { why }, &[]),
                };
            }
        };
        connection.send(&answer, &[])
    }

    fn namespaces(&self, node: &str) -> Result<Vec<Namespace>, String> {
        let (name, found) = self
            .plan
            .node(node)
            .ok_or_else(|| format!("no node is called `{node}`"))?;
        let made = self.made();
        let mut namespaces = Vec::new();
        let opened = match found.role {
            Role::Host => {
                let host = &made.hosts[name];
                if made.ended.contains(&host.pid()) {
                    return Err(format!("host `{node}` has ended"));
                }
                [Kind::Cgroup, Kind::Uts, Kind::Ipc, Kind::Pid, Kind::Mount]
                    .map(|kind| Namespace::of_process(kind, host.pid()))
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
            }
            Role::Router(_) | Role::Switch => {
                Namespace::current(Kind::Pid).map(|namespace| vec![namespace])
            }
        };
        namespaces.extend(opened.map_err(|error| one_line(&error))?);
        let network = match found.role {
            Role::Switch => Namespace::current(Kind::Network).map_err(|error| one_line(&error))?,
            _ => made.networks[name]
                .try_clone()
                .map_err(|error| error.to_string())?,
        };
        namespaces.push(network);
        Ok(namespaces)
    }

    fn set_cut(&self, link: &str, cut: bool) -> Answer {
        let Some(end) = self.plan.end(link) else {
            let why = format!("no link is called `{link}`: expected `node/interface`");
            return Answer::Refused { why };
        };
        let found = operations::port_of(&self.plan, &end);
        let (port, bridge) = found.expect("the end is one of the plan's");
        let mut made = self.made();
        let request = Change::set_master(LinkIndex(port), (!cut).then_some(LinkIndex(bridge)));
        if let Err(error) = made.switches.apply(request) {
            return Answer::Refused {
                why: one_line(&error),
            };
        }
        if cut {
            made.cut.insert(end);
        } else {
            made.cut.remove(&end);
        }
        Answer::Done
    }

    fn status(&self) -> Status {
        let made = self.made();
        let hierarchies = Hierarchies::find().ok();
        let nodes = self
            .plan
            .nodes()
            .iter()
            .map(|(name, node)| {
                let links = node.interfaces.iter().map(|(interface, value)| {
                    let end = End {
                        node: name.clone(),
                        interface: interface.clone(),
                    };
                    LinkStatus {
                        link: end.to_string(),
                        addresses: value.addresses.iter().map(ToString::to_string).collect(),
                        cut: made.cut.contains(&end),
                    }
                });
                let host = made.hosts.get(name);
                let group = host.and(hierarchies.as_ref()).map(|all| {
                    all.group(&format!("{}/{name}", self.group))
                        .processes()
                        .len()
                });
                NodeStatus {
                    name: name.to_string(),
                    kind: node.role.word().to_owned(),
                    alive: host.is_none_or(|host| !made.ended.contains(&host.pid())),
                    processes: group.unwrap_or(0),
                    links: links.collect(),
                }
            })
            .collect();
        let up_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Status {
            lab: self.plan.name().to_string(),
            up_ms,
            nodes,
        }
    }
}
