//! Why a request was not answered as wished.

use std::error::Error;
use std::fmt;
use std::io;

use bastide_pki::{IdentityError, RootsError};

/// Why a request was not answered as wished.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered: each address and why.
    #[error("no answer from {}", list(.0))]
    Unreachable(Vec<Attempt>),
    /// Somebody answered who is not the controller that was expected. Nothing was sent to it.
    #[error("{address} did not prove to be a controller of this cluster")]
    Untrusted {
        /// Who answered.
        address: String,
        /// What is wrong with its certificate.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is an error of the control plane.
    #[error("the control plane refused with status {status}: {}", said(.errors))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says, in Vault's form.
        errors: Vec<String>,
    },
    /// The connection was lost after the request was sent: whether it was served is not known.
    #[error("the connection to {address} was lost before the answer came")]
    Lost {
        /// To whom.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is not what this program understands.
    #[error("the answer of {address} is not valid: {what}")]
    Answer {
        /// Of whom.
        address: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The path or the method of the request is not valid.
    #[error("the request is not valid HTTP")]
    Request(#[source] http::Error),
    /// The certificate and key of this client cannot be used.
    #[error("the client's certificate cannot be used")]
    Identity(#[source] IdentityError),
    /// The certificate and key of this client do not fit together.
    #[error("the client's certificate and key do not fit together")]
    Mismatch(#[source] rustls::Error),
    /// The trusted authorities cannot be used.
    #[error("the cluster's authority cannot be used")]
    Roots(#[source] RootsError),
    /// There is no address to ask.
    #[error("no controller's address is known")]
    NoAddress,
}

impl ClientError {
    /// Returns whether asking again later, unchanged, may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 500..=599),
            Self::Untrusted { .. }
            | Self::Answer { .. }
            | Self::Request(_)
            | Self::Identity(_)
            | Self::Mismatch(_)
            | Self::Roots(_)
            | Self::NoAddress => false,
        }
    }

    /// Returns the status, if the control plane refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// An address that did not answer.
#[derive(Debug)]
pub struct Attempt {
    /// Which.
    pub address: String,
    /// Why.
    pub failing: Failing,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.failing)
    }
}

/// Why an address did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failing {
    /// The time was up.
    #[error("timed out")]
    Timeout,
    /// No connection.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// No TLS, though the certificate is not to blame, or no HTTP.
    #[error("{0}")]
    Handshake(#[source] Box<dyn Error + Send + Sync>),
}

fn list(attempts: &[Attempt]) -> String {
    let texts: Vec<_> = attempts.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Puts what the control plane says on one line: Vault's form of several errors has a line each.
fn said(errors: &[String]) -> String {
    let parts = errors.iter().flat_map(|error| {
        let is_list = |(head, _): &(&str, &str)| head.ends_with(" occurred:");
        match error.split_once("\n\t* ").filter(is_list) {
            Some((_, list)) => list.split("\n\t* ").map(str::trim).collect(),
            None => vec![error.as_str()],
        }
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
