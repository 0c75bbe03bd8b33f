//! Renewal of what a login granted: the method that made the token is asked whether it still would.

use std::sync::Arc;
use std::time::Duration;

use crate::core::engine::Context;
use crate::core::path::ApiPath;
use crate::core::refusal::Refusal;
use crate::core::tokens::Token;

/// Asks the auth method that made a token about its renewal. Returns for how long a renewal is where
/// nothing else is said, and puts into the token what its role says now.
pub fn judge(ctx: &mut Context<'_, '_>, token: &mut Token) -> Result<Duration, Refusal> {
    let mounts = ctx.draft.mounts()?;
    let path = ApiPath::parse(&token.path).ok();
    let found = path.as_ref().and_then(|path| mounts.route(path));
    // As in Vault: what was made to be short-lived does not become long-lived by a renewal that says
    // nothing.
    let again = token.granted();
    let Some(mount) = found.map(|(mount, _)| Arc::clone(mount)) else {
        return Ok(again.unwrap_or(ctx.mount.ttl_default()));
    };
    let default = mount.ttl_default();
    let mut within = ctx.within(mount.path.as_str())?;
    let engine = Arc::clone(within.engine()?);
    let Some(terms) = engine.renew_login(&mut within, token)? else {
        return Ok(again.unwrap_or(default));
    };
    let ttl_max = mount.ttl_max();
    let ttl_max = terms.ttl_max.map_or(ttl_max, |max| max.min(ttl_max));
    token.ttl_max = ttl_max.as_secs();
    token.period = terms.period.map_or(0, |period| period.as_secs());
    Ok(terms.ttl.unwrap_or(default).min(ttl_max))
}
