//! Following the control plane: the watch becomes a picture; the last signed view stays on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bastide_api::v1::{NodeFacts, RenewRequest, WatchEvent};
use bastide_api::{ClusterRecord, NodeId, Revision, View, ViewEntries, ViewError};
use bastide_client::{ClientError, FollowError, Followed, LogError, ViewFollower};
use bastide_pki::Verified;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::log_guard::LogGuard;
use super::membership::Member;
use super::state::{SignedView, StateDir};

/// What this host knows of the cluster.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The last signed view.
    pub view: Arc<View>,
    /// What nodes reported.
    pub facts: Arc<BTreeMap<NodeId, NodeFacts>>,
    /// Whether a controller answers now.
    pub connected: bool,
    /// Why the controller's view is not followed, if its store is not as late as what is known.
    pub departed: Option<String>,
    /// What the controller said, if it answers but will have nothing to do with this node.
    pub refused: Option<String>,
}

/// What this host knows before a controller has answered: the newest view on disk whose signature is
/// good, else what it was told when it joined.
pub fn first_picture(state: &StateDir, member: &Member) -> Picture {
    let answer = member.answer();
    let follower = known(state, member);
    let stored = follower
        .view()
        .and_then(|entries| View::parse(entries).ok());
    let view = stored.unwrap_or_else(|| {
        info!("no view is on disk: this node knows itself, until a controller answers");
        View {
            revision: Revision::default(),
            cluster: ClusterRecord::clone(&answer.cluster),
            nodes: BTreeMap::from([(answer.node.id, answer.node.clone())]),
            stacks: BTreeMap::new(),
            joins: BTreeMap::new(),
        }
    });
    Picture {
        view: Arc::new(view),
        facts: Arc::default(),
        connected: false,
        departed: None,
        refused: None,
    }
}

/// Begins with the newest view on disk that can be read, and whose signature is good.
fn known(state: &StateDir, member: &Member) -> ViewFollower {
    let answer = member.answer();
    let (cluster, key) = (answer.cluster.id, answer.view_key);
    for (path, stored) in state.views() {
        let why = match stored {
            Ok(SignedView { entries, signature }) => {
                match ViewFollower::with_view(cluster, key, entries, &signature) {
                    Ok(follower) => return follower,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            },
        };
        warn!(path = %path.display(), %why, "a view on disk is not believed");
    }
    ViewFollower::new(cluster, key)
}

/// How long a start waits for a controller's word before it takes what is on disk for true. Longer
/// than three round trips around the world, shorter than a person notices.
const FIRST_WORD_WITHIN: Duration = Duration::from_millis(1500);

/// Asks the control plane for the newest view, and whether this host is still the node, before it
/// sends anything to anybody. A control plane that does not answer in time is not waited for.
pub async fn catch_up(state: &StateDir, member: &Member) {
    let asked = async {
        tokio::join!(
            member.report(RenewRequest::default()),
            newest(state, member)
        )
    };
    match tokio::time::timeout(FIRST_WORD_WITHIN, asked).await {
        Ok((Ok(_), Ok(()))) => {}
        Ok((reported, newest)) => {
            let (report, view) = (reported.err(), newest.err());
            info!(?report, ?view, "started from what is on disk");
        }
        Err(_) => info!("no controller answers; started from what is on disk"),
    }
}

/// Waits for the newest view, and keeps it.
async fn newest(state: &StateDir, member: &Member) -> Result<(), Ended> {
    let mut follower = known(state, member);
    let mut log = LogGuard::new(state);
    let watching = member
        .client()
        .watch_after(follower.resume_from(), None, Some(log.lines()))
        .await;
    let mut watch = watching.inspect_err(|error| member.refused(error))?;
    loop {
        match follower.handle(watch.next().await?)? {
            Followed::View { view, signature } => {
                log.view(&view)?;
                View::parse(&view)?;
                keep(state, &view, signature);
                return Ok(());
            }
            Followed::Log { note, proof } => log.checkpoint(None, note, proof)?,
            Followed::Nothing | Followed::Fact { .. } => {}
        }
    }
}

/// Why one watch ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the watch tells of the audit log and brings no view to judge it by")]
    Viewless,
}

/// Follows the controllers until dropped. A silent control plane changes nothing but `connected`.
pub async fn follow(state: StateDir, member: Member, pictures: watch::Sender<Picture>) {
    let mut follower = known(&state, &member);
    let mut attempt = 0;
    loop {
        follower.restart();
        let ended = one_watch(&state, &member, &mut follower, &pictures, &mut attempt).await;
        let Err(error) = ended;
        if let Ended::Client(error) = &error {
            member.refused(error);
        }
        let refused = match &error {
            Ended::Client(ClientError::Refused { errors, .. }) => Some(errors.join("; ")),
            _ => None,
        };
        let departed = match &error {
            Ended::Follow(error) if error.is_departure() => {
                warn!(%error, "the control plane's view is not followed");
                Some(Some(error.to_string()))
            }
            Ended::Log(error) => {
                warn!(%error, "the control plane's audit log is not the one that is known");
                Some(Some(error.to_string()))
            }
            Ended::Client(ClientError::Refused { .. }) => Some(None),
            // It stands until a view is followed again.
            _ => None,
        };
        pictures.send_if_modified(|picture| {
            let departed = departed.unwrap_or_else(|| picture.departed.clone());
            let is_news =
                picture.connected || picture.refused != refused || picture.departed != departed;
            picture.connected = false;
            picture.refused = refused;
            picture.departed = departed;
            is_news
        });
        debug!(%error, "the watch ended");
        tokio::time::sleep(member.retry_after(attempt)).await;
        attempt += 1;
    }
}

async fn one_watch(
    state: &StateDir,
    member: &Member,
    follower: &mut ViewFollower,
    pictures: &watch::Sender<Picture>,
    attempt: &mut u32,
) -> Result<std::convert::Infallible, Ended> {
    let run = follower.run();
    let revision = follower.view().map(|view| view.revision);
    let known = revision.zip(run.as_deref());
    let mut log = LogGuard::new(state);
    // Of the view, what this watch has brought: what an earlier one brought may be of another store.
    let mut brought: Option<Arc<Verified<ViewEntries>>> = None;
    let mut watch = member
        .client()
        .watch_after(follower.resume_from(), known, Some(log.lines()))
        .await?;
    info!(controller = watch.address(), "following the control plane");
    pictures.send_if_modified(|picture| {
        let is_news = !picture.connected;
        picture.connected = true;
        picture.refused = None;
        is_news
    });
    loop {
        let event = watch.next().await?;
        // A controller whose view is not followed is not asked again and again at once.
        let settles = matches!(event, WatchEvent::Ping | WatchEvent::Fact { .. });
        let followed = follower.handle(event)?;
        if settles {
            *attempt = 0;
        }
        match followed {
            Followed::Nothing => {}
            Followed::View {
                view: entries,
                signature,
            } => {
                log.view(&entries)?;
                *attempt = 0;
                let view = Arc::new(View::parse(&entries)?);
                brought = Some(Arc::clone(&entries));
                keep(state, &entries, signature);
                pictures.send_modify(|picture| {
                    picture.view = view;
                    picture.departed = None;
                });
            }
            Followed::Log { note, proof } => {
                log.checkpoint(brought.as_ref().map(|view| &***view), note, proof)?;
                if log.is_full() {
                    return Err(Ended::Viewless);
                }
            }
            Followed::Fact { node, facts } => pictures.send_modify(|picture| {
                let known = Arc::make_mut(&mut picture.facts);
                match facts {
                    Some(facts) => known.insert(node, facts),
                    None => known.remove(&node),
                };
            }),
        }
    }
}

/// Keeps a view for a start without a controller. Failing to is no reason to stop.
fn keep(state: &StateDir, entries: &ViewEntries, signature: String) {
    let signed = SignedView {
        entries: entries.clone(),
        signature,
    };
    if let Err(error) = state.save_view(&signed) {
        warn!(%error, "the view could not be kept on disk");
    }
}
