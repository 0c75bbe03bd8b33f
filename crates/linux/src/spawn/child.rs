//! What happens between `clone3` and `execve`: system calls on prepared memory, nothing else. No
//! allocation, no lock, no panic: the other threads of the program do not exist in the child, and
//! whatever they held stays held.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Resource;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::namespace::{Kind, Namespace};

/// `CLONE_CLEAR_SIGHAND` of `linux/sched.h` (Linux 5.5): handlers are set back to the default.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h` (Linux 5.11).
const CLOSE_RANGE_CLOEXEC: u32 = 4;
/// Number below which no descriptor is used while descriptors are moved to their places.
const MOVED_FIRST: RawFd = 512;

/// Arguments of `prctl`, which takes machine words.
const NONE: libc::c_ulong = 0;
const ONE: libc::c_ulong = 1;
/// `PR_CAP_AMBIENT_CLEAR_ALL` of `linux/prctl.h`.
const CLEAR_ALL: libc::c_ulong = 4;

/// On what a child can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Prepare = 0,
    Clone,
    Groups,
    Namespaces,
    Session,
    Descriptors,
    Limits,
    Folder,
    Capabilities,
    User,
    DeathSignal,
    Execute,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::Prepare,
        Self::Clone,
        Self::Groups,
        Self::Namespaces,
        Self::Session,
        Self::Descriptors,
        Self::Limits,
        Self::Folder,
        Self::Capabilities,
        Self::User,
        Self::DeathSignal,
        Self::Execute,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Prepare => "prepare its arguments and files",
            Self::Clone => "make the process",
            Self::Groups => "join its control groups",
            Self::Namespaces => "enter its namespaces",
            Self::Session => "begin a session",
            Self::Descriptors => "arrange its files",
            Self::Limits => "set its limits",
            Self::Folder => "enter its working folder",
            Self::Capabilities => "drop capabilities",
            Self::User => "change its user",
            Self::DeathSignal => "bind its life to its parent's",
            Self::Execute => "execute",
        }
    }
}

/// Everything the child needs to know, still in Rust's forms.
pub(super) struct Parts {
    pub candidates: Vec<CString>,
    pub arguments: Vec<CString>,
    pub variables: Vec<CString>,
    pub folder: Option<CString>,
    pub files: Vec<(RawFd, RawFd)>,
    pub clone_flags: u64,
    pub new_cgroup_namespace: bool,
    pub enter: Vec<(RawFd, libc::c_int)>,
    pub groups: Vec<RawFd>,
    pub session: bool,
    pub death_signal: Option<libc::c_ulong>,
    pub user: Option<(u32, u32)>,
    pub bounding: Option<u64>,
    pub no_new_privileges: bool,
    pub limits: Vec<(Resource, u64)>,
    pub umask: Option<u32>,
}

/// The same, with the arrays of pointers that `execve` takes.
pub(super) struct Prepared {
    parts: Parts,
    arguments: Vec<*const c_char>,
    variables: Vec<*const c_char>,
    moved_room: usize,
}

impl Prepared {
    pub(super) fn new(parts: Parts) -> Self {
        // The strings own their memory, which does not move with `parts`.
        let pointers = |strings: &[CString]| {
            let mut list: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
            list.push(ptr::null());
            list
        };
        let (arguments, variables) = (pointers(&parts.arguments), pointers(&parts.variables));
        let moved_room = parts.files.len();
        Self {
            parts,
            arguments,
            variables,
            moved_room,
        }
    }
}

/// `struct clone_args` of `linux/sched.h`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes the child, in `pid_namespace` if given, and returns its id and descriptor. The child
/// writes to `report`, a pipe, only if it fails, and closes it otherwise.
pub(super) fn start(
    prepared: &Prepared,
    report: [BorrowedFd<'_>; 2],
    pid_namespace: Option<&Namespace>,
) -> io::Result<(u32, OwnedFd)> {
    // Only children follow their parent's thread into another PID namespace, so this thread turns
    // there for the moment of the clone.
    let own = match pid_namespace {
        None => None,
        Some(namespace) => {
            let path = "/proc/thread-self/ns/pid_for_children";
            let own = Namespace::open(Kind::Pid, path.as_ref()).map_err(io::Error::other)?;
            turn_to(namespace.as_fd())?;
            Some(own)
        }
    };
    let mut moved = vec![0; prepared.moved_room];
    let cloned = clone(prepared, report, &mut moved);
    if let Some(own) = own {
        turn_to(own.as_fd()).expect("a thread may always turn back to its own PID namespace");
    }
    cloned
}

fn turn_to(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(
        namespace,
        Some(LinkNameSpaceType::ProcessID),
    )?)
}

fn clone(
    prepared: &Prepared,
    report: [BorrowedFd<'_>; 2],
    moved: &mut [RawFd],
) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let arguments = CloneArguments {
        flags: prepared.parts.clone_flags
            | CLONE_CLEAR_SIGHAND
            | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArguments::default()
    };
    // WHY: std's `Command` can neither make namespaces at the clone nor report which step failed,
    // and a second fork would hide the process from its parent.
    // SAFETY: the arguments are a valid `clone_args` of the size given, and `pidfd` outlives the
    // call. Without CLONE_VM the child has its own copy of the memory; it runs `run`, which makes
    // only system calls and does not return.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run(prepared, report.map(|end| end.as_raw_fd()), moved),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor here, which nobody else has.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((u32::try_from(pid).expect("a process id is positive"), pidfd))
        }
    }
}

/// Reads what a child reported.
pub(super) fn parse_failure(report: &[u8]) -> Option<(Step, io::Error)> {
    let (&step, errno) = report.split_first()?;
    let step = Step::ALL
        .into_iter()
        .find(|known| *known as u8 == step)
        .unwrap_or(Step::Clone);
    let errno = i32::from_ne_bytes(errno.try_into().unwrap_or_default());
    Some((step, io::Error::from_raw_os_error(errno)))
}

/// The child's whole life before `execve`.
fn run(prepared: &Prepared, report: [RawFd; 2], moved: &mut [RawFd]) -> ! {
    let [parents_end, mut report] = report;
    // SAFETY: the parent's end is of no use here; while it is open, its death cannot be seen.
    unsafe { libc::close(parents_end) };
    let step = steps(prepared, &mut report, moved);
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let mut message = [0; 5];
    message[0] = step as u8;
    message[1..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: `message` is valid for its length; both calls are async-signal-safe.
    unsafe {
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// Returns the step that failed, with its number in `errno`; never if all went well.
fn steps(prepared: &Prepared, report: &mut RawFd, moved: &mut [RawFd]) -> Step {
    let parts = &prepared.parts;
    // SAFETY: each call is a bare system call, async-signal-safe, on descriptors and memory that
    // `Prepared` keeps valid: strings end in zero, arrays of pointers end in null.
    unsafe {
        for &group in &parts.groups {
            if libc::write(group, c"0".as_ptr().cast(), 1) != 1 {
                return Step::Groups;
            }
        }
        for &(namespace, flag) in &parts.enter {
            if libc::syscall(libc::SYS_setns, namespace, flag) != 0 {
                return Step::Namespaces;
            }
        }
        if parts.new_cgroup_namespace
            && libc::syscall(libc::SYS_unshare, libc::CLONE_NEWCGROUP) != 0
        {
            return Step::Namespaces;
        }
        if parts.session && libc::setsid() == -1 {
            return Step::Session;
        }
        if !arrange(&parts.files, report, moved) {
            return Step::Descriptors;
        }
        for (resource, value) in &parts.limits {
            if !set_limit(*resource, *value) {
                return Step::Limits;
            }
        }
        if let Some(mask) = parts.umask {
            libc::umask(mask as libc::mode_t);
        }
        if let Some(folder) = &parts.folder
            && libc::chdir(folder.as_ptr()) != 0
        {
            return Step::Folder;
        }
        if let Some(kept) = parts.bounding
            && !bound(kept)
        {
            return Step::Capabilities;
        }
        if let Some((uid, gid)) = parts.user
            && (libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) != 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) != 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0)
        {
            return Step::User;
        }
        if parts.no_new_privileges
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ONE, NONE, NONE, NONE) != 0
        {
            return Step::Capabilities;
        }
        // After the change of user, which clears it.
        if let Some(signal) = parts.death_signal
            && (libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 || !parent_lives(*report))
        {
            return Step::DeathSignal;
        }
        reset_signals();
        for candidate in &parts.candidates {
            libc::execve(
                candidate.as_ptr(),
                prepared.arguments.as_ptr(),
                prepared.variables.as_ptr(),
            );
            let errno = *libc::__errno_location();
            if errno != libc::ENOENT && errno != libc::ENOTDIR {
                return Step::Execute;
            }
        }
    }
    Step::Execute
}

/// Puts each file at its number; all other descriptors but the standard streams are closed by
/// `execve`.
///
/// # Safety
///
/// To be called in the child only: it takes descriptors from whoever holds them.
unsafe fn arrange(files: &[(RawFd, RawFd)], report: &mut RawFd, moved: &mut [RawFd]) -> bool {
    // SAFETY: bare system calls; see `steps`.
    unsafe {
        // First out of the way of all targets, then each to its place.
        let far = libc::fcntl(*report, libc::F_DUPFD_CLOEXEC, MOVED_FIRST);
        if far == -1 {
            return false;
        }
        *report = far;
        for (&(_, file), far) in files.iter().zip(moved.iter_mut()) {
            *far = libc::fcntl(file, libc::F_DUPFD_CLOEXEC, MOVED_FIRST);
            if *far == -1 {
                return false;
            }
        }
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC) != 0 {
            return false;
        }
        for (&(number, _), &far) in files.iter().zip(moved.iter()) {
            if libc::dup2(far, number) == -1 {
                return false;
            }
        }
    }
    true
}

/// Limits the whole process.
fn set_limit(resource: Resource, value: u64) -> bool {
    let limit = rustix::process::Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    rustix::process::setrlimit(resource, limit).is_ok()
}

/// Drops all capabilities but `kept` from the bounding set, and all from the inheritable and ambient
/// sets: at `execve` root then gains `kept` and nobody else gains any.
///
/// # Safety
///
/// To be called in the child only.
unsafe fn bound(kept: u64) -> bool {
    /// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
    const VERSION: u32 = 0x2008_0522;
    // SAFETY: bare system calls on local arrays of the kernel's sizes (header 8 bytes, data 24).
    unsafe {
        for capability in 0..64 as libc::c_ulong {
            if kept & (1_u64 << capability) == 0
                && libc::prctl(libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE) != 0
                && *libc::__errno_location() != libc::EINVAL
            {
                return false;
            }
        }
        libc::prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, NONE, NONE, NONE);
        let mut header = [VERSION, 0];
        let mut data = [0_u32; 6];
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) != 0 {
            return false;
        }
        // Each half holds effective, permitted, inheritable.
        data[2] = 0;
        data[5] = 0;
        libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_mut_ptr()) == 0
    }
}

/// Tells whether somebody still reads our report: if not, the parent died before it could be watched.
///
/// # Safety
///
/// `report` must be open.
unsafe fn parent_lives(report: RawFd) -> bool {
    let mut watched = libc::pollfd {
        fd: report,
        events: 0,
        revents: 0,
    };
    // SAFETY: one valid `pollfd`.
    unsafe { libc::poll(&raw mut watched, 1, 0) == 0 }
}

/// Unblocks all signals and un-ignores SIGPIPE, which Rust programs ignore.
///
/// # Safety
///
/// To be called in the child only.
unsafe fn reset_signals() {
    // SAFETY: async-signal-safe calls on local memory.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}
