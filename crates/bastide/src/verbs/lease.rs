//! `bastide lease`: what is granted for a time.

use serde_json::{Value, json};

use crate::cli::LeaseVerb;
use crate::output;
use crate::verbs::{login, reach};

/// Runs a verb.
pub async fn run(verb: LeaseVerb) -> anyhow::Result<()> {
    match verb {
        LeaseVerb::Ls { prefix, format, at } => {
            let client = reach::client(&at).await?;
            let below = login::path(prefix.trim_matches('/'));
            let mut path = format!("/v1/sys/leases/lookup/{below}");
            if !path.ends_with('/') {
                path.push('/');
            }
            let listed = match client.call("LIST", &path, None).await {
                Err(error) if error.status() == Some(404) => Value::Null,
                listed => listed?,
            };
            let keys: Vec<_> = listed["keys"].as_array().into_iter().flatten().collect();
            if format.json {
                output::json(&json!(keys));
                return Ok(());
            }
            let start = prefix.trim_matches('/');
            for key in keys.into_iter().filter_map(Value::as_str) {
                let slash = if start.is_empty() { "" } else { "/" };
                output::data(format!("{start}{slash}{key}"));
            }
            Ok(())
        }
        LeaseVerb::Renew {
            id,
            increment,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let body = json!({ "lease_id": id, "increment": increment.unwrap_or(0) });
            let body = serde_json::to_vec(&body)?;
            let by = tokio::time::Instant::now() + std::time::Duration::from_secs(15);
            let path = "/v1/sys/leases/renew";
            let body = Some(bastide_api::Secret::new(body));
            let answer = client.ask("PUT", path, body, by).await?;
            let secs = answer["lease_duration"].as_u64().unwrap_or(0);
            if format.json {
                output::json(&json!({ "lease_id": id, "lease_duration": secs }));
            } else {
                output::note(format!("`{id}` is good for {secs} s from now"));
            }
            Ok(())
        }
        LeaseVerb::Revoke {
            id,
            prefix,
            force,
            at,
        } => {
            let client = reach::client(&at).await?;
            if prefix {
                let how = if force { "force" } else { "prefix" };
                let below = login::path(id.trim_matches('/'));
                let path = format!("/v1/sys/leases/revoke-{how}/{below}");
                client.call("PUT", &path, Some(json!({}))).await?;
                output::note(format!("all leases below `{id}` are revoked"));
            } else {
                let body = json!({ "lease_id": id });
                client
                    .call("PUT", "/v1/sys/leases/revoke", Some(body))
                    .await?;
                output::note(format!("`{id}` is revoked"));
            }
            Ok(())
        }
    }
}
