//! Shares that are gathered for one purpose, under a nonce, so that none is given for another.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_store::{Share, Sharing};
use tokio::time::Instant;

use super::GateError;
use crate::core::reply::Asker;
use crate::run::plane::request_id;

/// How long what a stranger did not begin is safe from him, if he does not know its nonce.
const STRANGERS_AFTER: Duration = Duration::from_secs(600);

/// Shares, as far as they were given.
pub(super) struct Gathering {
    nonce: String,
    given: Vec<Share>,
    began: Instant,
}

impl Gathering {
    pub(super) fn new() -> Self {
        Self {
            nonce: request_id(),
            given: Vec::new(),
            began: Instant::now(),
        }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn progress(&self) -> usize {
        self.given.len()
    }

    /// Takes a share; returns all of them once there are enough, and is empty then. One that was given
    /// before does not count again.
    pub(super) fn give(
        &mut self,
        share: Share,
        nonce: &str,
        sharing: Sharing,
    ) -> Result<Option<Vec<Share>>, GateError> {
        if verify_slices_are_equal(self.nonce.as_bytes(), nonce.as_bytes()).is_err() {
            return Err(GateError::Nonce);
        }
        let bytes = sharing.share_bytes();
        if share.expose().len() != bytes {
            return Err(GateError::Length { bytes });
        }
        let is_known =
            |known: &Share| verify_slices_are_equal(known.expose(), share.expose()).is_ok();
        if !self.given.iter().any(is_known) {
            self.given.push(share);
        }
        let is_enough = usize::from(sharing.threshold()) <= self.given.len();
        Ok(is_enough.then(|| std::mem::take(&mut self.given)))
    }

    /// Checks that whoever asks may end it. A stranger must know its nonce, or come when it is old:
    /// else anybody could keep it from its end (CVE-2025-4656, CVE-2026-5807).
    pub(super) fn let_end(&self, by: Asker, nonce: &str) -> Result<(), GateError> {
        let is_own = verify_slices_are_equal(self.nonce.as_bytes(), nonce.as_bytes()).is_ok();
        if by == Asker::Trusted || is_own || STRANGERS_AFTER <= self.began.elapsed() {
            return Ok(());
        }
        Err(GateError::CancelNonce)
    }
}
