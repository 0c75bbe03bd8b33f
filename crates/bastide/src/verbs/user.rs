//! `bastide user`: people who log in by name and password.

use anyhow::Context;
use bastide_api::Secret;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::cli::UserVerb;
use crate::output;
use crate::verbs::login::segment;
use crate::verbs::{prompt, reach};

/// Where names and passwords are kept; the first user makes it.
const MOUNT: &str = "userpass";
/// How long it may take to make a user: a password is hashed.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs a verb.
pub async fn run(verb: UserVerb) -> anyhow::Result<()> {
    match verb {
        UserVerb::Put { name, policies, at } => {
            let client = reach::client(&at).await?;
            let password = prompt::line(&format!("New password of {name}"))?;
            let mounts = client.call("GET", "/v1/sys/auth", None).await?;
            if mounts[format!("{MOUNT}/")].is_null() {
                let kind = json!({ "type": "userpass" });
                let path = format!("/v1/sys/auth/{MOUNT}");
                client.call("POST", &path, Some(kind)).await?;
                output::note("people can log in with names and passwords from now on");
            }
            let mut body = json!({ "password": password.expose() });
            if !policies.is_empty() {
                body["token_policies"] = json!(policies);
            }
            let body = serde_json::to_vec(&body).context("could not encode the user")?;
            let path = format!("/v1/auth/{MOUNT}/users/{}", segment(&name));
            let by = Instant::now() + WITHIN;
            client
                .ask("POST", &path, Some(Secret::new(body)), by)
                .await?;
            output::note(format!("`{name}` can log in: bastide login {MOUNT} {name}"));
            Ok(())
        }
        UserVerb::Ls { format, at } => {
            let client = reach::client(&at).await?;
            let path = format!("/v1/auth/{MOUNT}/users");
            let listed = match client.call("LIST", &path, None).await {
                Err(error) if error.status() == Some(404) => Value::Null,
                listed => listed?,
            };
            let names: Vec<_> = listed["keys"].as_array().into_iter().flatten().collect();
            if format.json {
                output::json(&json!(names));
                return Ok(());
            }
            for name in names.into_iter().filter_map(Value::as_str) {
                output::data(name);
            }
            Ok(())
        }
        UserVerb::Rm { name, at } => {
            let client = reach::client(&at).await?;
            let path = format!("/v1/auth/{MOUNT}/users/{}", segment(&name));
            client.call("DELETE", &path, None).await?;
            output::note(format!(
                "`{name}` cannot log in any more; what was granted lives until it ends: bastide lease \
                 revoke --prefix auth/{MOUNT}/login/{name}"
            ));
            Ok(())
        }
    }
}
