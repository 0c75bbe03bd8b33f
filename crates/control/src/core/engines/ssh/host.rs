//! What nodes ask for themselves: certificates for their host keys, what to trust, what is revoked, and
//! whether somebody may log in with a one-time password.

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_pki::ssh::{Certificate, CertificateKind, PublicKey, RsaHash};
use data_encoding::BASE64;
use serde_json::json;

use super::authority::Ready;
use super::{node, otp, revoked, sign};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Most host keys of a node: one of each kind, and some to spare.
const HOST_KEYS_MAX: usize = 8;
/// How long a host's certificate is good. Agents renew it at half.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far back it begins: for clocks that are behind.
const BACK_SECS: u64 = 300;
/// Longest remote host and service that are taken into the record, in bytes.
const WORD_BYTES_MAX: usize = 256;

fn only_nodes() -> Refusal {
    Refusal::Forbidden("only nodes can ask this".to_owned())
}

/// Certifies a node's host keys for its name, id and address, and tells what else its `sshd` needs.
pub fn certify(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    ready: &Ready,
) -> Result<Answer, Refusal> {
    let node = otp::asking(ctx).ok_or_else(only_nodes)?;
    let host = node::record(ctx, node)?.ok_or_else(only_nodes)?;
    let fields = call.fields();
    let keys = fields.list("host_keys")?.unwrap_or_default();
    if HOST_KEYS_MAX < keys.len() {
        return Err(Refusal::invalid(format!(
            "a host has at most {HOST_KEYS_MAX} keys"
        )));
    }
    let signer = ready.signer(ctx)?;
    let now = ctx.now().as_millis() / 1000;
    let valid_before = now + LIFE.as_secs();
    let mut certificates = Vec::with_capacity(keys.len());
    for key in &keys {
        let subject = PublicKey::parse(key)
            .map_err(|error| Refusal::invalid(format!("a host key {error}")))?;
        let says = Certificate {
            serial: sign::serial(ctx),
            kind: CertificateKind::Host,
            key_id: format!("host {} {}", host.name, host.id),
            principals: vec![
                host.name.to_string(),
                host.id.to_string(),
                host.address.to_string(),
            ],
            valid_after: now - BACK_SECS,
            valid_before,
            critical_options: BTreeMap::new(),
            extensions: BTreeMap::new(),
        };
        let made = sign::made(ctx, &says, &subject, &signer, RsaHash::Sha512)?;
        certificates.push(made);
    }
    let known = fields.text("krl_version")?;
    let version = revoked::version(ctx)?;
    let mut data = json!({
        "authority": signer.public().to_line(),
        "name": host.name,
        "id": host.id,
        "certificates": certificates,
        "valid_before": valid_before,
        "krl_version": version.to_string(),
    });
    if known.as_deref() != Some(&version.to_string()) {
        data["krl"] = BASE64.encode(&revoked::encoded(ctx)?).into();
    }
    let mut answer = Answer::json(data);
    // A look for news is no event.
    answer.quiet = keys.is_empty();
    Ok(answer)
}

/// Spends a one-time password for the node that asks, after everything else was compared.
pub fn verify(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let node = otp::asking(ctx).ok_or_else(only_nodes)?;
    let fields = call.fields();
    let otp = fields.required("otp")?;
    let user = fields.required("username")?;
    for word in ["rhost", "service"] {
        let text = fields.text(word)?.unwrap_or_default();
        if WORD_BYTES_MAX < text.len() {
            return Err(Refusal::invalid(format!("{word} is too long")));
        }
    }
    let refused = |record: &'static str| Refusal::Ticket {
        record,
        text: "the one-time password is not good here".to_owned(),
    };
    let Some((at, password)) = otp::find(ctx, &otp)? else {
        return Err(refused("there is no such one-time password"));
    };
    if password.node != Some(node) {
        return Err(refused("the one-time password is for another host"));
    }
    if password.user != user {
        return Err(refused("the one-time password is for another user"));
    }
    otp::still_allowed(ctx, &password)?;
    ctx.delete(&at);
    Ok(Answer::json(json!({
        "username": password.user,
        "ip": password.address,
        "role_name": password.role,
    })))
}
