//! Certificates: authorities of the operator's own, roles, issuing, revoking, lists, OCSP.
//!
//! ```text
//!   issue/<role> ─> role, issuer (remembered, parsed) ─> names and time judged ─> key, certificate
//!   revoke ─> rev/<group>/<serial>, a new mark ─> tend: the mark is new ─> list signed, stored
//!   crl, ocsp, ca ─> everybody
//! ```
//!
//! X.509 itself is made and read in `bastide-pki`; here is decided what it says.

mod authority;
mod config;
mod constraint;
mod crl;
mod fetch;
mod issue;
mod issuers;
mod keys;
mod lifetime;
mod memo;
mod names;
pub(crate) mod ocsp;
mod revoke;
mod role;
mod shown;
mod stored;
mod subject;
mod tidy;

use authority::Source;
use crl::Kind;
use memo::Memory;
use role::Role;
use tidy::Cleaned;

use crate::core::engine::{Call, Context, Engine};
use crate::core::leases::{Lease, Subject as Leased};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Longest name of a role.
const ROLE_NAME_MAX: usize = 256;

/// The engine `pki`.
#[derive(Default)]
pub struct Pki {
    memory: Memory,
}

fn is_write(operation: Operation) -> bool {
    matches!(operation, Operation::Create | Operation::Update)
}

impl Engine for Pki {
    fn kind(&self) -> &'static str {
        "pki"
    }

    /// What whoever checks certificates needs, and nothing else: reading, one list, and asking OCSP.
    fn is_open(&self, call: &Call<'_>) -> bool {
        let segments = call.segments();
        match call.operation {
            Operation::Read => matches!(
                segments.as_slice(),
                ["ca" | "ca_chain" | "crl"]
                    | ["ca", "pem"]
                    | ["crl", "pem" | "delta"]
                    | ["crl", "delta", "pem"]
                    | ["cert", ..]
                    | ["issuer", _, "json" | "der" | "pem" | "crl"]
                    | ["issuer", _, "crl", "der" | "pem" | "delta"]
                    | ["issuer", _, "crl", "delta", "der" | "pem"]
                    | ["ocsp", ..]
            ),
            Operation::List => matches!(segments.as_slice(), ["issuers"]),
            Operation::Create | Operation::Update => matches!(segments.as_slice(), ["ocsp"]),
            Operation::Patch | Operation::Delete => false,
        }
    }

    fn needs_sudo(&self, call: &Call<'_>) -> bool {
        match call.segments().as_slice() {
            ["root"] => call.operation == Operation::Delete,
            ["root", "sign-self-issued"] | ["issuer", _, "sign-self-issued"] => true,
            _ => false,
        }
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        let segments = call.segments();
        match segments.as_slice() {
            ["issue", role] if is_write(call.operation) => self.issue(ctx, call, None, role),
            ["sign", role] if is_write(call.operation) => self.sign(ctx, call, None, role),
            ["sign-verbatim"] if is_write(call.operation) => {
                self.sign_verbatim(ctx, call, named_issuer(call)?.as_deref(), None)
            }
            // The role says by whom: who may name another issuer has that issuer's own path.
            ["sign-verbatim", role] if is_write(call.operation) => {
                self.sign_verbatim(ctx, call, None, Some(role))
            }
            ["roles"] if call.operation == Operation::List => Answer::keys(ctx.list("role/")?),
            ["roles", name @ ..] if !name.is_empty() => self.roles(ctx, call, &name.join("/")),
            ["ocsp", ..] if call.operation == Operation::Read || is_write(call.operation) => {
                Ok(self.ocsp(ctx, call))
            }
            ["certs"] if call.operation == Operation::List => Self::list_certificates(ctx),
            ["certs", "revoked"] if call.operation == Operation::List => Self::list_revoked(ctx),
            ["revoke"] if is_write(call.operation) => self.revoke_certificate(ctx, call, false),
            ["revoke-with-key"] if is_write(call.operation) => {
                self.revoke_certificate(ctx, call, true)
            }
            ["crl", "rotate"] if call.operation == Operation::Read => self.rotate(ctx, Kind::Whole),
            ["crl", "rotate-delta"] if call.operation == Operation::Read => {
                self.rotate(ctx, Kind::Delta)
            }
            ["tidy"] if is_write(call.operation) => Self::tidy(ctx, call),
            ["tidy-status"] if call.operation == Operation::Read => Self::tidy_status(ctx, false),
            ["tidy-cancel"] if is_write(call.operation) => Self::tidy_status(ctx, true),
            ["config", which] => self
                .configure(ctx, call, which)
                .unwrap_or_else(|| Err(unserved(&segments))),
            _ if call.operation == Operation::Read => self
                .fetch(ctx, call)
                .unwrap_or_else(|| self.authorities(ctx, call, &segments)),
            _ => self.authorities(ctx, call, &segments),
        }
    }

    /// The certificate that a lease stands for is revoked, if it is known.
    fn revoke(&self, ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
        let Leased::Granted(data) = &lease.subject else {
            return Ok(());
        };
        let Some(serial) = revoke::leased_serial(data) else {
            return Ok(());
        };
        if let Some(cert) = revoke::certificate(ctx, &serial)? {
            Self::revoke_now(ctx, &serial, &cert)?;
        }
        Ok(())
    }

    fn tends(&self) -> bool {
        true
    }

    fn tend(&self, ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
        let mark = ctx.draft.mark();
        let lists = self.tend_lists(ctx);
        if lists.is_err() {
            ctx.draft.return_to(mark);
        }
        // A list that is too long is made short by cleaning: it must not keep cleaning from being done.
        match (self.tend_tidy(ctx)?, lists) {
            (Cleaned::Piece, _) => Ok(true),
            (Cleaned::Last, _) => Ok(false),
            (Cleaned::Nothing, lists) => lists.map(|()| false),
        }
    }
}

/// The issuer that the fields name.
fn named_issuer(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    Ok(call
        .fields()
        .text("issuer_ref")?
        .filter(|text| !text.is_empty()))
}

/// Whether a path is known, though not for this operation.
fn unserved(segments: &[&str]) -> Refusal {
    let known = [
        "root",
        "issue",
        "sign",
        "sign-verbatim",
        "roles",
        "certs",
        "cert",
        "revoke",
        "revoke-with-key",
        "tidy",
        "tidy-status",
        "tidy-cancel",
        "keys",
        "key",
        "issuers",
        "issuer",
        "intermediate",
    ];
    match segments.first() {
        Some(first) if known.contains(first) => Refusal::UnsupportedOperation,
        _ => Refusal::UnsupportedPath,
    }
}

impl Pki {
    fn roles(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let at = format!("role/{name}");
        match call.operation {
            Operation::Read => match self.memory.role(ctx, name)? {
                Some(compiled) => Ok(Answer::data(compiled.role.shown())),
                None => Err(Refusal::Absent),
            },
            Operation::Create | Operation::Update | Operation::Patch => {
                if name.contains('/') || ROLE_NAME_MAX < name.len() {
                    return Err(Refusal::UnsupportedPath);
                }
                // A write says all of a role; a patch some of it.
                let mut role = if call.operation == Operation::Patch {
                    let found: Option<Role> = ctx.load(&at)?;
                    found.ok_or(Refusal::Absent)?
                } else {
                    Role::default()
                };
                role.update(call.fields(), ctx.mount.ttl_max())?;
                ctx.save(&at, &role)?;
                let issuer = self.memory.issuer_id(ctx, &role.issuer_ref);
                let answer = Answer::data(role.shown());
                Ok(match issuer {
                    Err(Refusal::Failed(_)) if role.issuer_ref != "default" => {
                        answer.warn(format!(
                            "Issuing Certificate was set to {} but no issuing certificate with \
                             this name exists (yet).",
                            role.issuer_ref
                        ))
                    }
                    Ok(_) | Err(_) => answer,
                })
            }
            Operation::Delete => {
                ctx.delete(&at);
                Ok(Answer::done())
            }
            Operation::List => Err(Refusal::UnsupportedOperation),
        }
    }

    /// Issuers and keys.
    fn authorities(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        segments: &[&str],
    ) -> Result<Answer, Refusal> {
        let operation = call.operation;
        match (segments, operation) {
            (["root"], Operation::Delete) => Self::delete_root(ctx),
            (["issuers"], Operation::List) => Self::list_issuers(ctx),
            (["keys"], Operation::List) => Self::list_keys(ctx),
            (["issuer", reference], _) => self.one_issuer(ctx, call, reference),
            (["key", reference], _) => Self::one_key(ctx, call, reference),
            (_, Operation::Create | Operation::Update) => self.make(ctx, call, segments),
            _ => Err(unserved(segments)),
        }
    }

    fn make(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        segments: &[&str],
    ) -> Result<Answer, Refusal> {
        let field = |name: &str| call.fields().text(name).map(Option::unwrap_or_default);
        match segments {
            ["root", "generate", source] | ["issuers", "generate", "root", source] => {
                self.generate_root(ctx, call, Source::parse(source)?, false)
            }
            ["root", "rotate", source] => {
                self.generate_root(ctx, call, Source::parse(source)?, true)
            }
            ["root", "replace"] => self.default_issuer(ctx, call, Some("next")),
            ["root", "sign-intermediate"] => {
                self.sign_intermediate(ctx, call, &field("issuer_ref")?)
            }
            ["root", "sign-self-issued"] => self.sign_self_issued(ctx, call, &field("issuer_ref")?),
            ["intermediate", "generate", source]
            | ["issuers", "generate", "intermediate", source] => {
                Self::generate_intermediate(ctx, call, Source::parse(source)?)
            }
            ["intermediate", "cross-sign"] => {
                Self::generate_intermediate(ctx, call, Source::Existing)
            }
            ["intermediate", "set-signed"] => {
                self.import(ctx, &call.fields().required("certificate")?, true)
            }
            ["issuers", "import", "bundle"] => {
                self.import(ctx, &call.fields().required("pem_bundle")?, true)
            }
            ["issuers", "import", "cert"] => {
                self.import(ctx, &call.fields().required("pem_bundle")?, false)
            }
            ["issuer", issuer, "issue", role] => self.issue(ctx, call, Some(issuer), role),
            ["issuer", issuer, "sign", role] => self.sign(ctx, call, Some(issuer), role),
            ["issuer", issuer, "sign-verbatim"] => {
                self.sign_verbatim(ctx, call, Some(issuer), None)
            }
            ["issuer", issuer, "sign-verbatim", role] => {
                self.sign_verbatim(ctx, call, Some(issuer), Some(role))
            }
            ["issuer", issuer, "sign-intermediate"] => self.sign_intermediate(ctx, call, issuer),
            ["issuer", issuer, "sign-self-issued"] => self.sign_self_issued(ctx, call, issuer),
            ["issuer", issuer, "revoke"] => self.revoke_issuer(ctx, issuer),
            ["keys", "generate", source] => Self::generate_key(ctx, call, Source::parse(source)?),
            ["keys", "import"] => Self::import_key(ctx, call),
            _ => Err(unserved(segments)),
        }
    }
}

#[cfg(test)]
mod tests;
