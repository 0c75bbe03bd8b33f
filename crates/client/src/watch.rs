//! The watch: lines of JSON for as long as both ends live.

use std::time::Duration;

use bastide_api::v1::WatchEvent;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::error::{Attempt, ClientError, Failing};
use crate::http::Wire;

/// Longest line, in bytes: a snapshot of 4,000 nodes has about 3 MB, and stacks may have more.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A running watch. Dropped, it ends.
pub struct Watch {
    wire: Wire,
    body: Incoming,
    lines: Lines,
    heard: Instant,
    silence_max: Duration,
}

impl Watch {
    pub(crate) fn new(wire: Wire, body: Incoming, silence_max: Duration) -> Self {
        Self {
            wire,
            body,
            lines: Lines::new(LINE_BYTES_MAX),
            heard: Instant::now(),
            silence_max,
        }
    }

    /// Returns who is watched.
    pub fn address(&self) -> String {
        self.wire.endpoint.name()
    }

    /// Waits for the next event. Any error ends the watch: begin another one.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            let address = self.wire.endpoint.name();
            match self.lines.next() {
                Ok(Some(line)) => {
                    let what = "a line of the watch is not an event";
                    return serde_json::from_slice(&line)
                        .map_err(|_| ClientError::Answer { address, what });
                }
                Ok(None) => {}
                Err(TooLong) => {
                    let what = "a line of the watch is too long";
                    return Err(ClientError::Answer { address, what });
                }
            }
            let frame = self.wire.driven(self.body.frame());
            match timeout_at(self.heard + self.silence_max, frame).await {
                Err(_) => {
                    let failing = Failing::Timeout;
                    return Err(ClientError::Unreachable(vec![Attempt { address, failing }]));
                }
                Ok(None) => {
                    let source = "it ended the watch".into();
                    return Err(ClientError::Lost { address, source });
                }
                Ok(Some(Err(error))) => {
                    let source = error.into();
                    return Err(ClientError::Lost { address, source });
                }
                Ok(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        self.lines.feed(&data);
                    }
                }
            }
        }
    }
}

/// A line that does not end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Cuts a stream of bytes into lines.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the first line that was not yet given out begins.
    start: usize,
    /// Up to where no line end was found.
    searched: usize,
    bytes_max: usize,
}

impl Lines {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            bytes_max,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole line, without its end; empty lines are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        loop {
            let found = self.buffer[self.searched..]
                .iter()
                .position(|&byte| byte == b'\n');
            let end = match found {
                Some(at) => self.searched + at,
                None => self.buffer.len(),
            };
            if self.bytes_max < end - self.start {
                return Err(TooLong);
            }
            if found.is_none() {
                self.searched = end;
                return Ok(None);
            }
            let line = self.buffer[self.start..end].to_vec();
            self.start = end + 1;
            self.searched = self.start;
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests;
