//! Facts of the machine and of those who talk to us on it.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt::socket_peercred;

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
    /// Its process id.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// Asks the kernel who is at the other end of a connected Unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = socket_peercred(socket)?;
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
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
