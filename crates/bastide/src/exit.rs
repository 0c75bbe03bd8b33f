//! Exit codes, documented and stable.

use std::fmt;
use std::process::ExitCode;

use bastide_client::ClientError;

/// Why the program ends without success. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A bug of ours, or a failure that fits no other code.
    Failed = 1,
    /// The arguments or a file given do not make sense.
    Usage = 2,
    /// A policy does not allow it.
    Refused = 3,
    /// The control plane is sealed.
    Sealed = 4,
    /// Nobody answered.
    Unreachable = 5,
    /// It collides with something that exists.
    Conflict = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends the program with a chosen code and a hint.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What failed.
    pub what: String,
    /// The command that mends it, if one does.
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: None,
        }
    }

    /// Adds the command that mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Returns the code for an error: that of a [`Failure`] in it, else what the control plane's answer
/// means, else [`Exit::Failed`].
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    exit_of(error).into()
}

/// Finds a [`Failure`] in an error: among what was said about it, or among its causes.
pub fn failure_in(error: &anyhow::Error) -> Option<&Failure> {
    // What `context` added is found by the first way only.
    let said = error.downcast_ref::<Failure>();
    said.or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
}

/// Returns what to type where a policy or a token is in the way, and nobody said more of it.
pub fn hint_of(error: &anyhow::Error) -> Option<String> {
    let failure = failure_in(error);
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        return Some(hint.clone());
    }
    let answer = error.chain().find_map(|cause| cause.downcast_ref());
    let Some(ClientError::Refused {
        status: 403,
        errors,
    }) = answer
    else {
        return None;
    };
    // The control plane's words for a token that is none, and for a policy that does not allow it.
    let hint = match errors.first().map(String::as_str) {
        Some("permission denied") => {
            "the token has ended, was revoked, or was never one: `bastide login` gets another"
        }
        Some(error) if error.ends_with("* permission denied\n\n") => {
            "`bastide token self` shows whose token it is; an operator sees what was asked for with \
             `bastide audit search --refused`, and which rule is missing with `bastide policy check \
             --as NAME METHOD PATH`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = failure_in(error) {
        return failure.exit;
    }
    let answer = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>());
    match answer {
        Some(ClientError::Unreachable(_) | ClientError::Lost { .. }) => Exit::Unreachable,
        Some(ClientError::Refused { status, errors }) => match status {
            403 => Exit::Refused,
            409 => Exit::Conflict,
            503 if errors.iter().any(|error| error.contains("sealed")) => Exit::Sealed,
            _ => Exit::Failed,
        },
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests;
