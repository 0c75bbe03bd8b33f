//! Why an engine did not do what it was asked.

use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;

use super::REQUEST_MAX;

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answered on the socket.
    #[error("no container engine answered at `{socket}`")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The engine's API is older than Docker 20.10's.
    #[error("container engine `{version}` is older than Docker 20.10")]
    TooOld {
        /// The engine's version.
        version: String,
    },
    /// The engine refused.
    #[error("{operation} `{object}` was refused by the container engine: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        object: String,
        /// The answer's status.
        status: u16,
        /// The answer's text.
        message: String,
    },
    /// The engine took the request and does not answer it.
    #[error("{operation} `{object}` was not answered by the container engine within {after:?}")]
    Slow {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        object: String,
        /// How long was waited.
        after: Duration,
    },
    /// The request did not get through, or its answer could not be read.
    #[error("{operation} `{object}` failed")]
    Failed {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        object: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
}

impl EngineError {
    /// Returns the HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. }
            | Self::TooOld { .. }
            | Self::Slow { .. }
            | Self::Failed { .. } => None,
        }
    }

    /// Returns whether the engine may be well and merely slow, so that what it runs goes on.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Slow { .. })
    }

    /// Returns whether the Swarm has no leader: too few of its managers answer each other.
    pub fn is_without_leader(&self) -> bool {
        match self {
            // swarmkit's words (`manager/state/raft`), and what its client says when nobody leads.
            Self::Refused { message, .. } => {
                message.contains("does not have a leader")
                    || message.contains("no leader")
                    || message.contains("DeadlineExceeded")
                    || message.contains("deadline exceeded")
            }
            Self::Unreachable { .. }
            | Self::TooOld { .. }
            | Self::Slow { .. }
            | Self::Failed { .. } => false,
        }
    }
}

/// An operation and its object, to be named in an error.
#[derive(Debug, Clone)]
pub(super) struct Object {
    operation: &'static str,
    object: String,
}

impl Object {
    pub(super) fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self {
            operation,
            object: object.into(),
        }
    }

    /// Waits for the answer to a request, body included, within [`REQUEST_MAX`].
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(REQUEST_MAX, request).await {
            Ok(answer) => answer.map_err(|error| self.failed(error)),
            Err(_) => Err(self.slow()),
        }
    }

    fn slow(&self) -> EngineError {
        EngineError::Slow {
            operation: self.operation,
            object: self.object.clone(),
            after: REQUEST_MAX,
        }
    }

    pub(super) fn failed(&self, source: Error) -> EngineError {
        let (operation, object) = (self.operation, self.object.clone());
        match source {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => EngineError::Refused {
                operation,
                object,
                status: status_code,
                message,
            },
            // The library's own deadline for the head of an answer.
            Error::RequestTimeoutError => self.slow(),
            source => EngineError::Failed {
                operation,
                object,
                source: Box::new(source),
            },
        }
    }
}
