//! The engine `ssh`: certificates for users and hosts, one-time passwords, and what is revoked.
//!
//! ```text
//! config/ca                  the authority's key               write, read, delete
//! public_key                 its public half, as text          read, without a token
//! roles, roles/<role>        list, read, write, delete
//! sign/<role>                certify a public key              write
//! issue/<role>               make a key and certify it         write
//! creds/<role>               a one-time password               write
//! verify                     spend one                         write, see `otp`
//! lookup                     roles that serve an address       write
//! config/zeroaddress         roles that serve every address    write, read, delete
//! config/otp                 how long one is good              write, read
//! revoke                     by number, key id or key          write
//! revoked, revoked/<id>      list, delete
//! krl                        the revocation list               read
//! node/host, node/verify     a node, for itself                client certificate
//! ```
//!
//! Paths and fields are Vault's; `config/otp`, what is revoked, and what nodes ask are ours. A request
//! that names a `node` of this cluster is bound to it: the certificate by its principals, which are
//! `user@node`, and the password by the node's identity instead of its address.

mod authority;
mod host;
mod node;
mod otp;
mod reach;
mod revoked;
mod role;
mod sign;
mod template;

use crate::core::engine::{Call, Context, Engine};
use crate::core::leases::{Lease, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// The engine.
#[derive(Default)]
pub struct Ssh {
    ready: authority::Ready,
}

impl Engine for Ssh {
    fn kind(&self) -> &'static str {
        "ssh"
    }

    fn is_open(&self, call: &Call<'_>) -> bool {
        matches!(
            (call.operation, call.path),
            (Operation::Update, "verify") | (Operation::Read, "public_key")
        )
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        let ready = &self.ready;
        match (call.operation, &call.segments()[..]) {
            (Update | Create, ["config", "ca"]) => authority::write(ctx, call),
            (Read, ["config", "ca"]) => authority::read(ctx),
            (Delete, ["config", "ca"]) => Ok(authority::delete(ctx)),
            (Read, ["public_key"]) => authority::public_key(ctx),
            (List, ["roles"]) => role::list(ctx),
            (Update | Create, ["roles", name]) => role::write(ctx, call, name),
            (Read, ["roles", name]) => role::read(ctx, name),
            (Delete, ["roles", name]) => role::delete(ctx, name),
            (Update | Create, ["sign", name]) => sign::sign(ctx, call, ready, name),
            (Update | Create, ["issue", name]) => sign::issue(ctx, call, ready, name),
            (Update | Create, ["creds", name]) => otp::grant(ctx, call, name),
            (Update | Create, ["verify"]) => otp::verify(ctx, call),
            (Update | Create, ["lookup"]) => reach::lookup(ctx, call),
            (Update | Create, ["config", "zeroaddress"]) => reach::write_zero(ctx, call),
            (Read, ["config", "zeroaddress"]) => reach::read_zero(ctx),
            (Delete, ["config", "zeroaddress"]) => Ok(reach::delete_zero(ctx)),
            (Update | Create, ["config", "otp"]) => otp::configure(ctx, call),
            (Read, ["config", "otp"]) => otp::read_config(ctx),
            (Update | Create, ["revoke"]) => revoked::add(ctx, call),
            (List, ["revoked"]) => revoked::list(ctx),
            (Delete, ["revoked", id]) => revoked::remove(ctx, id),
            (Read, ["krl"]) => revoked::krl(ctx),
            (Update | Create, ["node", "host"]) => host::certify(ctx, call, ready),
            (Update | Create, ["node", "verify"]) => host::verify(ctx, call),
            (_, ["config", "ca" | "zeroaddress" | "otp"])
            | (_, ["roles" | "sign" | "issue" | "creds" | "revoked", _])
            | (_, ["node", "host" | "verify"])
            | (_, ["public_key" | "roles" | "verify" | "lookup" | "revoke" | "revoked" | "krl"]) => {
                Err(Refusal::UnsupportedOperation)
            }
            _ => Err(Refusal::UnsupportedPath),
        }
    }

    /// A password's lease ends: so does the password.
    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        if let Subject::Granted(data) = &lease.subject
            && let Some(at) = data.get("otp").and_then(|at| at.as_str())
        {
            ctx.delete(at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
