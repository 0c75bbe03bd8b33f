//! Images without a registry: each node keeps blobs by digest, serves them to its own engine as a
//! registry on loopback, and to its peers on the mesh; what is missing comes from the peers.
//!
//! ```text
//! docker save -> archive -> Blobs <- Fetcher <── peers' Blobs, over the mesh
//!                             │        │
//!               peers <── serve_peers  serve_loopback ──> the engine's pull, by digest
//! ```
//!
//! This module never takes a push over HTTP, never follows a tag to another node, and never hands
//! out bytes whose digest it has not computed itself.

mod archive;
pub(crate) mod blobs;
mod fetch;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod serve;
mod sweep;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bastide_api::ports;
pub use bastide_stack::{Digest, ImageRef};

pub use self::archive::{ArchiveError, Imported, import_docker_archive};
pub use self::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
pub use self::fetch::{FetchError, Fetcher, Peers};
pub use self::serve::{serve_loopback, serve_peers};
pub use self::sweep::{Swept, sweep};

/// Where each node's engine finds the node's own images.
pub const LOOPBACK: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, ports::IMAGES));

/// Names `image` as every node's engine can pull it: from the node's own registry, by digest.
pub fn loopback_reference(image: &ImageRef, digest: Digest) -> ImageRef {
    image.at(LOOPBACK, digest)
}

#[cfg(test)]
mod tests;
