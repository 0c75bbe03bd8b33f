//! Facts of the machine and of those who talk to us on it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Returns the machine's hostname.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Sets the hostname of the calling thread's UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Who is at the other end of a Unix socket, as of when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id; `None` if it lives in a PID namespace that we do not see.
    pub pid: Option<u32>,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// Asks the kernel who is at the other end of a connected Unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let size = size_of::<libc::ucred>();
    let mut length = libc::socklen_t::try_from(size).expect("the structure is small");
    // WHY: rustix has no form of this for a peer in a PID namespace that we do not see, whose
    // process id is zero.
    // SAFETY: the pointers are to a structure of the kernel's shape and to its size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = u32::try_from(credentials.pid).ok().filter(|pid| *pid != 0);
    Ok(Peer {
        pid,
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Id of the user's own group.
    pub gid: u32,
    /// Home folder.
    pub home: String,
}

/// Looks `name` up in `/etc/passwd`; `None` if it is not there. Directory services are not asked:
/// they need the C library's plugins, which a static program does not have.
pub fn user(name: &str) -> io::Result<Option<User>> {
    Ok(find_user(&fs::read_to_string("/etc/passwd")?, name))
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.to_owned();
        Some(User { uid, gid, home })
    })
}

#[cfg(test)]
mod tests;
