//! What the control plane decides, without clock, disk, wire or randomness of its own.
//!
//! # What stands where
//!
//! - The way of a request: [`path`], [`request`] and [`fields`] are what comes in; [`pipeline`] is the
//!   way; [`throttle`], [`quotas`] and [`lockout`] brake it, [`policy`] allows it, [`mounts`] and
//!   [`registry`] say who decides it; [`reply`] and [`refusal`] are what goes out, [`wrapping`] puts it
//!   aside and [`audit`] records it.
//! - What decisions are made with: [`engine`] says what an engine is and gets, [`draft`] is the batch in
//!   the making, [`tables`] what stands in the store, [`need`] what may wait for room there, [`entropy`]
//!   and [`facts`] are passed in, [`outside`] is what servers elsewhere are asked.
//! - What proves who asks: [`auth`], whose methods share [`role`] and [`cidrs`]. What grants things:
//!   [`engines`].
//! - What they leave: [`tokens`], [`leases`], [`identity`]; what ends is swept by [`tend`].
//! - What an operator says of the server: [`config`].
//!
//! # How to add an engine or an auth method
//!
//! 1. Write a type in `engines/` or `auth/` and implement [`engine::Engine`] for it: `kind` is its
//!    name in `sys/mounts` or `sys/auth`; `decide` matches on the operation and the segments of the
//!    path below its mount. [`engines::kv1`] is the shortest example, [`auth::userpass`] one of an
//!    auth method (a path without token, slow work, a login).
//! 2. Read and write through [`engine::Context`]: keys are relative to the mount, reads are tracked,
//!    writes are seen by later reads and committed only if `decide` returns `Ok`. Time is
//!    [`engine::Context::now`], randomness [`engine::Context::entropy`]. Need another mount's
//!    storage? [`engine::Context::within`].
//! 3. What expires is a lease: [`engine::Context::grant`], `extend`, `end`; `Engine::revoke` undoes
//!    what the lease stood for. What is merely observed goes to [`engine::Context::observe`].
//! 4. Register it in [`registry::Registry::built_in`], and mount it there if each cluster has it.
//! 5. Its tests ask through `trial`, the whole pipeline without disk and wire. A parser of foreign bytes
//!    gets a target in `fuzz.rs`, and a decision that was weighed a note in `docs/design/`.

pub mod audit;
pub mod auth;
pub mod cidrs;
pub mod config;
pub mod draft;
pub mod engine;
pub mod engines;
pub mod entropy;
pub mod facts;
pub mod fields;
pub mod idempotency;
pub mod identity;
pub mod leases;
pub mod lockout;
pub mod mounts;
pub mod need;
pub mod outside;
pub mod path;
pub mod pipeline;
pub mod policy;
pub mod quotas;
pub mod redirect;
pub mod refusal;
pub mod registry;
pub mod reply;
pub mod request;
pub mod role;
pub(crate) mod stored_answer;
pub mod tables;
pub mod tend;
pub mod throttle;
pub mod token_type;
pub mod tokens;
#[cfg(all(bastide_fuzz, not(test)))]
pub(crate) mod trial;
#[cfg(test)]
pub(crate) mod trial;
pub mod wrapping;
