//! A capture: a tap on an interface, read by a thread of its own, counted as it goes.

use std::fs::File;
use std::io::{self, BufWriter, PipeReader, PipeWriter, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bastide_linux::capture::{Framing, Tap, TapError};
use bastide_linux::clock;
use bastide_linux::namespace::Namespace;
use rustix::event::{PollFd, PollFlags, poll};

use crate::core::frame::LinkKind;
use crate::core::tally::{Counts, Filters, Tally};

/// Largest frame: what segmentation offload hands from one virtual device to the other.
const FRAME_BYTES_MAX: usize = 256 << 10;
/// Frames counted before the counts are shown to others.
const BATCH_MAX: usize = 64;

/// Why a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The interface could not be tapped.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The file for the frames could not be written.
    #[error("could not write the frames to `{path}`")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Frames could not be read.
    #[error("could not {operation} a capture")]
    System {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was waited for did not happen in time.
    #[error("it was not seen on the wire within {} ms: {counts:?}", .limit.as_millis())]
    TooLate {
        /// The time that was given.
        limit: Duration,
        /// What was seen.
        counts: Counts,
    },
}

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    /// Closing this ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    tally: Mutex<Tally>,
    changed: Condvar,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    /// Begins: every frame from now on is counted.
    pub fn begin(
        network: &Namespace,
        interface: &str,
        filters: &Filters,
        file: Option<&Path>,
    ) -> Result<Self, CaptureError> {
        let tap = Tap::open_in(network, interface)?;
        let system = |source| CaptureError::System {
            operation: "begin",
            source,
        };
        let pcap =
            match file {
                None => None,
                Some(path) => Some(Pcap::create(path, tap.framing()).map_err(|source| {
                    CaptureError::File {
                        path: path.display().to_string(),
                        source,
                    }
                })?),
            };
        let (stop_read, stop) = io::pipe().map_err(system)?;
        let tally = Mutex::new(Tally::new(filters));
        let shared = Arc::new(Shared {
            tally,
            changed: Condvar::new(),
        });
        let counted = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || read(tap, &stop_read, pcap, &counted))
            .map_err(system)?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Returns what was counted up to about now.
    pub fn counts(&self) -> Counts {
        self.shared.tally().counts()
    }

    /// Waits until `holds` of the counts, at most `limit`.
    pub fn wait_until(
        &self,
        limit: Duration,
        mut holds: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, CaptureError> {
        let deadline = Instant::now() + limit;
        let mut tally = self.shared.tally();
        loop {
            let counts = tally.counts();
            if holds(&counts) {
                return Ok(counts);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CaptureError::TooLate { limit, counts });
            }
            let waited = self.shared.changed.wait_timeout(tally, left);
            tally = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the capture and returns the counts of all frames that had passed by now.
    pub fn finish(mut self) -> Result<Counts, CaptureError> {
        let failed = |source| CaptureError::System {
            operation: "read",
            source,
        };
        self.end().map_err(failed)?;
        Ok(self.counts())
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that counts has panicked")),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn read(
    mut tap: Tap,
    stop: &PipeReader,
    mut pcap: Option<Pcap>,
    shared: &Shared,
) -> io::Result<()> {
    let kind = match tap.framing() {
        Framing::Ethernet => LinkKind::Ethernet,
        Framing::Ip => LinkKind::Ip,
    };
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut missed = 0;
    loop {
        let mut waits = [
            PollFd::new(&tap, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut waits, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let stopped = !waits[1].revents().is_empty();
        // After the end was asked for, what is in the socket passed before: that still counts.
        loop {
            let mut frames = 0;
            let mut tally = shared.tally();
            while frames < BATCH_MAX
                && let Some(received) = tap.receive(&mut buffer)?
            {
                frames += 1;
                let frame = &buffer[..received.stored];
                tally.add(kind, frame);
                if received.stored < received.length {
                    tally.add_missed(1);
                }
                if let Some(pcap) = &mut pcap {
                    pcap.write(frame, received.length)?;
                }
            }
            if frames < BATCH_MAX {
                let dropped = tap.dropped()?;
                tally.add_missed(dropped - missed);
                missed = dropped;
            }
            drop(tally);
            shared.changed.notify_all();
            if frames < BATCH_MAX {
                break;
            }
        }
        if stopped {
            return pcap.map_or(Ok(()), Pcap::finish);
        }
    }
}

/// A file of frames in the classic format of libpcap, with nanoseconds.
struct Pcap(BufWriter<File>);

impl Pcap {
    fn create(path: &Path, framing: Framing) -> io::Result<Self> {
        /// Magic number of files with nanoseconds, in the writer's byte order.
        const MAGIC: u32 = 0xa1b2_3c4d;
        let link_type: u32 = match framing {
            Framing::Ethernet => 1,
            Framing::Ip => 101,
        };
        let snap = u32::try_from(FRAME_BYTES_MAX).expect("constant");
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC.to_ne_bytes())?;
        file.write_all(&2_u16.to_ne_bytes())?;
        file.write_all(&4_u16.to_ne_bytes())?;
        for field in [0, 0, snap, link_type] {
            file.write_all(&field.to_ne_bytes())?;
        }
        file.flush()?;
        Ok(Self(file))
    }

    fn write(&mut self, frame: &[u8], length: usize) -> io::Result<()> {
        let now = clock::wall().as_millis();
        let seconds = u32::try_from(now / 1000).unwrap_or(u32::MAX);
        let nanos = u32::try_from(now % 1000).expect("less than 1000") * 1_000_000;
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        for field in [seconds, nanos, size(frame.len()), size(length)] {
            self.0.write_all(&field.to_ne_bytes())?;
        }
        self.0.write_all(frame)
    }

    fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}
