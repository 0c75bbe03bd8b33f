//! Manifests and indexes of images (OCI image specification 1.1; Docker's schema 2).

use bastide_stack::Digest;
use serde::{Deserialize, Serialize};

/// Longest manifest, index or configuration, in bytes (the distribution specification's 4 MiB).
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Most layers of an image. Engines refuse more than 127.
pub const LAYERS_MAX: usize = 127;
/// Most manifests of an index.
pub const MANIFESTS_MAX: usize = 256;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

/// The manifest that is written for an archive of the legacy layout.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    pub media_type: &'static str,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// A manifest or an index, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image for one platform.
    Manifest {
        media_type: String,
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    /// One image for several platforms.
    Index {
        media_type: String,
        manifests: Vec<Descriptor>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index; `None` if the bytes are neither, or could be taken for both
    /// (CVE-2021-41190).
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(bytes).ok()?;
        let is_manifest_type = |name: &str| matches!(name, OCI_MANIFEST | DOCKER_MANIFEST);
        let is_index_type = |name: &str| matches!(name, OCI_INDEX | DOCKER_LIST);
        match raw {
            Raw {
                schema_version: 2,
                media_type,
                config: Some(config),
                layers: Some(layers),
                manifests: None,
            } if layers.len() <= LAYERS_MAX => {
                let media_type = media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned());
                is_manifest_type(&media_type).then_some(Self::Manifest {
                    media_type,
                    config,
                    layers,
                })
            }
            Raw {
                schema_version: 2,
                media_type,
                config: None,
                layers: None,
                manifests: Some(manifests),
            } if manifests.len() <= MANIFESTS_MAX => {
                let media_type = media_type.unwrap_or_else(|| OCI_INDEX.to_owned());
                is_index_type(&media_type).then_some(Self::Index {
                    media_type,
                    manifests,
                })
            }
            _ => None,
        }
    }

    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest { media_type, .. } | Self::Index { media_type, .. } => media_type,
        }
    }
}

#[cfg(test)]
mod tests;
