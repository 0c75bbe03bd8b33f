//! Why an engine did not do what it was asked.

use std::path::PathBuf;

use bollard::errors::Error;

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
            Self::Unreachable { .. } | Self::TooOld { .. } | Self::Failed { .. } => None,
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
            source => EngineError::Failed {
                operation,
                object,
                source: Box::new(source),
            },
        }
    }
}
