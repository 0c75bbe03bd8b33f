//! Which kind of token a login or a role makes.

use serde::{Deserialize, Serialize};

use crate::core::refusal::Refusal;

/// The kind of a token that exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Stored, with an accessor; it can be renewed and have children.
    #[default]
    Service,
    /// Not stored: the token is its own entry, sealed. It ends, and that is all that can be done to it.
    Batch,
}

impl TokenKind {
    /// Returns its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Batch => "batch",
        }
    }
}

/// What a role, or the tuning of a mount, says about the kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenType {
    /// Nothing.
    #[default]
    #[serde(alias = "")]
    Default,
    /// Service tokens.
    Service,
    /// Batch tokens.
    Batch,
    /// Service tokens, unless somebody else asks for batch tokens.
    DefaultService,
    /// Batch tokens, unless somebody else asks for service tokens.
    DefaultBatch,
}

impl TokenType {
    /// Parses one of the five names; the empty text says nothing.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "" | "default" => Ok(Self::Default),
            "service" => Ok(Self::Service),
            "batch" => Ok(Self::Batch),
            "default-service" => Ok(Self::DefaultService),
            "default-batch" => Ok(Self::DefaultBatch),
            _ => Err(Refusal::invalid("invalid 'token_type' value")),
        }
    }

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Service => "service",
            Self::Batch => "batch",
            Self::DefaultService => "default-service",
            Self::DefaultBatch => "default-batch",
        }
    }

    /// Returns the kind of the token that a login makes, where a role says `self` and the mount's
    /// tuning says `mount`: a mount that is tuned to one kind makes no other.
    pub fn at_login(self, mount: Self) -> TokenKind {
        match (mount, self) {
            (Self::Service, _) => TokenKind::Service,
            (Self::Batch, _) => TokenKind::Batch,
            (Self::DefaultBatch, Self::Service | Self::DefaultService) => TokenKind::Service,
            (Self::DefaultBatch, _) => TokenKind::Batch,
            (Self::Default | Self::DefaultService, Self::Batch | Self::DefaultBatch) => {
                TokenKind::Batch
            }
            (Self::Default | Self::DefaultService, _) => TokenKind::Service,
        }
    }
}
