//! Formats and signatures of the cluster's identities: its certificate authority, node certificates
//! with SPIFFE names, and the signature over the view. Who may have what is decided elsewhere; here a
//! decision becomes bytes, and foreign bytes become a value that only a successful check can make.
//!
//! ```text
//!   node: Identity --csr--> ProvenKey --Authority::sign_node--> certificate (24 h, SPIFFE name)
//!   peer: certificate --Roots::verify--> PeerIdentity { cluster, role, node }
//!   controller: ViewEntries --ViewSigner::sign--> signature --verify_view--> Verified<ViewEntries>
//! ```
//!
//! Beside it stand the formats of others: [`x509`] for certificate authorities of the operator's own,
//! [`ssh`] for OpenSSH, [`log`] for what makes a log tamper-evident.
//!
//! This crate never stores anything, never reads a clock, and never opens a socket. Times and serial
//! numbers are passed in; keys are drawn from the system's random source.

#![forbid(unsafe_code)]

mod authority;
#[cfg(any(test, bastide_fuzz))]
mod fixture;
mod foreign;
#[cfg(any(test, bastide_fuzz))]
#[doc(hidden)]
pub mod fuzz;
mod identity;
pub mod log;
mod peer;
mod proof;
pub mod ssh;
mod stranger;
mod view;
pub mod x509;

pub use authority::{Authority, AuthorityError, Issued, Validity};
pub use foreign::public_key_of;
pub use identity::{Identity, IdentityError, certificate_chain};
pub use peer::{
    Claim, PeerError, PeerIdentity, Role, Roots, RootsError, certificate_begin,
    certificate_lifetime, certificate_made,
};
pub use proof::{ProofError, ProvenKey};
pub use stranger::{
    BUNDLE_MAX, REVOKED_MAX, STRANGER_BYTES_MAX, Stranger, StrangerError, decimal, pem_public_key,
    revoked_serials, string_content,
};
pub use view::{GrantError, Verified, ViewSignatureError, ViewSigner, verify_grant, verify_view};

/// Most bytes of a certificate request or a certificate in PEM. Ours have less than 1,200.
pub const PEM_BYTES_MAX: usize = 8 * 1024;
