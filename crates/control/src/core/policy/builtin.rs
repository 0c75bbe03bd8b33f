//! Policies that each cluster has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::policy::{Policy, PolicyError};

/// Every token has it unless it asks not to. Editable.
pub const DEFAULT: &str = r#"# What every token may do with itself.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/renew" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }
path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "sys/tools/hash" { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }
path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }
path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }
"#;

/// What a wrapping token may do. Not editable, and of no other token.
pub const WRAPPING: &str = r#"
path "sys/wrapping/unwrap" { capabilities = ["update"] }
"#;

/// What a node may do. Not editable.
pub const NODE: &str = r#"
path "mesh/renew" { capabilities = ["update"] }
path "mesh/watch" { capabilities = ["read"] }
path "mesh/leave" { capabilities = ["update"] }
path "mesh/nodes/{{node.id}}" { capabilities = ["read"] }
path "cluster/swarm" { capabilities = ["read"] }
path "ssh/node/host" { capabilities = ["update"] }
path "ssh/node/verify" { capabilities = ["update"] }
"#;

/// What a node may do whose certificate has ended. Not editable.
pub const ENDED: &str = r#"
path "mesh/renew" { capabilities = ["update"] }
"#;

/// What a node that runs the control plane may do besides. Not editable.
pub const CONTROLLER: &str = r#"
path "cluster/swarm" { capabilities = ["read", "update"] }
"#;

/// Policies that nobody can write.
pub const RESERVED: &[&str] = &["root", "node", "controller", "response-wrapping"];

/// Most parsed policies that are remembered.
const MEMO_MAX: usize = 512;

/// Remembers parsed policies by their text: parsing is a function, so this changes nothing but time.
#[derive(Default)]
pub struct Memo(Mutex<BTreeMap<String, Arc<Policy>>>);

impl Memo {
    /// Returns the policy of a text.
    pub fn parse(&self, text: &str) -> Result<Arc<Policy>, PolicyError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if MEMO_MAX <= known.len() && !known.contains_key(text) {
            known.clear();
        }
        match known.entry(text.to_owned()) {
            Entry::Occupied(found) => Ok(Arc::clone(found.get())),
            Entry::Vacant(free) => Ok(Arc::clone(free.insert(Arc::new(Policy::parse(text)?)))),
        }
    }
}
