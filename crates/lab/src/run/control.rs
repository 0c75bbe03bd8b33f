//! The control socket of a lab: one JSON object per line, request and answer in turn. An answer may
//! carry file descriptors. The socket is 0600 in a folder that is 0700.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Longest message, in bytes. The status of the largest lab fits.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Most descriptors with one answer: the namespaces of one node.
const DESCRIPTORS_MAX: usize = 8;

/// What may be asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How the lab is.
    Status,
    /// The namespaces of a node, as descriptors.
    Namespaces { node: String },
    /// Drop everything on a link, both ways.
    Cut { link: String },
    /// Undo that.
    Heal { link: String },
    /// End the lab.
    Down,
    /// Live on when whoever started the lab ends.
    Keep,
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// How the lab is.
    Status(Status),
    /// The kinds of the descriptors that come with this, by their names in `/proc/<pid>/ns`.
    Namespaces { kinds: Vec<String> },
    /// It was refused, and why.
    Refused { why: String },
}

/// How a lab is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its name.
    pub lab: String,
    /// Milliseconds since it was up.
    pub up_ms: u64,
    /// Its nodes, by name.
    pub nodes: Vec<NodeStatus>,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `host`, `router` or `switch`.
    pub kind: String,
    /// Whether a host's first process still runs; always true for the others.
    pub alive: bool,
    /// How many processes run in a host.
    pub processes: usize,
    /// Its links.
    pub links: Vec<LinkStatus>,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkStatus {
    /// `node/interface`.
    pub link: String,
    /// The addresses of that end.
    pub addresses: Vec<String>,
    /// Whether it is cut.
    pub cut: bool,
}

/// One end of a control connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// What was received beyond the last message.
    rest: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// Sends a message and `descriptors` with it.
    pub(crate) fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut sent = 0;
        if !descriptors.is_empty() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let data = [IoSlice::new(&line)];
            sent = sendmsg(&self.stream, &data, &mut control, SendFlags::NOSIGNAL)?;
        }
        self.stream.write_all(&line[sent..])
    }

    /// Receives a message and its descriptors; `None` if the other end is gone.
    pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
        &mut self,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut descriptors = Vec::new();
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some((serde_json::from_slice(&line)?, descriptors)));
            }
            if MESSAGE_BYTES_MAX < self.rest.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut chunk = [0; 16 * 1024];
            let read = receive_chunk(&self.stream, &mut chunk, &mut descriptors)?;
            if read == 0 {
                return Ok(None);
            }
            self.rest.extend_from_slice(&chunk[..read]);
        }
    }

    /// Waits until the other end is gone.
    pub(crate) fn wait_for_end(&mut self) {
        let mut chunk = [0; 64];
        while matches!(self.stream.read(&mut chunk), Ok(read) if read != 0) {}
    }
}

fn receive_chunk(
    stream: &UnixStream,
    chunk: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = loop {
        let mut data = [IoSliceMut::new(chunk)];
        match recvmsg(
            stream.as_fd(),
            &mut data,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?.bytes,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            descriptors.extend(files);
        }
    }
    Ok(read)
}
