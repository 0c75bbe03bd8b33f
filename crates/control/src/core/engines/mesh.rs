//! The engine `mesh`: the registrar of nodes, and the view that all of them share.
//!
//! ```text
//! create                     the cluster itself, once          the program alone
//! ca                         authority, pin, view key          read
//! controllers/<id>/certificate                                 the program alone
//! nodes, nodes/<id>          list, read, delete
//! nodes/<id>/routes          approve subnets behind a node     write
//! nodes/<id>/public          declare where it is reached       write
//! nodes/<id>/name            give it another name              write
//! history                    the runs of the control plane     read
//! history/run                a run begins                      the program alone
//! history/accept             the store was put back on purpose write, sudo
//! renew, watch, leave        a node, for itself                client certificate
//! ```
//!
//! A node joins through the auth method `join`, which calls [`enrol()`]. Membership is a lease: when it
//! ends, by time or by anybody's revoking it, the node is off the view in the same commit. Keys of a
//! node that was removed make no node again.

mod authority;
mod claims;
mod enrol;
mod feed;
mod history;
mod node;
mod renew;
mod routes;
mod stored;
mod view;

use bastide_api::{ClusterRecord, EntryKey, NodeId, NodeRecord};
use serde_json::json;

use crate::core::engine::{Call, Context, Engine};
use crate::core::leases::{Lease, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Reply, Stream};
use crate::core::request::{Identity, Operation};

use claims::Keys;

pub use authority::{CERTIFICATE_LIFE, is_controller, pin, signer, view_signer};
pub use claims::{check_name_is_free, node_named};
pub use enrol::{Admission, Applicant, enrol};
pub use feed::{Cursor, Feed};
pub use view::{
    MOUNT, entries, entry, entry_of, list as list_entries, publish, read as read_entry, withdraw,
};

/// The engine.
pub struct Mesh;

impl Engine for Mesh {
    fn kind(&self) -> &'static str {
        "mesh"
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (Update, ["create"]) => authority::create(ctx, call),
            (Read, ["ca"]) => authority::read(ctx),
            (Update, ["controllers", id, "certificate"]) => {
                authority::certify_controller(ctx, call, node_id(id)?)
            }
            (List, ["nodes"]) => node::list(ctx),
            (Read, ["nodes", id]) => node::read(ctx, node_id(id)?),
            (Delete, ["nodes", id]) => node::remove(ctx, node_id(id)?),
            (Create | Update, ["nodes", id, "routes"]) => routes::approve(ctx, call, node_id(id)?),
            (Create | Update, ["nodes", id, "public"]) => node::declare(ctx, call, node_id(id)?),
            (Create | Update, ["nodes", id, "name"]) => node::rename(ctx, call, node_id(id)?),
            (Read, ["history"]) => history::read(ctx),
            (Update, ["history", "run"]) => history::begin_run(ctx),
            (Update, ["history", "accept"]) => history::accept(ctx),
            (Update, ["leave"]) => node::leave(ctx),
            (Update, ["renew"]) => renew::renew(ctx, call),
            (Read, ["watch"]) => watch(ctx, call),
            (_, ["history"] | ["history", "run" | "accept"]) => Err(Refusal::UnsupportedOperation),
            (_, ["create" | "ca" | "nodes" | "renew" | "watch" | "leave"] | ["nodes", _])
            | (_, ["nodes", _, "routes" | "public" | "name"])
            | (_, ["controllers", _, "certificate"]) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    fn needs_sudo(&self, call: &Call<'_>) -> bool {
        call.path == "history/accept"
    }

    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        match &lease.subject {
            Subject::Granted(data) => {
                let id = data.get("node").and_then(|id| id.as_str());
                let id = id.and_then(|id| id.parse().ok());
                let id = id.ok_or_else(|| Refusal::corrupt("lease", "it names no node"))?;
                // A lease that has not ended was revoked by somebody, who wants the node gone.
                let keys = if ctx.now() < lease.expires {
                    Keys::Retire
                } else {
                    Keys::Free
                };
                node::forget(ctx, id, keys)
            }
            Subject::Token(_) => Ok(()),
        }
    }

    fn admits(&self, ctx: &mut Context<'_, '_>, machine: Identity) -> Result<bool, Refusal> {
        let record = view::read::<NodeRecord>(ctx, &EntryKey::Node(machine.node()))?;
        let Some(record) = record else {
            // Only who was removed is told so: a store from a backup may just not know a node yet.
            return if node::was_removed(ctx, machine.node())? {
                Err(Refusal::NoMember)
            } else {
                Ok(false)
            };
        };
        match machine {
            Identity::Node(_) | Identity::Controller(_) => Ok(ctx.now() < record.expires),
            Identity::Ended(node) => renew::is_member(ctx, node),
        }
    }
}

/// Returns the cluster, once there is one.
pub fn cluster(ctx: &mut Context<'_, '_>) -> Result<ClusterRecord, Refusal> {
    view::read(ctx, &EntryKey::Cluster)?
        .ok_or_else(|| Refusal::Unavailable("this server has begun no cluster".to_owned()))
}

/// Parses the id of a node, spelled as it is printed and no other way.
fn node_id(text: &str) -> Result<NodeId, Refusal> {
    let id: Option<NodeId> = text.parse().ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| Refusal::invalid("this is not a node's id"))
}

fn watch(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    if ctx.caller.machine().is_none() {
        return Err(Refusal::Forbidden("only nodes can watch".to_owned()));
    }
    cluster(ctx)?;
    let from = call.fields().count("from")?.filter(|from| *from != 0);
    let known = call.fields().count("known")?.map(bastide_api::Revision);
    let watch = Stream::Watch {
        from: from.map(bastide_api::Revision),
        known: known.zip(call.fields().text("run")?),
        log: call.fields().count("log")?,
    };
    Ok(Answer {
        quiet: true,
        ..Reply::Stream(watch).into()
    })
}

/// Returns a record as the fields of an answer.
fn shown(record: &impl serde::Serialize) -> Answer {
    Answer::json(json!(record))
}

#[cfg(test)]
pub(crate) mod tests;
