//! The one way through the control plane, as a pure function of snapshot, request, time and seed.
//!
//! authenticate, route, authorise, let the engine decide, make tokens and leases of its answer.

mod answer;
mod rights;

use std::sync::Arc;

use bastide_api::{Secret, UnixTime};
use bastide_store::{Batch, OpenSnapshot};
use serde_json::Map;

use crate::core::audit::Audited;
use crate::core::cidrs;
use crate::core::config::Compat;
use crate::core::draft::{Draft, WorkResult};
use crate::core::engine::{Call, Caller, Context, Engine, World};
use crate::core::engines::identity::names;
use crate::core::entropy::Entropy;
use crate::core::facts::Observation;
use crate::core::idempotency::Slot;
use crate::core::identity::EntityFacts;
use crate::core::mounts::Mount;
use crate::core::need::{Need, need_of};
use crate::core::path::{ApiPath, MountPath};
use crate::core::policy::acl::{Acl, Authorised, Question};
use crate::core::refusal::{Refusal, Work};
use crate::core::reply::Answer;
use crate::core::request::{Identity, Inside, Operation, Request};
use crate::core::tokens::{self, Token};
use crate::core::wrapping;

use answer::envelope;
pub use answer::{Envelope, Response, Shape, auth};
pub use rights::{acl, acl_of_token, entity_of_alias, entity_of_token};

/// What was decided: all of it is committed, or nothing.
pub struct Decision {
    /// Effect, lease and token together, in plain; compared with all that was read.
    pub batch: Batch,
    /// What to audit; `None` for observations.
    pub audit: Option<Audited>,
    /// What it needs of the disk.
    pub need: Need,
    /// What was observed, to be taken in after the commit.
    pub observations: Vec<Observation>,
    /// What to answer after the commit.
    pub response: Response,
}

#[cfg(test)]
impl Decision {
    /// Returns the records of request and response as one device makes them.
    pub(crate) fn records(
        &self,
        request: &Request,
        recorder: &crate::core::audit::Recorder,
    ) -> [serde_json::Value; 2] {
        let audited = self.audit.as_ref().expect("the request is recorded");
        let answer = self.response.outcome.as_ref().ok();
        let lines = recorder.lines(audited, request, answer, UnixTime::from_millis(0));
        lines.each().map(|line| {
            let text = [line, b"}"].concat();
            serde_json::from_slice(&text).expect("a record is JSON")
        })
    }
}

/// What a decision ended with.
pub enum Outcome {
    /// Decided.
    Decided(Box<Decision>),
    /// Do this work and decide again, with the same seed.
    Needs(Work),
}

/// Decides a request.
pub fn decide(
    world: World<'_>,
    snapshot: &OpenSnapshot,
    request: &Request,
    now: UnixTime,
    seed: &Secret<[u8; 32]>,
    results: &[WorkResult],
) -> Outcome {
    let mut draft = Draft::new(snapshot, now, Entropy::new(seed), results);
    draft.know_ttls(world.server.ttls);
    if let Some(known) = world.mounts {
        draft.know_mounts(known);
    }
    let mut course = Course::default();
    let outcome = course.run(&mut draft, world, request);
    let outcome = match outcome {
        Err(Refusal::Needs(work)) => return Outcome::Needs(work),
        other => other,
    };
    // What counts against a token counts for refused requests too; all else is taken back.
    if outcome.is_err()
        && let Some(mark) = course.authenticated.take()
    {
        draft.return_to(mark);
    }
    let spent = course
        .last_use
        .then_some(())
        .and(course.caller.token())
        .map(|token| token.id);
    if let Some(id) = spent
        && let Err(refusal) = tokens::revoke(&mut draft, world, &id)
    {
        return failed(request, &course, refusal);
    }
    let quiet = course.quiet && !draft.is_written() && outcome.is_ok();
    // What is refused without having been looked at is no event, or a flood would fill the log.
    let unheard = matches!(outcome, Err(Refusal::TooMany(_)));
    let audit = (!quiet && !course.unaudited && !unheard).then(|| {
        Audited::new(
            std::mem::replace(&mut course.caller, Caller::Nobody),
            course.operation.unwrap_or(request.operation),
            course.mount.clone(),
            outcome.as_ref().err(),
        )
    });
    let (batch, mut observations) = draft.finish();
    if outcome.is_err() {
        observations.retain(Observation::outlives_refusal);
    }
    Outcome::Decided(Box::new(Decision {
        need: need_of(
            request,
            course.mount.as_deref(),
            &outcome,
            !batch.ops.is_empty(),
        ),
        batch,
        audit,
        observations,
        response: course.response(request, outcome),
    }))
}

fn failed(request: &Request, course: &Course, refusal: Refusal) -> Outcome {
    Outcome::Decided(Box::new(Decision {
        batch: Batch::default(),
        audit: None,
        need: Need::Record,
        observations: Vec::new(),
        response: course.response(request, Err(refusal)),
    }))
}

/// How far a request came.
struct Course {
    caller: Caller,
    entity: Option<Arc<EntityFacts>>,
    operation: Option<Operation>,
    mount: Option<Arc<Mount>>,
    authenticated: Option<crate::core::draft::Mark>,
    last_use: bool,
    quiet: bool,
    unaudited: bool,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            caller: Caller::Nobody,
            entity: None,
            operation: None,
            mount: None,
            authenticated: None,
            last_use: false,
            quiet: false,
            unaudited: false,
        }
    }
}

/// Paths of `sys` that tell whether the server lives; asked every few seconds, never audited.
const UNAUDITED: &[&str] = &["sys/health", "sys/seal-status", "sys/leader", "sys/init"];

/// Paths of `sys` whose `data` also stands at the top of the answer.
const SPREAD: &[&str] = &[
    "sys/audit",
    "sys/audit-hash",
    "sys/auth",
    "sys/capabilities",
    "sys/capabilities-accessor",
    "sys/capabilities-self",
    "sys/config/auditing/request-headers",
    "sys/config/cors",
    "sys/ha-status",
    "sys/key-status",
    "sys/mounts",
    "sys/policy",
    "sys/remount",
    "sys/rotate",
];

fn spreads(path: &str) -> bool {
    SPREAD.iter().any(|known| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

impl Course {
    fn response(&self, request: &Request, outcome: Result<Envelope, Refusal>) -> Response {
        Response {
            request_id: request.id.clone(),
            mount_kind: self
                .mount
                .as_ref()
                .map(|mount| mount.kind.clone())
                .unwrap_or_default(),
            spread: spreads(request.path.as_str()),
            left: None,
            outcome,
        }
    }

    fn run(
        &mut self,
        draft: &mut Draft<'_>,
        world: World<'_>,
        request: &Request,
    ) -> Result<Envelope, Refusal> {
        self.unaudited = UNAUDITED.contains(&request.path.as_str());
        let proof = self.authenticate(draft, world, request)?;
        self.authenticated = Some(draft.mark());
        let mounts = draft.mounts()?;
        let Some((mount, below)) = mounts.route(&request.path) else {
            self.count_use(draft)?;
            return Err(self.unrouted(draft, world, request, proof)?);
        };
        self.mount = Some(Arc::clone(mount));
        let mut call = Call {
            operation: request.operation,
            path: below,
            folder: request.path.is_folder(),
            data: &request.data,
        };
        let engine = Arc::clone(world.registry.of(mount)?);
        let is_open = engine.is_open(&call);
        if !is_open {
            self.count_use(draft)?;
        }
        let slot = Slot::of(draft.source().barrier(), &self.caller, request);
        let remembered = match &slot {
            Some(slot) => slot.recall(draft)?,
            None => None,
        };
        let mut ctx = Context {
            draft,
            world,
            mount: Arc::clone(mount),
            caller: &self.caller,
            entity: self.entity.as_ref(),
            bearer: request.token.as_ref(),
            peer: request.peer.clone(),
            path: request.path.as_str(),
        };
        let is_public = world.server.compat == Compat::Vault && engine.is_public(&call);
        let authorised = if is_open {
            Authorised::open()
        } else if let Some(refused) = proof.err() {
            if !is_public {
                wrapping::judge(ctx.draft, request)?;
                return Err(refused);
            }
            ctx.become_nobody();
            Authorised::open()
        } else {
            wrapping::judge(ctx.draft, request)?;
            if call.operation == Operation::Update {
                // Malformed names are told apart after authorisation, not before.
                if let Ok(Some(false)) = engine.exists(&mut ctx, &call) {
                    call.operation = Operation::Create;
                }
            }
            // A repetition asks for what the first asked for: creating, though it exists by now.
            if let Some(before) = &remembered {
                call.operation = before.operation;
            }
            let acl = acl(&mut ctx)?;
            let sudo = engine.needs_sudo(&call);
            let folded = folded(&*engine, &mount.path, &call);
            match authorise(&acl, request, &call, folded.as_ref(), sudo) {
                Some(authorised) => authorised,
                None if is_public => {
                    ctx.become_nobody();
                    Authorised::open()
                }
                None => return Err(Refusal::Denied),
            }
        };
        self.operation = Some(call.operation);
        if let Some(before) = remembered {
            return Ok(before.envelope);
        }
        if request.wrap.is_none() && request.path.as_str() == "sys/wrapping/wrap" {
            return Err(Refusal::invalid(
                "endpoint requires response wrapping to be used",
            ));
        }
        let operation = call.operation;
        let answer = match engine_decides(authorised, &*engine, &mut ctx, &call) {
            // Whoever opens it is to see that there is nothing, not that there is no answer.
            Err(Refusal::Absent) if operation == Operation::List && request.wrap.is_some() => {
                Answer::data(Map::new())
            }
            other => other?,
        };
        self.quiet = answer.quiet;
        let mut envelope = envelope(draft, world, mount, &self.caller, request, answer)?;
        if let Some(ttl) = request.wrap.filter(|_| wrapping::is_wrappable(&envelope)) {
            let path = request.path.as_str();
            envelope = wrapping::wrap(draft, path, ttl, operation, &envelope)?;
        }
        if let Some(slot) = &slot {
            slot.remember(draft, operation, &envelope)?;
        }
        Ok(envelope)
    }

    /// Finds out who asks. The inner result says whether that sufficed: on open paths it need not.
    fn authenticate(
        &mut self,
        draft: &mut Draft<'_>,
        world: World<'_>,
        request: &Request,
    ) -> Result<Result<(), Refusal>, Refusal> {
        if request.inside == Inside::Yes {
            self.caller = Caller::Program;
            return Ok(Ok(()));
        }
        if let Some(text) = &request.token {
            let Some(token) = tokens::by_text(draft, text)? else {
                return Ok(Err(Refusal::Unauthenticated));
            };
            // A root token without an end is how one gets back in: it is never bound.
            let is_bound = token.expires.is_some() || !token.is_root();
            if is_bound && !cidrs::admit(&token.bound_cidrs, request.peer.address) {
                return Ok(Err(Refusal::Unauthenticated));
            }
            if !token.entity_id.is_empty() {
                let found = with_mount(draft, world, request, "identity/", |ctx, engine| {
                    engine.entity(ctx, &token.entity_id)
                })?;
                match found.flatten() {
                    Some(entity) if !entity.disabled => self.entity = Some(entity),
                    _ => return Ok(Err(Refusal::Unauthenticated)),
                }
            }
            self.caller = Caller::Token(token);
            return Ok(Ok(()));
        }
        if let Some(identity) = request.peer.identity {
            if !admitted(draft, world, request, identity)? {
                return Ok(Err(Refusal::Unauthenticated));
            }
            self.caller = Caller::Machine(identity);
            return Ok(Ok(()));
        }
        Ok(Err(Refusal::Unauthenticated))
    }

    /// Counts a use of the caller's token: each request that needs one, granted or not, is a use.
    fn count_use(&mut self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let Caller::Token(token) = &self.caller else {
            return Ok(());
        };
        self.last_use = token.num_uses == 1;
        if 1 < token.num_uses {
            let mut token = Token::clone(token);
            token.num_uses -= 1;
            tokens::save(draft, &token)?;
            // What is refused is taken back up to here.
            self.authenticated = Some(draft.mark());
        }
        Ok(())
    }

    /// Refuses a path without a mount: only who may go there learns that there is none.
    fn unrouted(
        &mut self,
        draft: &mut Draft<'_>,
        world: World<'_>,
        request: &Request,
        proof: Result<(), Refusal>,
    ) -> Result<Refusal, Refusal> {
        proof?;
        let mut ctx = Context {
            draft,
            world,
            mount: nowhere(),
            caller: &self.caller,
            entity: self.entity.as_ref(),
            bearer: request.token.as_ref(),
            peer: request.peer.clone(),
            path: request.path.as_str(),
        };
        let call = Call {
            operation: request.operation,
            path: request.path.as_str(),
            folder: request.path.is_folder(),
            data: &request.data,
        };
        let acl = acl(&mut ctx)?;
        Ok(match authorise(&acl, request, &call, None, false) {
            Some(_) => Refusal::NoMount(request.path.to_string()),
            None => Refusal::Denied,
        })
    }
}

fn nowhere() -> Arc<Mount> {
    let seed = Secret::new([0; 32]);
    let path = MountPath::parse("nowhere").expect("a valid path");
    Arc::new(Mount::new(&mut Entropy::new(&seed), path, "nowhere"))
}

fn admitted(
    draft: &mut Draft<'_>,
    world: World<'_>,
    request: &Request,
    identity: Identity,
) -> Result<bool, Refusal> {
    let admitted = with_mount(draft, world, request, "mesh/", |ctx, engine| {
        engine.admits(ctx, identity)
    })?;
    Ok(admitted.unwrap_or(false))
}

/// Asks the engine behind a mount, for nobody in particular; `None` if there is no such mount.
fn with_mount<T>(
    draft: &mut Draft<'_>,
    world: World<'_>,
    request: &Request,
    at: &str,
    ask: impl FnOnce(&mut Context<'_, '_>, &dyn Engine) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    let mounts = draft.mounts()?;
    let Some(mount) = mounts.at(at) else {
        return Ok(None);
    };
    let engine = Arc::clone(world.registry.of(mount)?);
    let mut ctx = Context {
        draft,
        world,
        mount: Arc::clone(mount),
        caller: &Caller::Nobody,
        entity: None,
        bearer: None,
        peer: request.peer.clone(),
        path: request.path.as_str(),
    };
    ask(&mut ctx, &*engine).map(Some)
}

/// Calls the engine: nobody else does, and it takes the proof that the call is allowed.
fn engine_decides(
    _authorised: Authorised,
    engine: &dyn Engine,
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
) -> Result<Answer, Refusal> {
    let write = matches!(
        call.operation,
        Operation::Create | Operation::Update | Operation::Patch
    );
    if write && call.folder {
        return Err(Refusal::invalid("cannot write to a path ending in '/'"));
    }
    engine.decide(ctx, call)
}

fn authorise(
    acl: &Acl,
    request: &Request,
    call: &Call<'_>,
    folded: Option<&ApiPath>,
    sudo: bool,
) -> Option<Authorised> {
    acl.authorise(&Question {
        operation: call.operation,
        path: &request.path,
        folded,
        data: call.data,
        wrap: request.wrap,
        sudo,
    })
}

/// Returns the path of a call as its engine reads it, where that folds names and the path is written
/// otherwise.
pub fn folded(engine: &dyn Engine, mount: &MountPath, call: &Call<'_>) -> Option<ApiPath> {
    if !may_fold(call.path) || !engine.folds(call) {
        return None;
    }
    let below = names::folded(call.path);
    if below == call.path {
        return None;
    }
    let path = ApiPath::parse(&format!("{mount}{below}")).ok()?;
    Some(if call.folder {
        path.into_folder()
    } else {
        path
    })
}

/// Returns whether a path has letters that may be other ones where names are folded.
pub fn may_fold(path: &str) -> bool {
    path.bytes()
        .any(|byte| !byte.is_ascii() || byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests;
