//! The mount `sys/`: mounts, policies, leases, and what the server tells of itself.

use serde_json::json;

use crate::core::engine::{Call, Context, Engine};
use crate::core::engines::transit::tools;
use crate::core::pipeline;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply};
use crate::core::request::Operation;

mod audit;
mod capabilities;
mod catalog;
pub mod keys;
mod leases;
mod locked_users;
mod mounts;
mod policies;
pub mod quotas;
mod request_headers;
mod wrapping;

/// The engine behind `sys/`.
pub struct Sys;

impl Engine for Sys {
    fn kind(&self) -> &'static str {
        "system"
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        matches!(
            (call.operation, &call.segments()[..]),
            (
                Operation::Read,
                ["health" | "seal-status" | "leader" | "init"] | ["internal", "ui", "mounts", ..]
            ) | (Operation::Update, ["init" | "unseal"])
                | (Operation::Read | Operation::Update, ["wrapping", "lookup"])
        )
    }

    fn is_public(&self, call: &Call<'_>) -> bool {
        keys::is_public(call)
    }

    fn folds(&self, call: &Call<'_>) -> bool {
        matches!(
            call.segments()[..],
            ["policies" | "policy" | "locked-users", ..]
        )
    }

    fn needs_sudo(&self, call: &Call<'_>) -> bool {
        let segments = call.segments();
        let listed = call.operation == Operation::List;
        matches!(
            &segments[..],
            ["auth", _, ..]
                | [
                    "audit"
                        | "audit-log"
                        | "generate-root"
                        | "raw"
                        | "rekey"
                        | "rekey-recovery-key"
                        | "remount"
                        | "rotate"
                        | "seal"
                        | "step-down",
                    ..
                ]
                | ["revoke-prefix" | "revoke-force", ..]
                | ["plugins", "catalog", ..]
                | ["config", "cors" | "auditing", ..]
                | ["leases"]
                | ["leases", "count" | "revoke-prefix" | "revoke-force", ..]
        ) || listed && matches!(&segments[..], ["leases", "lookup", ..])
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Read, Update};
        let segments = call.segments();
        if let Some(answer) = keys::decide(ctx, call, &segments)? {
            return Ok(answer);
        }
        match (call.operation, &segments[..]) {
            (Read, ["health"]) => Ok(health(ctx, call)),
            (Read, ["seal-status"]) | (Update, ["unseal"]) => Ok(seal_status(ctx)),
            (Read, ["leader"]) => Ok(leader()),
            (Read, ["init"]) => Ok(bare(json!({ "initialized": true }))),
            (Update, ["init"]) => Err(Refusal::invalid("Vault is already initialized")),
            (Read, ["ha-status"]) => Ok(Answer::json(json!({ "nodes": [] }))),
            (_, ["mounts" | "auth" | "remount", ..]) => mounts::decide(ctx, call, &segments),
            (Read, ["internal", "ui", "mounts", rest @ ..]) => {
                mounts::shown_to_caller(ctx, &rest.join("/"))
            }
            (_, ["policies", "acl", ..] | ["policy", ..]) => policies::decide(ctx, call, &segments),
            (_, ["capabilities" | "capabilities-self" | "capabilities-accessor"]) => {
                capabilities::decide(ctx, call, segments[0])
            }
            (
                _,
                [
                    "leases" | "renew" | "revoke" | "revoke-prefix" | "revoke-force",
                    ..,
                ],
            ) => leases::decide(ctx, call, &segments),
            (Read, ["internal", "ui", "resultant-acl"]) => {
                let acl = pipeline::acl(ctx)?;
                Ok(Answer::data(acl.shown()))
            }
            (Update, ["tools", "hash"]) => tools::hash(call, None),
            (Update, ["tools", "hash", name]) => tools::hash(call, Some(name)),
            (Update, ["tools", "random", rest @ ..]) => tools::random(ctx, call, rest),
            (_, ["plugins", "catalog", rest @ ..]) => catalog::decide(ctx, call, rest),
            (_, ["wrapping", what]) => wrapping::decide(ctx, call, what),
            (_, ["quotas", rest @ ..]) => quotas::decide(ctx, call, rest),
            (_, ["locked-users", rest @ ..]) => locked_users::decide(ctx, call, rest),
            (_, ["config", "auditing", "request-headers", rest @ ..]) => {
                request_headers::decide(ctx, call, rest)
            }
            (_, ["audit" | "audit-hash" | "audit-log", ..]) => audit::decide(ctx, call, &segments),
            (
                _,
                [
                    "health" | "seal-status" | "leader" | "init" | "ha-status" | "key-status"
                    | "seal",
                ],
            ) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

fn bare(value: serde_json::Value) -> Answer {
    match value {
        serde_json::Value::Object(object) => Reply::Bare(object).into(),
        _ => unreachable!("answers are JSON objects"),
    }
}

fn health(ctx: &Context<'_, '_>, _call: &Call<'_>) -> Answer {
    let server = ctx.world.server;
    bare(json!({
        "initialized": true,
        "sealed": false,
        "standby": false,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": ctx.now().as_secs(),
        "version": server.version,
        "enterprise": false,
        "cluster_name": server.cluster_name,
        "cluster_id": server.cluster_id,
        "echo_duration_ms": 0,
        "clock_skew_ms": 0,
        "replication_primary_canary_age_ms": 0,
    }))
}

fn seal_status(ctx: &Context<'_, '_>) -> Answer {
    let server = ctx.world.server;
    bare(json!({
        "type": server.seal,
        "initialized": true,
        "sealed": false,
        "t": 1,
        "n": 1,
        "progress": 0,
        "nonce": "",
        "version": server.version,
        "build_date": "",
        "migration": false,
        "cluster_name": server.cluster_name,
        "cluster_id": server.cluster_id,
        "recovery_seal": false,
        "storage_type": server.storage,
        "removed_from_cluster": false,
    }))
}

fn leader() -> Answer {
    bare(json!({
        "ha_enabled": false,
        "is_self": true,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
        "performance_standby": false,
        "performance_standby_last_remote_wal": 0,
    }))
}

#[cfg(test)]
mod tests;
