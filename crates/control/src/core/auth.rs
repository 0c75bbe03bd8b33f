//! Auth methods: what proves who asks.

use crate::core::mounts::Mount;

pub mod approle;
pub mod cert;
pub mod glob;
pub mod join;
pub mod jwt;
pub mod ldap;
pub mod renewal;
pub mod token;
pub mod unserved;
pub mod userpass;

/// Returns the display name of whoever logs in at a mount: the mount's path below `auth/` and, if the
/// method knows one, a name.
pub fn display_name(mount: &Mount, name: &str) -> String {
    let path = mount.path.as_str();
    let below = path.trim_start_matches("auth/").trim_end_matches('/');
    let below = below.replace('/', "-");
    if name.is_empty() {
        return below;
    }
    format!("{below}-{name}")
}
