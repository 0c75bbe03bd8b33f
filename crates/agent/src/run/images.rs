//! This host's images: from its engine into the store that the nodes share.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_cluster::Engine;
use bastide_cluster::images::{
    self, BlobError, Blobs, ImageRef, import_docker_archive, loopback_reference,
};
use bastide_linux::clock;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::{info, warn};

use super::follow::Picture;

/// What went wrong with the store of images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The registry on loopback could not listen.
    #[error("could not serve images on loopback")]
    Listen(#[from] io::Error),
}

/// Opens the store.
pub fn open(path: PathBuf) -> Result<Blobs, ImageError> {
    Ok(Blobs::open(path)?)
}

/// Listens without blocking.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ImageError> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// How often what no stack needs is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How long a blob is kept that no stack needs: far longer than a deployment takes from its image to
/// its stack.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Removes images that no deployed stack needs, until dropped.
pub async fn sweep(blobs: Arc<Blobs>, pictures: watch::Receiver<Picture>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let (wishes, _) = bastide_cluster::core::service::wishes(&pictures.borrow().view);
        let wanted: BTreeSet<_> = wishes
            .iter()
            .filter_map(|wish| wish.spec.image.digest())
            .collect();
        let blobs = Arc::clone(&blobs);
        // By the clock of the file system, which is this host's, right or wrong.
        let before = clock::wall()
            .since(UnixTime::EPOCH)
            .saturating_sub(KEPT_FOR);
        let before = UnixTime::EPOCH.plus(before);
        let swept = tokio::task::spawn_blocking(move || images::sweep(&blobs, &wanted, before));
        match swept.await {
            Ok(Ok(swept)) if swept.blobs == 0 => {}
            Ok(Ok(swept)) => info!(
                swept.blobs,
                swept.bytes, "images that no stack needs removed"
            ),
            Ok(Err(error)) => warn!(%error, "images could not be looked through"),
            Err(error) => warn!(%error, "the look through the images ended early"),
        }
    }
}

/// Makes sure that image `name` is in the store, and returns its reference by digest, or why not.
///
/// What the engine has under that name wins over what the store has: it is newer, or the same.
pub async fn prepare(socket: &Path, blobs: &Arc<Blobs>, name: &str) -> Result<String, String> {
    let image: ImageRef = name.parse().map_err(|error| format!("{error}"))?;
    if let Some(digest) = image.digest() {
        return Ok(loopback_reference(&image, digest).to_string());
    }
    if import(socket, blobs, name).await? {
        let digest = blobs.resolve(&image);
        return digest
            .map(|digest| loopback_reference(&image, digest).to_string())
            .ok_or_else(|| format!("the engine's archive of `{name}` does not hold that name"));
    }
    let digest = blobs.resolve(&image);
    digest
        .map(|digest| loopback_reference(&image, digest).to_string())
        .ok_or_else(|| {
            format!(
                "neither the engine nor the store of this host has it: docker build -t {name} ."
            )
        })
}

/// Takes an image over from the engine; false if the engine does not have it.
async fn import(socket: &Path, blobs: &Arc<Blobs>, name: &str) -> Result<bool, String> {
    let engine = Engine::connect(socket)
        .await
        .map_err(|error| error.to_string())?;
    let known = engine
        .image_id(name)
        .await
        .map_err(|error| error.to_string())?;
    if known.is_none() {
        return Ok(false);
    }
    let stream = engine.export_image(name).map_err(io::Error::other).boxed();
    let reader = SyncIoBridge::new(Box::pin(StreamReader::new(stream)));
    let blobs = Arc::clone(blobs);
    let imported = tokio::task::spawn_blocking(move || import_docker_archive(&blobs, reader)).await;
    let imported = imported.map_err(|_| "the import of the image failed".to_owned())?;
    imported.map_err(|error| format!("image `{name}` could not be taken over: {error}"))?;
    info!(image = name, "image taken over from the engine");
    Ok(true)
}
