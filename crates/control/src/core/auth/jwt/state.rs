//! Logins that wait for their browser: each is its own `state` (RFC 6749, section 10.12), sealed.
//!
//! ```text
//! base64url( epoch | suite | nonce | AES-256-GCM(who began what, until when) )
//! ```
//!
//! Nothing is stored for one: whoever can reach the server may begin logins, and takes no room by it. The
//! key's place holds the mount and its provider, so that a state is good at no other mount, and not
//! after the provider was changed. What the provider is given besides, its nonce and the challenge of
//! PKCE, is made of the state's own number, which nobody else sees.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::{Secret, UnixTime};
use bastide_store::Key;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::Config;
use crate::core::engine::Context;
use crate::core::leases::{Lease, Owner, Subject};
use crate::core::refusal::Refusal;
use crate::core::reply::Grant;
use crate::core::tables;

/// How long a person may take to log in.
pub const TTL: Duration = Duration::from_secs(10 * 60);
/// Longest state, in bytes. It stands in addresses.
pub const STATE_BYTES_MAX: usize = 6 << 10;

/// What is sealed. Names are short, since it goes into addresses.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The format: 1.
    v: u8,
    /// Its number, 128 bits.
    i: String,
    /// The role.
    r: String,
    /// Where the browser goes back to.
    u: String,
    /// The digest of what whoever began it will show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    /// Until when.
    e: UnixTime,
}

/// A login that began.
pub struct Begun(Sealed);

fn place(ctx: &Context<'_, '_>, config: &Config) -> Key {
    let about = json!([config.oidc_discovery_url, config.oidc_client_id]).to_string();
    let digest = digest(&SHA256, about.as_bytes());
    Key::new(
        tables::LOGIN_STATES,
        [ctx.mount.id.0.as_slice(), digest.as_ref()].concat(),
    )
}

fn hashed(text: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

impl Begun {
    /// Begins a login. `client_nonce`: what whoever begins it will show at its end, if anything.
    pub fn new(
        ctx: &mut Context<'_, '_>,
        role: &str,
        redirect: &str,
        client_nonce: Option<&str>,
    ) -> Self {
        Self(Sealed {
            v: 1,
            i: BASE64URL_NOPAD.encode(&ctx.entropy().bytes::<16>()),
            r: role.to_owned(),
            u: redirect.to_owned(),
            n: client_nonce.map(hashed),
            e: ctx.now().plus(TTL),
        })
    }

    /// Seals it: what the browser carries.
    pub fn seal(&self, ctx: &Context<'_, '_>, config: &Config) -> String {
        let plain = serde_json::to_vec(&self.0).expect("what is sealed is plain JSON");
        let barrier = ctx.draft.source().barrier();
        BASE64URL_NOPAD.encode(&barrier.seal(&place(ctx, config), &plain))
    }

    /// Opens a state; `None` if it was not sealed here, for this mount and provider, or is over.
    pub fn open(ctx: &Context<'_, '_>, config: &Config, text: &str) -> Option<Self> {
        if STATE_BYTES_MAX < text.len() {
            return None;
        }
        let body = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let barrier = ctx.draft.source().barrier();
        let plain = barrier.open(&place(ctx, config), &body).ok()?;
        let sealed: Sealed = serde_json::from_slice(plain.expose()).ok()?;
        (sealed.v == 1 && ctx.now() < sealed.e).then_some(Self(sealed))
    }

    /// Returns the role that it is of.
    pub fn role(&self) -> &str {
        &self.0.r
    }

    /// Returns where the browser goes back to.
    pub fn redirect(&self) -> &str {
        &self.0.u
    }

    /// Returns whether whoever ends it is who began it, as far as he said how that shows.
    pub fn is_ended_by(&self, client_nonce: &str) -> bool {
        self.0.n.as_ref().is_none_or(|wanted| {
            let shown = hashed(client_nonce);
            verify_slices_are_equal(wanted.as_bytes(), shown.as_bytes()).is_ok()
        })
    }

    fn derived(&self, ctx: &Context<'_, '_>, purpose: &str) -> String {
        let barrier = ctx.draft.source().barrier();
        BASE64URL_NOPAD.encode(&barrier.digest(purpose, self.0.i.as_bytes()))
    }

    /// Returns what the ID token must repeat (OpenID Connect Core 1.0, section 3.1.2.1).
    pub fn nonce(&self, ctx: &Context<'_, '_>) -> String {
        self.derived(ctx, "oidc-login-nonce")
    }

    /// Returns the proof that a code is for us, of 43 letters (RFC 7636, section 4.1).
    pub fn verifier(&self, ctx: &Context<'_, '_>) -> Secret<String> {
        Secret::new(self.derived(ctx, "oidc-login-verifier"))
    }

    /// Returns what the provider is told of the proof (RFC 7636, section 4.2).
    pub fn challenge(&self, ctx: &Context<'_, '_>) -> String {
        hashed(self.verifier(ctx).expose())
    }

    fn row(&self, ctx: &Context<'_, '_>) -> String {
        let barrier = ctx.draft.source().barrier();
        let digest = barrier.digest("oidc-login-spent", self.0.i.as_bytes());
        format!("spent/{}", HEXLOWER.encode(&digest))
    }

    /// Returns whether it has made a token.
    pub fn is_spent(&self, ctx: &mut Context<'_, '_>) -> Result<bool, Refusal> {
        let row = self.row(ctx);
        Ok(ctx.get(&row)?.is_some())
    }

    /// Notes that it makes a token: of many that try at once, one commits. It is remembered for as long
    /// as it would be good.
    pub fn spend(&self, ctx: &mut Context<'_, '_>) -> Result<(), Refusal> {
        let row = self.row(ctx);
        let left = self.0.e.since(ctx.now()).max(Duration::from_secs(1));
        let grant = Grant {
            ttl: left,
            ttl_max: left,
            renewable: false,
            data: json!({ "row": row }),
        };
        let path = ctx.path.to_owned();
        ctx.grant(&path, grant, Owner::Nobody)?;
        ctx.put(&row, b"{}".to_vec())
    }
}

/// Forgets a login that is over.
pub fn forget(ctx: &mut Context<'_, '_>, lease: &Lease) -> Result<(), Refusal> {
    let row = match &lease.subject {
        Subject::Granted(data) => data["row"].as_str(),
        Subject::Token(_) => None,
    };
    let row = row.filter(|row| row.starts_with("spent/"));
    let row = row.ok_or_else(|| Refusal::corrupt("lease", "it names no login"))?;
    ctx.delete(row);
    Ok(())
}
