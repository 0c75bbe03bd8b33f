//! Certificates for users and hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use bastide_api::NodeRecord;
use bastide_pki::ssh::{
    Certificate, CertificateKind, KeyKind, OPTIONS_MAX, PRINCIPALS_MAX, PublicKey, RsaHash,
    SshSigner,
};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::authority::{self, Ready};
use super::role::{self, CaRole, Role};
use super::template::{self, Item, Templated, split};
use super::{node, revoked};
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Longest principal, key id, and value of an option, in bytes.
const PRINCIPAL_BYTES_MAX: usize = 255;
const KEY_ID_BYTES_MAX: usize = 512;
const OPTION_BYTES_MAX: usize = 4096;
/// What the key id is where a role says nothing: Vault's.
const KEY_ID: &str = "vault-{{token_display_name}}-{{public_key_hash}}";
const KEY_ID_NAMELESS: &str = "vault-{{public_key_hash}}";

pub fn sign(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    ready: &Ready,
    name: &str,
) -> Result<Answer, Refusal> {
    let role = ca_role(ctx, name)?;
    let text = call.fields().text("public_key")?.unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::invalid("missing public_key"));
    }
    let subject = PublicKey::parse(&text).map_err(|error| {
        Refusal::invalid(format!("failed to parse public_key as SSH key: it {error}"))
    })?;
    Ok(Answer::data(certify(
        ctx, call, ready, name, &role, &subject,
    )?))
}

pub fn issue(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    ready: &Ready,
    name: &str,
) -> Result<Answer, Refusal> {
    let role = ca_role(ctx, name)?;
    let fields = call.fields();
    let kind = fields.text("key_type")?.unwrap_or_else(|| "rsa".to_owned());
    let bits = match (kind.as_str(), fields.count("key_bits")?.unwrap_or(0)) {
        ("rsa", 0) => 2048,
        ("rsa" | "ec" | "ed25519", bits) => bits,
        _ => return Err(Refusal::invalid("key_type is not rsa, ec or ed25519")),
    };
    let key = authority::generated(ctx, &kind, bits)?;
    let failed = |error| Refusal::Internal(format!("the key {error}"));
    let subject = key.public().map_err(failed)?;
    let mut data = certify(ctx, call, ready, name, &role, &subject)?;
    let check = u32::from_be_bytes(ctx.entropy().bytes());
    let private = key.to_openssh("", check).map_err(failed)?;
    data.insert("private_key".into(), private.expose().as_str().into());
    data.insert("private_key_type".into(), kind.into());
    Ok(Answer::data(data))
}

fn ca_role(ctx: &mut Context<'_, '_>, name: &str) -> Result<CaRole, Refusal> {
    match role::find(ctx, name)? {
        Some(Role::Ca(role)) => Ok(*role),
        Some(Role::Otp(_)) => Err(Refusal::invalid(
            "role key type 'otp' not allowed to sign keys",
        )),
        None => Err(Refusal::invalid(format!("Unknown role: {name}"))),
    }
}

/// Certifies `subject` as the request asks and the role allows.
fn certify(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    ready: &Ready,
    name: &str,
    role: &CaRole,
    subject: &PublicKey,
) -> Result<Map<String, Value>, Refusal> {
    let fields = call.fields();
    check_length(role, subject)?;
    let kind = kind(role, fields)?;
    let host = match fields.text("node")?.filter(|text| !text.is_empty()) {
        None => None,
        Some(_) if kind == CertificateKind::Host => {
            return Err(Refusal::invalid("`node` is for certificates of users"));
        }
        Some(text) => Some(node::named(ctx, &text)?),
    };
    let mut principals = principals(ctx, role, kind, fields)?;
    if let Some(host) = &host {
        for principal in &mut principals {
            *principal = at_node(principal, host);
        }
    }
    let ttl = ttl(ctx, role, fields)?;
    let now = ctx.now().as_millis() / 1000;
    let says = Certificate {
        serial: serial(ctx),
        kind,
        key_id: key_id(ctx, role, name, fields, subject)?,
        principals,
        valid_after: now.saturating_sub(role.not_before_duration),
        valid_before: now + ttl.as_secs(),
        critical_options: critical_options(role, fields)?,
        extensions: extensions(ctx, role, kind, fields)?,
    };
    check_options(&says.critical_options, &says.extensions)?;
    let signer = ready.signer(ctx)?;
    let hash = match role.algorithm_signer.as_str() {
        "rsa-sha2-256" => RsaHash::Sha256,
        _ => RsaHash::Sha512,
    };
    let line = made(ctx, &says, subject, &signer, hash)?;
    let mut data = Map::new();
    data.insert("serial_number".into(), format!("{:x}", says.serial).into());
    data.insert("signed_key".into(), format!("{line}\n").into());
    if let Some(host) = host {
        data.insert("node".into(), json!(host.name));
        data.insert("node_id".into(), json!(host.id));
        data.insert("address".into(), json!(host.address));
        data.insert("host_authority".into(), signer.public().to_line().into());
    }
    Ok(data)
}

/// Returns the principal that stands for a user at one node.
pub fn at_node(user: &str, host: &NodeRecord) -> String {
    format!("{user}@{}", host.id)
}

/// Signs, unless the key is revoked.
pub fn made(
    ctx: &mut Context<'_, '_>,
    says: &Certificate,
    subject: &PublicKey,
    signer: &SshSigner,
    hash: RsaHash,
) -> Result<String, Refusal> {
    if revoked::is_key_revoked(ctx, subject)? {
        return Err(Refusal::invalid("this key is revoked"));
    }
    let nonce = ctx.entropy().bytes();
    says.sign(subject, signer, hash, &nonce)
        .map_err(|error| Refusal::invalid(error.to_string()))
}

/// Draws a certificate's number. 0 is none in a revocation list.
pub fn serial(ctx: &mut Context<'_, '_>) -> u64 {
    loop {
        let serial = u64::from_be_bytes(ctx.entropy().bytes());
        if serial != 0 {
            return serial;
        }
    }
}

fn check_length(role: &CaRole, subject: &PublicKey) -> Result<(), Refusal> {
    if role.allowed_user_key_lengths.is_empty() {
        return Ok(());
    }
    let kind = subject.kind();
    let families: &[&str] = match kind {
        KeyKind::Rsa => &["rsa"],
        KeyKind::Ecdsa256 | KeyKind::Ecdsa384 | KeyKind::Ecdsa521 => &["ec", "ecdsa"],
        KeyKind::Ed25519 => &["ed25519"],
        KeyKind::SkEcdsa256 => &["ecdsa-sk"],
        KeyKind::SkEd25519 => &["ed25519-sk"],
    };
    let names = families.iter().copied().chain([kind.name()]);
    let allowed: Vec<&Vec<u64>> = names
        .filter_map(|name| role.allowed_user_key_lengths.get(name))
        .collect();
    let unmet = "public_key failed to meet the key requirements";
    if allowed.is_empty() {
        return Err(Refusal::invalid(format!(
            "{unmet}: key of type {} is not allowed",
            kind.name()
        )));
    }
    let bits = subject.bits() as u64;
    // Lengths say nothing of Ed25519: Vault's documentation has 0 there.
    let fixed = matches!(kind, KeyKind::Ed25519 | KeyKind::SkEd25519);
    if !fixed && !allowed.iter().any(|lengths| lengths.contains(&bits)) {
        return Err(Refusal::invalid(format!(
            "{unmet}: key is of an invalid size: {bits}"
        )));
    }
    Ok(())
}

fn kind(role: &CaRole, fields: Fields<'_>) -> Result<CertificateKind, Refusal> {
    let text = fields.text("cert_type")?.unwrap_or_default();
    let (kind, allowed) = match text.as_str() {
        "" | "user" => (CertificateKind::User, role.allow_user_certificates),
        "host" => (CertificateKind::Host, role.allow_host_certificates),
        _ => {
            return Err(Refusal::invalid(
                "cert_type must be either 'user' or 'host'",
            ));
        }
    };
    if !allowed {
        let text = if text.is_empty() { "user" } else { &text };
        return Err(Refusal::invalid(format!(
            "cert_type '{text}' is not allowed by role"
        )));
    }
    Ok(kind)
}

fn principals(
    ctx: &Context<'_, '_>,
    role: &CaRole,
    kind: CertificateKind,
    fields: Fields<'_>,
) -> Result<Vec<String>, Refusal> {
    let asked = fields.list("valid_principals")?;
    let mut principals: Vec<String> = match (asked, kind) {
        (Some(asked), _) => asked,
        (None, CertificateKind::Host) => Vec::new(),
        (None, CertificateKind::User) if role.default_user_template => {
            let filled = template::of_entity(ctx, &role.default_user);
            vec![filled.ok_or_else(|| {
                Refusal::invalid("template '{{identity.…}}' of default_user could not be filled")
            })?]
        }
        (None, CertificateKind::User) => split(&role.default_user).map(str::to_owned).collect(),
    };
    let mut seen = std::collections::BTreeSet::new();
    principals.retain(|principal| !principal.is_empty() && seen.insert(principal.clone()));
    // CVE-2024-7594: a certificate without principals is good for every user.
    if principals.is_empty() {
        return Err(Refusal::invalid(
            "empty valid principals not allowed by role",
        ));
    }
    if PRINCIPALS_MAX < principals.len() {
        return Err(Refusal::invalid(format!(
            "a certificate has at most {PRINCIPALS_MAX} principals"
        )));
    }
    let (list, templated) = match kind {
        CertificateKind::User => (&role.allowed_users, role.allowed_users_template),
        CertificateKind::Host => (&role.allowed_domains, role.allowed_domains_template),
    };
    let allowed = template::items(ctx, list, Templated::from(templated));
    if allowed.is_empty() {
        return Err(Refusal::invalid(
            "role is not configured to allow any principals",
        ));
    }
    for principal in &principals {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != ',';
        let well = principal.len() <= PRINCIPAL_BYTES_MAX && principal.chars().all(plain);
        let allowed = allowed.iter().any(|item| match (item, kind) {
            (Item::Everything, _) => true,
            (Item::Exactly(user), CertificateKind::User) => user == principal,
            (Item::Exactly(domain), CertificateKind::Host) => {
                let below = principal
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| 1 < rest.len() && rest.ends_with('.'));
                (role.allow_bare_domains && domain == principal) || (role.allow_subdomains && below)
            }
        });
        if !well || !allowed {
            return Err(Refusal::invalid(format!(
                "{principal:.80} is not a valid value for valid_principals"
            )));
        }
    }
    Ok(principals)
}

fn ttl(ctx: &Context<'_, '_>, role: &CaRole, fields: Fields<'_>) -> Result<Duration, Refusal> {
    let mount_max = ctx.mount.ttl_max();
    let longest = match role.max_ttl {
        0 => mount_max,
        secs => Duration::from_secs(secs).min(mount_max),
    };
    let asked = fields.duration("ttl")?;
    // Less than a second is no time at all, and none is not *for ever* (CVE-2021-32923).
    match asked.filter(|asked| !asked.is_zero()) {
        Some(asked) if asked < Duration::from_secs(1) => {
            Err(Refusal::invalid("ttl is less than a second"))
        }
        Some(asked) if longest < asked => Err(Refusal::invalid(format!(
            "ttl is larger than maximum allowed {}",
            longest.as_secs()
        ))),
        Some(asked) => Ok(asked),
        None => Ok(match role.ttl {
            0 => ctx.mount.ttl_default().min(longest),
            secs => Duration::from_secs(secs).min(longest),
        }),
    }
}

fn key_id(
    ctx: &Context<'_, '_>,
    role: &CaRole,
    role_name: &str,
    fields: Fields<'_>,
    subject: &PublicKey,
) -> Result<String, Refusal> {
    let id = match fields.text("key_id")?.filter(|text| !text.is_empty()) {
        Some(_) if !role.allow_user_key_ids => {
            return Err(Refusal::invalid("setting key_id is not allowed by role"));
        }
        Some(id) => id,
        None => {
            let display = ctx.caller.token().map(|token| token.display_name.as_str());
            let display = display.unwrap_or_default();
            let hash = subject.sha256_hex();
            let format = match role.key_id_format.as_str() {
                "" if display.is_empty() => KEY_ID_NAMELESS,
                "" => KEY_ID,
                format => format,
            };
            let filled = template::fill(format, |name| match name {
                "token_display_name" => Some(display),
                "role_name" => Some(role_name),
                "public_key_hash" => Some(&hash),
                _ => ctx.entity.and_then(|entity| entity.value(name)),
            });
            filled.ok_or_else(|| Refusal::invalid("key_id_format could not be filled"))?
        }
    };
    if KEY_ID_BYTES_MAX < id.len() || id.chars().any(char::is_control) {
        return Err(Refusal::invalid(
            "key_id is too long, or has control characters",
        ));
    }
    Ok(id)
}

fn asked_options(fields: Fields<'_>, name: &str) -> Result<BTreeMap<String, String>, Refusal> {
    Ok(fields.pairs(name)?.unwrap_or_default())
}

fn outside<'o>(options: &'o BTreeMap<String, String>, allowed: &str) -> Vec<&'o str> {
    options
        .keys()
        .map(String::as_str)
        .filter(|option| !split(allowed).any(|item| item == *option))
        .collect()
}

fn critical_options(
    role: &CaRole,
    fields: Fields<'_>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let asked = asked_options(fields, "critical_options")?;
    if asked.is_empty() {
        return Ok(role.default_critical_options.clone());
    }
    if !role.allowed_critical_options.is_empty() {
        let refused = outside(&asked, &role.allowed_critical_options);
        if !refused.is_empty() {
            return Err(Refusal::invalid(format!(
                "critical options not on allowed list: [{}]",
                refused.join(" ")
            )));
        }
    }
    // What the role demands of everybody is not taken off by asking for something else, nor changed,
    // unless the role says by name that it may be.
    let mut options = role.default_critical_options.clone();
    for (name, value) in asked {
        let is_named = split(&role.allowed_critical_options).any(|item| item == name);
        let demanded = options.get(&name).is_some_and(|own| *own != value);
        if demanded && !is_named {
            return Err(Refusal::invalid(format!(
                "critical option {name:.80} is the role's own: to have requests change it, the role \
                 names it in allowed_critical_options"
            )));
        }
        options.insert(name, value);
    }
    Ok(options)
}

fn extensions(
    ctx: &Context<'_, '_>,
    role: &CaRole,
    kind: CertificateKind,
    fields: Fields<'_>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let asked = asked_options(fields, "extensions")?;
    if !asked.is_empty() {
        if role.allowed_extensions.trim() != "*" {
            let refused = outside(&asked, &role.allowed_extensions);
            if !refused.is_empty() {
                return Err(Refusal::invalid(format!(
                    "extensions [{}] are not on allowed list",
                    refused.join(" ")
                )));
            }
        }
        return Ok(asked);
    }
    // No extension is defined for hosts.
    if kind == CertificateKind::Host {
        return Ok(BTreeMap::new());
    }
    if !role.default_extensions_template {
        return Ok(role.default_extensions.clone());
    }
    let filled = role.default_extensions.iter().map(|(name, value)| {
        let value = template::of_entity(ctx, value)
            .ok_or_else(|| Refusal::invalid(format!("extension {name} could not be filled")))?;
        Ok((name.clone(), value))
    });
    filled.collect()
}

/// Checks options as `sshd` will: what it cannot read makes the certificate useless, or worse.
pub fn check_options(
    critical: &BTreeMap<String, String>,
    extensions: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    for options in [critical, extensions] {
        if OPTIONS_MAX < options.len() {
            return Err(Refusal::invalid(format!(
                "a certificate has at most {OPTIONS_MAX} options"
            )));
        }
        for (name, value) in options {
            let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
            let named = !name.is_empty() && name.len() <= 128 && name.bytes().all(plain);
            if !named || OPTION_BYTES_MAX < value.len() || value.contains(['\0', '\n']) {
                return Err(Refusal::invalid("an option's name or value is not valid"));
            }
        }
    }
    if let Some(list) = critical.get("source-address") {
        for item in list.split(',') {
            let network = item.parse::<IpNet>().ok().filter(|it| it.trunc() == *it);
            let alone = item.parse::<std::net::IpAddr>().is_ok();
            if network.is_none() && !alone {
                return Err(Refusal::invalid(format!(
                    "source-address `{item:.60}` is no network: write it without host bits, such \
                     as 10.0.0.0/8"
                )));
            }
        }
    }
    if critical.get("force-command").is_some_and(String::is_empty) {
        return Err(Refusal::invalid("force-command is empty"));
    }
    Ok(())
}
