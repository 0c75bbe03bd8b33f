//! Why one item of a request failed.

use crate::core::refusal::Refusal;

/// Why one item failed, while others of its batch may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The item makes no sense, or is not what it says.
    User(String),
    /// The item cannot be done: what Vault answers with status 500.
    Failed(String),
}

impl Fault {
    pub(super) fn user(why: impl Into<String>) -> Self {
        Self::User(why.into())
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::User(text) | Self::Failed(text) => text,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::User(text) => Refusal::Invalid(text),
            Fault::Failed(text) => Refusal::Failed(text),
        }
    }
}
