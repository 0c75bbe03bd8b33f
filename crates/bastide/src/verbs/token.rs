//! `bastide token`: tokens, which are never taken from the command line.

use std::time::Duration;

use anyhow::Context;
use bastide_api::Secret;
use bastide_client::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{Format, TokenVerb};
use crate::output;
use crate::verbs::{operator, prompt, reach};

/// Runs a verb.
#[expect(clippy::too_many_lines, reason = "a verb each")]
pub async fn run(verb: TokenVerb) -> anyhow::Result<()> {
    match verb {
        TokenVerb::Create {
            policies,
            ttl,
            period,
            uses,
            orphan,
            name,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let mut body = json!({ "no_parent": orphan });
            let given = [
                ("policies", (!policies.is_empty()).then(|| json!(policies))),
                ("ttl", ttl.map(Value::from)),
                ("period", period.map(Value::from)),
                ("num_uses", uses.map(Value::from)),
                ("display_name", name.map(Value::from)),
            ];
            for (field, value) in given {
                if let Some(value) = value {
                    body[field] = value;
                }
            }
            let auth = auth(&client, "/v1/auth/token/create", &body).await?;
            if format.json {
                output::json(&auth);
                return Ok(());
            }
            output::note(format!(
                "accessor {}, policies {}, good for {} s",
                operator::text(&auth["accessor"]),
                operator::words(&auth["policies"]),
                auth["lease_duration"]
            ));
            output::data(operator::text(&auth["client_token"]));
            Ok(())
        }
        TokenVerb::Own { format, at } => {
            let client = reach::client(&at).await?;
            let told = client
                .call("GET", "/v1/auth/token/lookup-self", None)
                .await?;
            show(told, &format);
            Ok(())
        }
        TokenVerb::Lookup {
            accessor,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let told = match accessor {
                Some(accessor) => {
                    let body = json!({ "accessor": accessor });
                    let path = "/v1/auth/token/lookup-accessor";
                    client.call("POST", path, Some(body)).await?
                }
                None => {
                    let token = prompt::line("Token")?;
                    let body = json!({ "token": token.expose() });
                    client
                        .call("POST", "/v1/auth/token/lookup", Some(body))
                        .await?
                }
            };
            show(told, &format);
            Ok(())
        }
        TokenVerb::Renew {
            accessor,
            increment,
            format,
            at,
        } => {
            let client = reach::client(&at).await?;
            let mut body = json!({});
            if let Some(increment) = increment {
                body["increment"] = increment.into();
            }
            let path = match accessor {
                Some(accessor) => {
                    body["accessor"] = accessor.into();
                    "/v1/auth/token/renew-accessor"
                }
                None => "/v1/auth/token/renew-self",
            };
            let auth = auth(&client, path, &body).await?;
            let secs = &auth["lease_duration"];
            if format.json {
                output::json(&json!({ "lease_duration": secs, "renewable": auth["renewable"] }));
            } else {
                output::note(format!("the token is good for {secs} s from now"));
            }
            Ok(())
        }
        TokenVerb::Revoke { accessor, own, at } => {
            let client = reach::client(&at).await?;
            let (path, body) = match accessor {
                _ if own => ("/v1/auth/token/revoke-self", json!({})),
                Some(accessor) => {
                    let body = json!({ "accessor": accessor });
                    ("/v1/auth/token/revoke-accessor", body)
                }
                None => {
                    let token = prompt::line("Token")?;
                    ("/v1/auth/token/revoke", json!({ "token": token.expose() }))
                }
            };
            client.call("POST", path, Some(body)).await?;
            output::note("the token is revoked, and all that it made");
            Ok(())
        }
    }
}

/// Asks for something that answers with a token.
async fn auth(client: &Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    let body = serde_json::to_vec(body).context("could not encode the request")?;
    let by = Instant::now() + Duration::from_secs(15);
    let mut answer = client
        .ask("POST", path, Some(Secret::new(body)), by)
        .await?;
    let warnings = answer["warnings"].as_array().into_iter().flatten();
    for warning in warnings.filter_map(Value::as_str) {
        output::note(format!("warning: {warning}"));
    }
    Ok(answer["auth"].take())
}

/// Shows what is known of a token, without the token.
fn show(mut told: Value, format: &Format) {
    if let Value::Object(fields) = &mut told {
        fields.remove("id");
    }
    if format.json {
        output::json(&told);
        return;
    }
    let known = [
        "display_name",
        "accessor",
        "policies",
        "identity_policies",
        "entity_id",
        "type",
        "orphan",
        "renewable",
        "ttl",
        "expire_time",
        "num_uses",
        "path",
    ];
    let rows: Vec<_> = known
        .into_iter()
        .filter_map(|name| {
            let value = match &told[name] {
                Value::Null => return None,
                Value::String(text) if text.is_empty() => return None,
                Value::String(text) => text.clone(),
                list @ Value::Array(_) => operator::words(list),
                other => other.to_string(),
            };
            Some(vec![name.to_owned(), value])
        })
        .collect();
    output::data(output::table(&rows).trim_end());
}
