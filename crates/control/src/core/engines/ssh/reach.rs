//! At which addresses a role's one-time passwords are good.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::json;

use super::role::{self, OtpRole, Role};
use super::template::split;
use crate::core::cidrs;
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Where it stands which roles serve every address.
const ZERO: &str = "zeroaddress";

/// Parses networks with commas; an address is a network of its own. The error is what is none.
pub fn networks(list: &str) -> Result<Vec<IpNet>, String> {
    split(list)
        .map(|item| cidrs::parse(item).ok_or_else(|| item.to_owned()))
        .collect()
}

/// Parses the address of a host.
pub fn address(text: &str) -> Result<IpAddr, Refusal> {
    let parsed: Option<IpAddr> = text.parse().ok();
    // An IPv4 address in IPv6's form is the IPv4 address: it has one form.
    let parsed = parsed.map(|address| address.to_canonical());
    parsed.ok_or_else(|| Refusal::invalid(format!("Invalid IP \"{text:.80}\"")))
}

fn zero(ctx: &mut Context<'_, '_>) -> Result<BTreeSet<String>, Refusal> {
    Ok(ctx.load(ZERO)?.unwrap_or_default())
}

/// Checks that a role serves an address.
pub fn check(
    ctx: &mut Context<'_, '_>,
    name: &str,
    role: &OtpRole,
    address: IpAddr,
) -> Result<(), Refusal> {
    if serves(role, address) || zero(ctx)?.contains(name) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "Error validating IP: IP does not belong to role",
    ))
}

fn serves(role: &OtpRole, address: IpAddr) -> bool {
    let within = |list: &str| {
        let networks = networks(list).unwrap_or_default();
        networks.iter().any(|network| network.contains(&address))
    };
    within(&role.cidr_list) && !within(&role.exclude_cidr_list)
}

pub fn lookup(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let text = call.fields().text("ip")?.unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::invalid("Missing ip"));
    }
    let address = address(&text)?;
    let zero = zero(ctx)?;
    let roles: Vec<String> = role::all_otp(ctx)?
        .into_iter()
        .filter(|(name, role)| zero.contains(name) || serves(role, address))
        .map(|(name, _)| name)
        .collect();
    Ok(Answer::json(json!({ "roles": roles })))
}

pub fn write_zero(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let names = call.fields().list("roles")?.unwrap_or_default();
    if names.is_empty() {
        return Err(Refusal::invalid("Missing roles"));
    }
    for name in &names {
        match role::find(ctx, name)? {
            Some(Role::Otp(_)) => {}
            _ => {
                return Err(Refusal::invalid(format!(
                    "Role \"{name:.80}\" does not exist, or does not give one-time passwords"
                )));
            }
        }
    }
    ctx.save(ZERO, &names.into_iter().collect::<BTreeSet<_>>())?;
    Ok(Answer::done())
}

pub fn read_zero(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let roles: Option<BTreeSet<String>> = ctx.load(ZERO)?;
    let roles = roles.ok_or(Refusal::Absent)?;
    Ok(Answer::json(json!({ "roles": roles })))
}

pub fn delete_zero(ctx: &mut Context<'_, '_>) -> Answer {
    ctx.delete(ZERO);
    Answer::done()
}

/// A role is gone: one that gets its name later does not serve every address.
pub fn forget_role(ctx: &mut Context<'_, '_>, name: &str) -> Result<(), Refusal> {
    let mut roles = zero(ctx)?;
    if roles.remove(name) {
        ctx.save(ZERO, &roles)?;
    }
    Ok(())
}
