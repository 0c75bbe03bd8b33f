//! The UAPI socket `/var/run/wireguard/<interface>.sock`, through which `wg` shows and sets.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bastide_api::Secret;
use bastide_linux::clock;
use bastide_linux::udp::UdpError;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;
use zeroize::Zeroize;

use super::device::{Companion, Handle, Parts};
use crate::core::wireguard::uapi::{self, Errno, GetOptions, REQUEST_LEN_MAX, Secrets};

/// Where `wg` looks for sockets.
pub const FOLDER: &str = "/var/run/wireguard";

/// How long a client may keep the socket waiting: it serves one at a time, and only root can
/// connect.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);

/// Who configures a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever can open the socket.
    Full,
    /// The agent: the socket shows no secret and takes no configuration.
    Managed,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UapiError {
    /// Another process serves a device of this name.
    #[error("`{}` is in use by another process", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that the system denied.
    #[error("could not {operation} `{}`", path.display())]
    System {
        /// What was tried, in the imperative.
        operation: &'static str,
        /// The socket or its folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The descriptor that was to end it became readable.
    Told,
    /// Somebody deleted the socket, which is how a device is asked to go.
    SocketDeleted,
}

/// The listening socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Uapi {
    listener: UnixListener,
    watch: OwnedFd,
    path: PathBuf,
    inode: u64,
}

impl Uapi {
    /// Opens the socket of an interface.
    pub fn open(interface: &str) -> Result<Self, UapiError> {
        Self::open_in(Path::new(FOLDER), interface)
    }

    /// Opens the socket of an interface in a folder of the caller's.
    pub fn open_in(folder: &Path, interface: &str) -> Result<Self, UapiError> {
        let path = folder.join(format!("{interface}.sock"));
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| UapiError::System {
                operation,
                path,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(failed("make the folder", folder))?;
        remove_stale(&path)?;
        let listener = UnixListener::bind(&path).map_err(failed("listen on", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(failed("protect", &path))?;
        let inode = inode(&path).map_err(failed("look at", &path))?;
        listener
            .set_nonblocking(true)
            .map_err(failed("listen on", &path))?;
        let watch = watch(folder).map_err(failed("watch", folder))?;
        Ok(Self {
            listener,
            watch,
            path,
            inode,
        })
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves clients, one at a time, until any of `ends` is readable or the socket was deleted.
    pub fn serve_until<C: Companion>(
        &self,
        device: &Handle<C>,
        access: Access,
        ends: &[BorrowedFd<'_>],
    ) -> Closed {
        loop {
            let mut fds = vec![
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
            ];
            fds.extend(ends.iter().map(|end| PollFd::new(end, PollFlags::IN)));
            if let Err(error) = poll(&mut fds, None)
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "could not wait for UAPI clients");
                return Closed::Told;
            }
            if fds[2..].iter().any(|end| !end.revents().is_empty()) {
                return Closed::Told;
            }
            if !fds[1].revents().is_empty() && !self.is_there() {
                return Closed::SocketDeleted;
            }
            if let Ok((client, _)) = self.listener.accept()
                && let Err(error) = serve_client(&client, device, access)
            {
                tracing::debug!(%error, "a UAPI client was lost");
            }
        }
    }

    /// Empties the watch and tells whether the file is still ours.
    fn is_there(&self) -> bool {
        let mut notices = [0; 4096];
        while rustix::io::read(&self.watch, &mut notices).is_ok_and(|len| len > 0) {}
        inode(&self.path).is_ok_and(|inode| inode == self.inode)
    }
}

impl Drop for Uapi {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A thread that serves a device's socket. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the socket of `interface` and serves it until the device is done ([`Device::done`]).
    ///
    /// [`Device::done`]: super::device::Device::done
    pub fn start<C: Companion>(
        interface: &str,
        device: Handle<C>,
        access: Access,
        done: Arc<OwnedFd>,
    ) -> Result<Self, UapiError> {
        let uapi = Uapi::open(interface)?;
        let path = uapi.path.clone();
        let failed = |source| UapiError::System {
            operation: "serve",
            path,
            source,
        };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = match eventfd(0, flags) {
            Ok(stop) => Arc::new(stop),
            Err(errno) => return Err(failed(errno.into())),
        };
        let its_stop = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("uapi-{interface}"))
            .spawn(move || {
                let closed = uapi.serve_until(&device, access, &[done.as_fd(), its_stop.as_fd()]);
                tracing::debug!(?closed, "the UAPI socket was closed");
            })
            .map_err(failed)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Removes the socket of a device that is no more; refuses if somebody answers there.
fn remove_stale(path: &Path) -> Result<(), UapiError> {
    let failed = |source| UapiError::System {
        operation: "remove the stale socket",
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(UapiError::InUse {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    if UnixStream::connect(path).is_ok() {
        return Err(UapiError::InUse {
            path: path.to_owned(),
        });
    }
    fs::remove_file(path).map_err(failed)
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map(|found| found.ino())
}

fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let gone = inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&watch, folder, gone)?;
    Ok(watch)
}

/// Serves the requests of one client until it closes.
fn serve_client<C: Companion>(
    client: &UnixStream,
    device: &Handle<C>,
    access: Access,
) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(CLIENT_PATIENCE))?;
    client.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        let answer = match request.expose().split_once('\n') {
            Some(("get=1", "")) => get(device, access),
            Some(("set=1", lines)) => set(device, access, lines),
            Some(_) | None => Err(Errno::Invalid),
        };
        let mut text = match answer {
            Ok(text) => format!("{}errno=0\n\n", text.expose()),
            Err(errno) => format!("errno={}\n\n", errno.number()),
        };
        let written = (&mut &*client).write_all(text.as_bytes());
        text.zeroize();
        written?;
    }
    Ok(())
}

/// Reads up to the next empty line; `None` at the end.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Secret<String>>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let left = (REQUEST_LEN_MAX - before) as u64;
        let read = reader.by_ref().take(left).read_until(b'\n', &mut bytes)?;
        if read == 0 || !bytes.ends_with(b"\n") {
            let is_end = bytes.is_empty();
            bytes.zeroize();
            return if is_end {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        if &bytes[before..] == b"\n" {
            bytes.truncate(before);
            let text = String::from_utf8(bytes).map_err(|error| {
                error.into_bytes().zeroize();
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            return Ok(Some(Secret::new(text)));
        }
    }
}

fn get<C: Companion>(device: &Handle<C>, access: Access) -> Result<Secret<String>, Errno> {
    let secrets = match access {
        Access::Full => Secrets::Shown,
        Access::Managed => Secrets::Hidden,
    };
    let wall = clock::wall();
    device
        .call(move |parts| {
            uapi::write_get(
                parts.machine,
                GetOptions {
                    now: (parts.now, wall),
                    listen_port: parts.sockets.port(),
                    fwmark: parts.sockets.mark(),
                    secrets,
                },
            )
        })
        .map_err(|_| Errno::NoDevice)
}

fn set<C: Companion>(
    device: &Handle<C>,
    access: Access,
    lines: &str,
) -> Result<Secret<String>, Errno> {
    if access == Access::Managed {
        return Err(Errno::NotPermitted);
    }
    let set = uapi::parse_set(lines)?;
    device
        .call(move |parts: &mut Parts<'_, C>| {
            if let Some(port) = set.listen_port {
                parts
                    .sockets
                    .set_port(port)
                    .map_err(|error| of_udp(&error))?;
            }
            if let Some(mark) = set.fwmark {
                parts
                    .sockets
                    .set_mark(mark)
                    .map_err(|error| of_udp(&error))?;
            }
            set.apply(parts.now, parts.machine)
        })
        .map_err(|_| Errno::NoDevice)??;
    Ok(Secret::new(String::new()))
}

fn of_udp(error: &UdpError) -> Errno {
    match error {
        UdpError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Errno::AddressInUse
        }
        UdpError::Bind { .. } | UdpError::Mark { .. } => Errno::Io,
    }
}
