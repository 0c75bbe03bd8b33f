//! Processes started safely from a program with threads.
//!
//! The child is made by `clone3` and runs nothing but system calls on memory that was prepared
//! before, until it executes the new program; a failure on the way comes back through a pipe as an
//! error that names the step. On the way it can make or enter namespaces, join control groups, and
//! give up what it may do.

mod child;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
pub use rustix::process::Signal;
use rustix::process::{
    Pid, Resource, WaitId, WaitIdOptions, WaitOptions, kill_process_group, pidfd_send_signal, wait,
    waitid,
};
pub use rustix::thread::CapabilitySet;

use crate::namespace::{Kind, Namespace};
use child::Step;

/// Where a program is looked for when its environment has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("could not start `{program}`: it failed to {step}")]
pub struct SpawnError {
    program: String,
    step: &'static str,
    #[source]
    source: io::Error,
}

impl SpawnError {
    /// Tells whether the program was not found.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// What a standard stream of a new process is.
#[derive(Debug)]
pub enum Stdio {
    /// Our own.
    Inherit,
    /// Nothing.
    Null,
    /// A pipe, whose other end is in [`Child`].
    Pipe,
    /// An open file.
    File(OwnedFd),
}

/// A process to be. Its environment is empty unless told otherwise.
#[derive(Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    stdio: [Stdio; 3],
    descriptors: Vec<(RawFd, OwnedFd)>,
    new: Vec<Kind>,
    enter: Vec<Namespace>,
    groups: Vec<OwnedFd>,
    session: bool,
    death_signal: Option<Signal>,
    user: Option<(u32, u32)>,
    bounding: Option<CapabilitySet>,
    no_new_privileges: bool,
    limits: Vec<(Resource, u64)>,
    umask: Option<u32>,
}

impl Command {
    /// A process that runs `program`: a path, or a name to look for in the `PATH` of its environment.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            stdio: [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
            descriptors: Vec::new(),
            new: Vec::new(),
            enter: Vec::new(),
            groups: Vec::new(),
            session: false,
            death_signal: None,
            user: None,
            bounding: None,
            no_new_privileges: false,
            limits: Vec::new(),
            umask: None,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets a variable of the environment unless it is set already.
    pub fn env_default(
        &mut self,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> &mut Self {
        self.environment
            .entry(name.into())
            .or_insert_with(|| value.into());
        self
    }

    /// Sets variables of the environment.
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.environment
            .extend(variables.into_iter().map(|(n, v)| (n.into(), v.into())));
        self
    }

    /// Sets the working folder, as seen in the namespaces that are entered.
    pub fn folder(&mut self, folder: impl Into<PathBuf>) -> &mut Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets standard input.
    pub fn stdin(&mut self, stdio: Stdio) -> &mut Self {
        self.stdio[0] = stdio;
        self
    }

    /// Sets standard output.
    pub fn stdout(&mut self, stdio: Stdio) -> &mut Self {
        self.stdio[1] = stdio;
        self
    }

    /// Sets standard error.
    pub fn stderr(&mut self, stdio: Stdio) -> &mut Self {
        self.stdio[2] = stdio;
        self
    }

    /// Hands an open file to the process as descriptor `number`, which is 3 or more. All others but
    /// the standard streams are closed.
    pub fn descriptor(&mut self, number: RawFd, file: impl Into<OwnedFd>) -> &mut Self {
        self.descriptors.push((number, file.into()));
        self
    }

    /// Starts the process in new namespaces of these kinds. A new control-group namespace has as
    /// its root the groups that are joined (see [`Self::join_group`]).
    pub fn new_namespaces(&mut self, kinds: &[Kind]) -> &mut Self {
        self.new.extend_from_slice(kinds);
        self
    }

    /// Starts the process in an existing namespace.
    pub fn enter(&mut self, namespace: Namespace) -> &mut Self {
        self.enter.push(namespace);
        self
    }

    /// Lets the process join a control group: `procs` is the group's file `cgroup.procs`, open for
    /// writing.
    pub fn join_group(&mut self, procs: impl Into<OwnedFd>) -> &mut Self {
        self.groups.push(procs.into());
        self
    }

    /// Makes the process the leader of a new session, apart from our terminal.
    pub fn new_session(&mut self) -> &mut Self {
        self.session = true;
        self
    }

    /// Lets the kernel send `signal` to the process when the *thread* that started it ends. So
    /// start it from a thread that lives as long as the process shall.
    pub fn death_signal(&mut self, signal: Signal) -> &mut Self {
        self.death_signal = Some(signal);
        self
    }

    /// Runs the process as this user and group, in no other groups.
    pub fn user(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.user = Some((uid, gid));
        self
    }

    /// Limits what the process and its descendants can ever do to `capabilities`.
    pub fn bound(&mut self, capabilities: CapabilitySet) -> &mut Self {
        self.bounding = Some(capabilities);
        self
    }

    /// Forbids the process and its descendants to gain privileges from set-uid files.
    pub fn no_new_privileges(&mut self) -> &mut Self {
        self.no_new_privileges = true;
        self
    }

    /// Limits a resource, soft and hard.
    pub fn limit(&mut self, resource: Resource, value: u64) -> &mut Self {
        self.limits.push((resource, value));
        self
    }

    /// Sets which permissions new files do not get.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.umask = Some(mask);
        self
    }

    /// Starts the process. Files and namespaces given are used up.
    pub fn spawn(&mut self) -> Result<Child, SpawnError> {
        let name = self.program.to_string_lossy().into_owned();
        self.try_spawn().map_err(|(step, source)| SpawnError {
            program: name,
            step: step.words(),
            source,
        })
    }

    fn try_spawn(&mut self) -> Result<Child, (Step, io::Error)> {
        let prepare = |error: io::Error| (Step::Prepare, error);
        let mut ours: [Option<OwnedFd>; 3] = [None, None, None];
        let mut theirs: Vec<(RawFd, OwnedFd)> = Vec::new();
        for (number, stdio) in (0..).zip(&mut self.stdio) {
            let file = match std::mem::replace(stdio, Stdio::Inherit) {
                Stdio::Inherit => continue,
                Stdio::File(file) => file,
                Stdio::Null => File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
                    .map_err(prepare)?
                    .into(),
                Stdio::Pipe => {
                    let ends = pipe_with(PipeFlags::CLOEXEC).map_err(|e| prepare(e.into()))?;
                    let (read, write) = ends;
                    let (our, their) = if number == 0 {
                        (write, read)
                    } else {
                        (read, write)
                    };
                    ours[usize::try_from(number).expect("0, 1 or 2")] = Some(our);
                    their
                }
            };
            theirs.push((number, file));
        }
        theirs.append(&mut self.descriptors);
        let enter = std::mem::take(&mut self.enter);
        let groups = std::mem::take(&mut self.groups);
        let prepared = self.prepare(&theirs, &enter, &groups).map_err(prepare)?;

        let (report, report_write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| prepare(error.into()))?;
        let pid_namespace = enter.iter().find(|namespace| namespace.kind() == Kind::Pid);
        let (pid, pidfd) = child::start(
            &prepared,
            [report.as_fd(), report_write.as_fd()],
            pid_namespace,
        )
        .map_err(|error| (Step::Clone, error))?;
        drop((report_write, theirs, enter, groups));

        let mut failure = Vec::new();
        let read = File::from(report).read_to_end(&mut failure);
        let [stdin, stdout, stderr] = ours;
        let mut child = Child {
            pid,
            pidfd,
            stdin,
            stdout,
            stderr,
            status: None,
        };
        read.map_err(prepare)?;
        match child::parse_failure(&failure) {
            None => Ok(child),
            Some(failed) => {
                let _ = child.wait();
                Err(failed)
            }
        }
    }

    fn prepare(
        &self,
        files: &[(RawFd, OwnedFd)],
        enter: &[Namespace],
        groups: &[OwnedFd],
    ) -> io::Result<child::Prepared> {
        let mut environment = self.environment.clone();
        let path = environment
            .entry("PATH".into())
            .or_insert_with(|| PATH_DEFAULT.into())
            .clone();
        let mut arguments = vec![c_string(&self.program)?];
        for argument in &self.arguments {
            arguments.push(c_string(argument)?);
        }
        let mut variables = Vec::new();
        for (name, value) in &environment {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            variables.push(c_string(&variable)?);
        }
        let mut entered = Vec::new();
        for kind in Kind::ALL {
            if kind != Kind::Pid {
                let of_kind = enter.iter().filter(|namespace| namespace.kind() == kind);
                entered.extend(of_kind.map(|n| (n.as_fd().as_raw_fd(), kind.setns_flag())));
            }
        }
        let enters_mounts = enter
            .iter()
            .any(|namespace| namespace.kind() == Kind::Mount);
        let folder = match &self.folder {
            Some(folder) => Some(c_string(folder.as_os_str())?),
            None if enters_mounts => Some(c"/".to_owned()),
            None => None,
        };
        let new = |kinds: &[Kind]| {
            kinds
                .iter()
                .fold(0, |flags, kind| flags | kind.clone_flag())
        };
        let groups_namespace = self.new.contains(&Kind::Cgroup);
        let at_clone: Vec<Kind> = self
            .new
            .iter()
            .copied()
            .filter(|kind| *kind != Kind::Cgroup)
            .collect();
        Ok(child::Prepared::new(child::Parts {
            candidates: candidates(&self.program, &path)?,
            arguments,
            variables,
            folder,
            files: files
                .iter()
                .map(|(number, file)| (*number, file.as_raw_fd()))
                .collect(),
            clone_flags: new(&at_clone),
            new_cgroup_namespace: groups_namespace,
            enter: entered,
            groups: groups.iter().map(AsRawFd::as_raw_fd).collect(),
            session: self.session,
            death_signal: self
                .death_signal
                .map(|signal| signal.as_raw().unsigned_abs().into()),
            user: self.user,
            bounding: self.bounding.map(|set| set.bits()),
            no_new_privileges: self.no_new_privileges,
            limits: self.limits.clone(),
            umask: self.umask,
        }))
    }
}

/// Returns the paths to try: each folder of `path` for a bare name.
fn candidates(program: &OsStr, path: &OsStr) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let folders = path
        .as_bytes()
        .split(|&byte| byte == b':')
        .filter(|folder| !folder.is_empty());
    folders
        .map(|folder| {
            c_string(&OsString::from_vec(
                [folder, b"/", program.as_bytes()].concat(),
            ))
        })
        .collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A process that was started. Dropping this neither ends it nor waits for it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    /// The other end of its standard input, if that is a pipe.
    pub stdin: Option<OwnedFd>,
    /// The other end of its standard output, if that is a pipe.
    pub stdout: Option<OwnedFd>,
    /// The other end of its standard error, if that is a pipe.
    pub stderr: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Child {
    /// Returns its process id, as seen from our own namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the descriptor that stands for it; readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal. One that has ended and was not waited for yet takes it silently.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Sends a signal to it and the descendants that stayed in its process group. It must have
    /// been started as the leader of a session.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(kill_process_group(
            pid.expect("a process id is positive"),
            signal,
        )?)
    }

    /// Returns how it ended, or `None` if it still runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.wait_with(WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// Waits until it has ended, at most `limit`.
    pub fn wait_for(&mut self, limit: std::time::Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until it has ended. To be called within a tokio runtime. Cancel safe.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        use tokio::io::Interest;
        use tokio::io::unix::AsyncFd;
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let pidfd = self.pidfd.try_clone()?;
        // WHY: tokio offers no safe way to wait for a foreign descriptor.
        // SAFETY: an `OwnedFd` always returns its one descriptor and keeps it open until dropped,
        // and the `AsyncFd` owns it.
        let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        let watched = registered.map_err(io::Error::from)?;
        loop {
            let mut ready = watched.readable().await?;
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            ready.clear_ready();
        }
    }

    fn wait_with(&mut self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let ended = waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
            self.status = ended.map(|status| exit_status(&status));
        }
        Ok(self.status)
    }
}

/// Takes over descriptor `number`, which whoever started this process handed to it (see
/// [`Command::descriptor`]). Fails if it is not open, or was taken already.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // WHY: only an inherited descriptor has no owner yet, and only the raw form can name it.
    // SAFETY: the descriptor is only asked for its flags; if it is not open that fails.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(borrowed)?;
    if flags.contains(rustix::io::FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: it survived an `execve`, and whatever this program opens itself does not (Rust sets
    // the flag on each), so nobody here owns it; the flag set below makes this happen only once.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Reaps all children that have ended and returns their process ids. What the first process of a
/// PID namespace owes to all others there. A [`Child`] whose process is reaped here can no longer
/// be waited for.
pub fn reap() -> Vec<u32> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
        ended.push(pid.as_raw_nonzero().get().cast_unsigned());
    }
    ended
}

fn exit_status(status: &rustix::process::WaitIdStatus) -> ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal & 0x7f,
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}

#[cfg(test)]
mod tests;
