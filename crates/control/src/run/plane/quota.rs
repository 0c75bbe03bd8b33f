//! Rate limits: requests are counted before they are looked at.

use super::{Plane, Undone};
use crate::core::audit::Audited;
use crate::core::engine::{Call, Caller};
use crate::core::engines::sys::quotas;
use crate::core::need::Need;
use crate::core::path::ApiPath;
use crate::core::pipeline::{Decision, Response};
use crate::core::quotas::{Left, Verdict};
use crate::core::refusal::Refusal;
use crate::core::request::{Inside, Operation, Request};
use std::sync::Arc;

impl Plane {
    /// Counts a request under the rate limit that it falls under. Returns what is left of it, if that
    /// is to be told.
    pub(super) fn counted(
        &self,
        request: &Request,
    ) -> Result<Option<Left>, (Refusal, Option<Left>)> {
        let (Inside::No, Some(address)) = (request.inside, request.peer.address) else {
            return Ok(None);
        };
        let silent = |refusal| (refusal, None);
        let read = || self.inspect("sys/", |ctx| quotas::load(ctx.draft));
        let rules = self.0.limits.rules(&*self.0.store, read).map_err(silent)?;
        if rules.is_empty() {
            return Ok(None);
        }
        let path = request.path.as_str();
        let role = if rules.wants_role(path) {
            self.role_of(request).map_err(silent)?
        } else {
            None
        };
        // The most specific rule comes first: for the path as it is written, or as its engine reads it.
        let folded = self.folded(request).map_err(silent)?;
        let spellings = [Some(path), folded.as_ref().map(ApiPath::as_str)];
        let found = spellings.into_iter().flatten();
        let found = found.filter_map(|path| rules.find(path, role.as_deref()));
        let Some(number) = found.min() else {
            return Ok(None);
        };
        let told = |left| rules.settings().headers.then_some(left);
        match self.0.limits.ask(&rules, number, address.ip()) {
            Verdict::Passes(left) => Ok(told(left)),
            Verdict::Waits(left, wait) => {
                let path = path.to_owned();
                Err((Refusal::Limited { path, wait }, told(left)))
            }
        }
    }

    /// Returns the role that a login is of.
    fn role_of(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let (_, found) = self.inspect("sys/", |ctx| {
            let mounts = ctx.draft.mounts()?;
            let Some((mount, below)) = mounts.route(&request.path) else {
                return Ok(None);
            };
            if request.operation != Operation::Update || !below.starts_with("login") {
                return Ok(None);
            }
            let mut within = ctx.within(mount.path.as_str())?;
            let engine = Arc::clone(within.engine()?);
            let call = Call {
                operation: request.operation,
                path: below,
                folder: request.path.is_folder(),
                data: &request.data,
            };
            engine.role_of(&mut within, &call)
        })?;
        Ok(found)
    }

    /// Answers what was refused before it was looked at; it is audited where that is asked for.
    pub(super) async fn turn_away(
        &self,
        request: &Request,
        refusal: Refusal,
        left: Option<Left>,
    ) -> Response {
        let response = |refusal| Response {
            request_id: request.id.clone(),
            mount_kind: String::new(),
            spread: false,
            left,
            outcome: Err(refusal),
        };
        let rules = self.0.limits.known();
        if !rules.is_some_and(|rules| rules.settings().audit) {
            return response(refusal);
        }
        let audited = Audited::new(Caller::Nobody, request.operation, None, Some(&refusal));
        let decision = Decision {
            batch: bastide_store::Batch::default(),
            audit: Some(audited),
            need: Need::Record,
            observations: Vec::new(),
            response: response(refusal),
        };
        match self.commit(request, decision).await {
            Ok(told) => told,
            Err(Undone::Refused(refusal)) => response(refusal),
            Err(Undone::Again) => {
                response(Refusal::Unavailable("the record was not taken".to_owned()))
            }
        }
    }
}
