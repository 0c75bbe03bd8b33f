//! Auth methods of Vault that this server does not have, where it must be taken for Vault.
//!
//! Programs that set up a Vault server mount methods before anybody uses them, and go on only if that
//! succeeds. With `compat = "vault"` such a mount is made, listed, tuned and removed like any other;
//! nobody can log in there, and each path below it says so.

use crate::core::engine::{Call, Context, Engine};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Kinds of Vault's methods that can be mounted, and no more.
pub const KINDS: &[&str] = &[
    "alicloud",
    "aws",
    "azure",
    "cf",
    "gcp",
    "github",
    "kerberos",
    "kubernetes",
    "oci",
    "okta",
    "radius",
];

/// A method that is not served.
pub struct Unserved(pub &'static str);

impl Engine for Unserved {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn decide(&self, _: &mut Context<'_, '_>, _: &Call<'_>) -> Result<Answer, Refusal> {
        Err(Refusal::invalid(format!(
            "the auth method {:?} can be mounted here, but not be used: this server does not have it",
            self.0
        )))
    }
}
