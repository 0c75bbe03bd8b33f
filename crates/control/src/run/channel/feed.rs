//! Keeping the feed in step with the store, and the watches that read it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bastide_api::v1::WatchEvent;
use bastide_api::{NodeId, Revision, ViewEntries};
use bastide_client::TaskGroup;
use bastide_pki::Roots;
use bastide_store::{BarrierError, OpenSnapshot};
use bytes::Bytes;
use data_encoding::BASE64;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{ControllerError, tls};
use crate::core::engines::mesh::{self, Cursor, Feed};
use crate::core::mounts::MountId;
use crate::core::reply::Stream;
use crate::core::request::{Identity, Peer};
use crate::run::listen::{Identify, Whose};
use crate::run::plane::{Plane, Streams};

/// How often a watch without news says that it lives. Watchers give up after 25 s of silence.
const PING_EVERY: Duration = Duration::from_secs(8);
/// How long a connection lasts whose certificate has ended: for one renewal.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);
/// How long news are gathered before the next look: so often at most is anything told, whatever a
/// node reports.
const GATHER_FOR: Duration = Duration::from_millis(10);
/// How long a watcher may take to read what it is sent; then it is dropped, and may come again.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Pieces that wait for a slow watcher. Two: one being written, one after it; what comes meanwhile
/// stays in the feed, where later changes replace earlier ones.
const PIECES_MAX: usize = 2;
/// How often at most a watcher is told of the audit log's growth.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Most commits that are looked at in one go.
const COMMITS_MAX: usize = 1024;

/// Keeps the feed in step with the store.
pub struct Feeder {
    plane: Plane,
    mount: MountId,
    shared: Arc<Shared>,
    seen: Revision,
    stop: CancellationToken,
}

struct Shared {
    feed: Mutex<Feed>,
    /// Up to which commit the feed is in step. Sent anew with any news, reports included.
    news: watch::Sender<Revision>,
    watches: Mutex<TaskGroup>,
    /// Nodes that are known to know what this store does not.
    departed: Mutex<BTreeSet<NodeId>>,
    stop: CancellationToken,
}

impl Shared {
    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    /// Reads the view as it is.
    pub fn start(plane: &Plane, stop: CancellationToken) -> Result<Self, ControllerError> {
        let (_, mount) = plane
            .inspect(mesh::MOUNT, |ctx| Ok(ctx.mount.id))
            .map_err(super::refused("find the mount `mesh/`"))?;
        let snapshot = snapshot(plane)?;
        let signer = mesh::view_signer(&snapshot, mount)?.ok_or(ControllerError::NoCluster)?;
        let view = view(&snapshot, mount)?;
        let seen = view.revision;
        let mut feed = Feed::new(plane.barrier().cluster(), signer, view);
        feed.observe(&plane.facts().borrow());
        let shared = Shared {
            feed: Mutex::new(feed),
            news: watch::channel(seen).0,
            watches: Mutex::new(TaskGroup::stopped_by(&stop)),
            departed: Mutex::default(),
            stop: stop.clone(),
        };
        Ok(Self {
            plane: plane.clone(),
            mount,
            shared: Arc::new(shared),
            seen,
            stop,
        })
    }

    /// Returns what serves watches from the feed.
    pub fn streams(&self) -> Watches {
        Watches(Arc::clone(&self.shared))
    }

    /// Returns what tells machines apart by their certificates, which were verified in the handshake.
    pub fn identify(&self, roots: Arc<Roots>) -> Identify {
        let (plane, shared) = (self.plane.clone(), Arc::clone(&self.shared));
        Arc::new(move |chain| {
            let now = plane.now();
            let judged = chain.first().map(|leaf| tls::judge(&roots, leaf, now));
            // The door facing the world has refused those in the handshake.
            let Some(Ok((peer, has_ended))) = judged else {
                return Whose::Stranger;
            };
            let node = peer.node();
            if has_ended {
                return Whose::Member(Identity::Ended(node), RENEWED_WITHIN);
            }
            let Some(cluster) = shared.feed().cluster() else {
                return Whose::Unknown;
            };
            let identity = if mesh::is_controller(&cluster, node) {
                Identity::Controller(node)
            } else {
                Identity::Node(node)
            };
            Whose::Member(identity, peer.expires().since(now))
        })
    }

    /// Follows commits and reports until the server stops.
    pub async fn run(mut self) {
        let (mut commits, mut facts) = (self.plane.commits(), self.plane.facts());
        loop {
            commits.borrow_and_update();
            if let Err(error) = self.take_commits() {
                tracing::error!(cause = ?error, "the view cannot be read");
            }
            let observed = Arc::clone(&facts.borrow_and_update());
            self.shared.feed().observe(&observed);
            self.shared.news.send_replace(self.seen);
            tokio::time::sleep(GATHER_FOR).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = commits.changed() => if changed.is_err() { return },
                changed = facts.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Takes in what commits since the last look changed of the view.
    fn take_commits(&mut self) -> Result<(), BarrierError> {
        let snapshot = snapshot(&self.plane)?;
        let until = snapshot.revision();
        while self.seen < until {
            let Ok(changes) = self.plane.store().changes(self.seen, COMMITS_MAX) else {
                let view = view(&snapshot, self.mount)?;
                self.seen = until;
                self.shared.feed().replace(view);
                return Ok(());
            };
            // What was committed after the snapshot is for the next look.
            let changes: Vec<_> = changes
                .into_iter()
                .filter(|change| change.revision <= until)
                .collect();
            let Some(last) = changes.last().map(|change| change.revision) else {
                self.seen = until;
                break;
            };
            self.take_changes(&snapshot, &changes)?;
            self.seen = last;
        }
        Ok(())
    }

    fn take_changes(
        &self,
        snapshot: &OpenSnapshot,
        changes: &[bastide_store::Change],
    ) -> Result<(), BarrierError> {
        let mut touched = std::collections::BTreeSet::new();
        let mut revision = Revision(0);
        for change in changes {
            let before = touched.len();
            let entries = change.keys.iter();
            let entries = entries.filter_map(|key| mesh::entry_of(self.mount, key));
            let mut any = false;
            for entry in entries {
                any = true;
                touched.insert(entry.to_owned());
            }
            if any || before < touched.len() {
                revision = change.revision;
            }
        }
        let mut changed = Vec::with_capacity(touched.len());
        for entry in touched {
            let value = mesh::entry(snapshot, self.mount, &entry)?;
            changed.push((entry, value));
        }
        self.shared.feed().commit(revision, changed);
        Ok(())
    }
}

fn snapshot(plane: &Plane) -> Result<OpenSnapshot, BarrierError> {
    let snapshot = plane.store().snapshot()?;
    Ok(OpenSnapshot::new(snapshot, Arc::clone(plane.barrier())))
}

fn view(snapshot: &OpenSnapshot, mount: MountId) -> Result<ViewEntries, BarrierError> {
    Ok(ViewEntries {
        revision: snapshot.revision(),
        entries: mesh::entries(snapshot, mount)?,
    })
}

/// The watches of all connections.
pub struct Watches(Arc<Shared>);

impl Watches {
    /// Says so once if a node knows a view that this store never led to.
    fn judge(&self, node: NodeId, revision: Revision, run: &str) {
        let feed = self.0.feed();
        let has_been = feed.has_been(revision, run);
        let own = feed.revision();
        drop(feed);
        let mut told = self
            .0
            .departed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if has_been {
            told.remove(&node);
        } else if told.insert(node) {
            tracing::warn!(
                %node,
                known = revision.0,
                own = own.0,
                "a node knows a state that this store was never in: an older store was put in its \
                 place. Nodes keep the view they have. Put the later store back, or, if this was on \
                 purpose, type `bastide accept-restored` on the controller"
            );
        }
    }
}

impl Streams for Watches {
    fn open(&self, plane: &Plane, stream: Stream, peer: Peer) -> mpsc::Receiver<Bytes> {
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let Stream::Watch { from, known, log } = stream;
        if let Some(identity) = peer.identity {
            let mut watches = self
                .0
                .watches
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = watches.reap() {
                tracing::error!(cause = ?error, "a watch failed");
            }
            if let Some((revision, run)) = known {
                self.judge(identity.node(), revision, &run);
            }
            let cursor = Cursor::after(from);
            let log = log.map(|lines| LogCursor {
                plane: plane.clone(),
                lines,
                told: None,
            });
            let serving = serve(Arc::clone(&self.0), cursor, log, identity.node(), pieces);
            // The watcher was admitted as a member by what is committed: that may be news to the feed.
            let (committed, mut news) = (plane.store().revision(), self.0.news.subscribe());
            let stop = self.0.stop.clone();
            watches.spawn("watch", async move {
                let in_step = async { news.wait_for(|seen| committed <= *seen).await.is_ok() };
                let goes_on = tokio::select! {
                    () = stop.cancelled() => false,
                    in_step = in_step => in_step,
                };
                if goes_on {
                    serving.await;
                }
                Ok::<_, std::convert::Infallible>(())
            });
        }
        receiver
    }
}

/// How much of the audit log a watcher knows.
struct LogCursor {
    plane: Plane,
    lines: u64,
    /// When it was told last.
    told: Option<Instant>,
}

impl LogCursor {
    /// Returns what is new, and moves on. At most every few seconds.
    fn read(&mut self) -> Option<WatchEvent> {
        if self.told.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return None;
        }
        let signed = self.plane.checkpoints().borrow().clone()?;
        if self.told.is_some() && signed.size == self.lines {
            return None;
        }
        let proof = match self.plane.log_proof(self.lines, signed.size) {
            Ok(proof) => proof.unwrap_or_default(),
            Err(refusal) => {
                tracing::error!(cause = ?refusal, "the tree over the audit log cannot be read");
                return None;
            }
        };
        self.lines = signed.size;
        self.told = Some(Instant::now());
        Some(WatchEvent::Log {
            note: signed.note.clone(),
            proof: proof.iter().map(|hash| BASE64.encode(hash)).collect(),
        })
    }
}

/// Tells one watcher what is new, until it is gone, reads too slowly, or is no member any more: then
/// it is told that, and nothing after it.
async fn serve(
    shared: Arc<Shared>,
    mut cursor: Cursor,
    mut log: Option<LogCursor>,
    node: NodeId,
    pieces: mpsc::Sender<Bytes>,
) {
    let mut news = shared.news.subscribe();
    let mut is_served = false;
    loop {
        news.borrow_and_update();
        let checkpoint = log.as_mut().and_then(LogCursor::read);
        let (is_member, mut events) = {
            let feed = shared.feed();
            let is_member = feed.has_node(node);
            if !is_member && !is_served {
                return;
            }
            // The last that a removed node gets is the signed view that does not hold it.
            let mut events = feed.read(&mut cursor);
            if !is_member {
                events.retain(|event| !matches!(event, WatchEvent::Fact { .. }));
            }
            (is_member, events)
        };
        // First: what follows is believed only if the log is the one that is known.
        events.splice(0..0, checkpoint);
        if !events.is_empty() && !send(&pieces, &events).await || !is_member {
            return;
        }
        is_served = true;
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = pieces.closed() => return,
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PING_EVERY) => {
                if !send(&pieces, &[WatchEvent::Ping]).await {
                    return;
                }
            }
        }
    }
}

async fn send(pieces: &mpsc::Sender<Bytes>, events: &[WatchEvent]) -> bool {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event).expect("events are plain JSON");
        lines.push(b'\n');
    }
    let sent = pieces.send_timeout(lines.into(), READ_WITHIN).await;
    sent.is_ok()
}
