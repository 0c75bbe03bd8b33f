//! The container engine, through its API: the only module that knows the client library.
//!
//! Engines from Docker 20.10 (API 1.41) to 29 (API 1.44 at least) are spoken to in one version each:
//! the oldest that both sides know. The library sends requests without a version, which an engine
//! takes for its newest, so each request's path gets the version here.

mod error;
mod networks;
mod raw;
mod services;
mod sessions;
mod swarm;
mod tasks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

pub use error::EngineError;
pub use sessions::{Running, ServiceContainer, Written};
pub use swarm::JoinTokens;
pub use tasks::Change;

use error::Object;

/// The oldest API version that has all that is used here: Docker 20.10's.
const API_MIN: ApiVersion = ApiVersion(1, 41);
/// How long one request may take. Joining a Swarm takes the engine up to 20 s.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A connection to a container engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    socket: PathBuf,
    version: EngineVersion,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    /// Its version, as it writes it: `20.10.24+dfsg1`.
    pub engine: String,
    /// The first number of its version; 0 if it cannot be read.
    pub major: u32,
    /// The API version that it is spoken to in.
    pub api: ApiVersion,
}

/// A version of the engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u16, pub u16);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Chooses the oldest version that an engine and we both know.
fn choose(min: Option<ApiVersion>, max: ApiVersion) -> Option<ApiVersion> {
    let chosen = min.map_or(API_MIN, |min| min.max(API_MIN));
    (chosen <= max).then_some(chosen)
}

impl Engine {
    /// Connects to the engine behind `socket` and asks for its version.
    pub async fn connect(socket: &Path) -> Result<Self, EngineError> {
        let unreachable = |source| EngineError::Unreachable {
            socket: socket.to_owned(),
            source: Box::new(source),
        };
        let path = socket.display().to_string();
        let plain = Docker::connect_with_unix(&path, REQUEST_MAX.as_secs(), API_DEFAULT_VERSION)
            .map_err(unreachable)?;
        let version = match Object::new("asking", "version").ask(plain.version()).await {
            Ok(version) => version,
            Err(EngineError::Failed { source, .. }) => {
                return Err(EngineError::Unreachable {
                    socket: socket.to_owned(),
                    source,
                });
            }
            Err(error) => return Err(error),
        };
        let engine = version.version.unwrap_or_default();
        let parse = |text: Option<String>| text.as_deref().and_then(ApiVersion::parse);
        let api = parse(version.api_version)
            .and_then(|max| choose(parse(version.min_api_version), max))
            .ok_or_else(|| EngineError::TooOld {
                version: engine.clone(),
            })?;
        let docker = plain.with_request_modifier(move |mut request| {
            if let Some(uri) = versioned(request.uri(), api) {
                *request.uri_mut() = uri;
            }
            request
        });
        let major = engine
            .split('.')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        let version = EngineVersion { engine, major, api };
        Ok(Self {
            docker,
            socket: socket.to_owned(),
            version,
        })
    }

    /// Returns what the engine says of itself.
    pub fn version(&self) -> &EngineVersion {
        &self.version
    }

    /// Returns the socket that it answers on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the image `name` as the tar archive that `docker save` writes, in pieces.
    pub fn export_image(
        &self,
        name: &str,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + use<> {
        let object = Object::new("exporting image", name);
        let stream = self.docker.export_image(name).boxed();
        stream.map(move |piece| piece.map_err(|source| object.failed(source)))
    }

    /// Returns the id of the image `name`, or `None` if the engine does not have it.
    pub async fn image_id(&self, name: &str) -> Result<Option<String>, EngineError> {
        let object = Object::new("inspecting image", name);
        match object.ask(self.docker.inspect_image(name)).await {
            Ok(image) => Ok(image.id),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns `uri` with the API version before its path.
fn versioned(uri: &http::Uri, api: ApiVersion) -> Option<http::Uri> {
    let mut parts = uri.clone().into_parts();
    let path = parts.path_and_query.as_ref()?.as_str();
    parts.path_and_query = Some(format!("/v{api}{path}").parse().ok()?);
    http::Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests;
