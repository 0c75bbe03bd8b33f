//! `bastide login`: proves who one is, and keeps the token.

use anyhow::Context;
use bastide_api::Secret;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::cli::{Login, LoginMethod};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{prompt, reach};

/// How long a login may take: a directory may be slow.
const WITHIN: Duration = Duration::from_secs(30);

/// Logs in.
pub async fn run(arguments: Login) -> anyhow::Result<()> {
    let place = reach::place(&arguments.at).await?;
    let name = |what: &str| {
        arguments.name.clone().ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{what} is missing"))
                .hint("`bastide login METHOD NAME`, for example `bastide login userpass ada`")
        })
    };
    let mount = arguments.mount.as_deref();
    let mount = mount.unwrap_or(arguments.method.mount()).trim_matches('/');
    let (path, body) = match arguments.method {
        LoginMethod::Token => {
            let token = prompt::line("Token")?;
            let client = place.client(Some(token.duplicate()))?;
            let told = client
                .call("GET", "/v1/auth/token/lookup-self", None)
                .await?;
            let kept = place.keep(&token)?;
            tell(&told["display_name"], &told["policies"], &kept);
            return Ok(());
        }
        LoginMethod::Userpass | LoginMethod::Ldap => {
            let name = name("the user's name")?;
            let password = prompt::line(&format!("Password of {name}"))?;
            let path = format!("/v1/auth/{mount}/login/{}", segment(&name));
            (path, json!({ "password": password.expose() }))
        }
        LoginMethod::Approle => {
            let role = name("the role id")?;
            let secret = prompt::line("Secret id")?;
            let body = json!({ "role_id": role, "secret_id": secret.expose() });
            (format!("/v1/auth/{mount}/login"), body)
        }
        LoginMethod::Jwt => {
            let role = arguments.name.clone();
            let text = prompt::line("Signed token")?;
            let body = json!({ "role": role, "jwt": text.expose() });
            (format!("/v1/auth/{mount}/login"), body)
        }
    };
    let body = serde_json::to_vec(&body).context("could not encode the login")?;
    let client = place.client(None)?;
    let by = Instant::now() + WITHIN;
    let mut answer = client
        .ask("POST", &path, Some(Secret::new(body)), by)
        .await?;
    let auth = &mut answer["auth"];
    let token = match auth["client_token"].take() {
        Value::String(token) => Secret::new(token),
        _ => anyhow::bail!("the server answered without a token"),
    };
    let kept = place.keep(&token)?;
    let name = auth["metadata"]["username"].as_str().unwrap_or("a machine");
    tell(&json!(name), &auth["policies"], &kept);
    Ok(())
}

fn tell(name: &Value, policies: &Value, kept: &std::path::Path) {
    let policies: Vec<_> = policies.as_array().into_iter().flatten().collect();
    let policies: Vec<_> = policies.iter().filter_map(|it| it.as_str()).collect();
    output::note(format!(
        "logged in as {} with {}; the token is kept in `{}`",
        name.as_str().unwrap_or("somebody"),
        policies.join(", "),
        kept.display()
    ));
}

/// Writes a name as one segment of a path.
pub fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:+,=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Writes a path, segment by segment; a slash at its end stays.
pub fn path(text: &str) -> String {
    let segments = text.trim_start_matches('/').split('/').map(segment);
    segments.collect::<Vec<_>>().join("/")
}
