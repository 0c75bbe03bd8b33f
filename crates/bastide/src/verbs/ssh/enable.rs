//! `bastide ssh enable`: the cluster's authority for SSH, and a role for each way in.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::verbs::operator;
use crate::{output, paths};

/// What the audit log shows in clear: who wanted to be whom, where; and which certificate he got.
const ASKED: &[&str] = &[
    "cert_type",
    "ip",
    "key_id",
    "node",
    "rhost",
    "serial_number",
    "service",
    "ttl",
    "username",
    "valid_principals",
];
const ANSWERED: &[&str] = &["ip", "node", "role_name", "serial_number", "username"];
/// What `vault ssh` asks for besides a shell.
const EXTENSIONS: &str = "permit-X11-forwarding,permit-agent-forwarding,permit-port-forwarding,\
                          permit-pty,permit-user-rc";

/// Makes what is missing; what is there stays as it is.
pub async fn run() -> anyhow::Result<()> {
    let client = operator::client()?;
    let absent = |error: &bastide_client::ClientError| matches!(error.status(), Some(400 | 404));
    let mounts = client.call("GET", "/v1/sys/mounts", None).await?;
    if mounts.get("ssh/").is_none() {
        let mount = json!({
            "type": "ssh",
            "description": "certificates and one-time passwords for nodes",
        });
        client
            .call("POST", "/v1/sys/mounts/ssh", Some(mount))
            .await?;
        let clear = json!({
            "audit_non_hmac_request_keys": ASKED,
            "audit_non_hmac_response_keys": ANSWERED,
        });
        client
            .call("POST", "/v1/sys/mounts/ssh/tune", Some(clear))
            .await?;
    }
    match client.call("GET", "/v1/ssh/config/ca", None).await {
        Err(error) if absent(&error) => {
            let key = json!({ "key_type": "ssh-ed25519" });
            client.call("POST", "/v1/ssh/config/ca", Some(key)).await?;
            output::note("the cluster has an authority for SSH now");
        }
        known => drop(known?),
    }
    let mesh = bastide_agent::last_view(Path::new(paths::AGENT))
        .ok()
        .flatten()
        .map(|(_, view)| view.cluster.plan.mesh)
        .context("this host's agent has not joined yet")?;
    let roles = [
        (
            "login",
            json!({
                "key_type": "ca",
                "allow_user_certificates": true,
                "allowed_users": "*",
                "ttl": "2m",
                "max_ttl": "1h",
                "allowed_extensions": EXTENSIONS,
                "default_extensions": { "permit-pty": "", "permit-port-forwarding": "" },
            }),
        ),
        (
            "otp",
            json!({
                "key_type": "otp",
                "default_user": "root",
                "allowed_users": "*",
                "cidr_list": mesh,
            }),
        ),
    ];
    for (name, role) in roles {
        let path = format!("/v1/ssh/roles/{name}");
        match client.call("GET", &path, None).await {
            Err(error) if absent(&error) => {
                client.call("POST", &path, Some(role)).await?;
                output::note(format!("role made: ssh/roles/{name}"));
            }
            known => drop(known?),
        }
    }
    Ok(())
}
