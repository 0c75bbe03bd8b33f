//! `bastide login`: proves who one is, and keeps the token.

use anyhow::Context;
use aws_lc_rs::rand;
use bastide_api::Secret;
use bastide_client::Client;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::cli::{Login, LoginMethod};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{prompt, reach};

mod browser;

/// How long a person may take at a provider: its own time ends after ten minutes.
const PERSON_WITHIN: Duration = Duration::from_secs(10 * 60);
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
        LoginMethod::Oidc => {
            let (answer, returned) = by_browser(&place, mount, &arguments).await?;
            let kept = keep(&place, answer);
            returned.tell(kept.is_ok()).await;
            return kept;
        }
    };
    let client = place.client(None)?;
    let answer = ask(&client, &path, &body).await?;
    keep(&place, answer)
}

async fn ask(client: &Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    let body = serde_json::to_vec(body).context("could not encode the login")?;
    let by = Instant::now() + WITHIN;
    let answer = client.ask("POST", path, Some(Secret::new(body)), by);
    Ok(answer.await?)
}

/// Keeps the token of an answer.
fn keep(place: &reach::Place, mut answer: Value) -> anyhow::Result<()> {
    let auth = &mut answer["auth"];
    let token = match auth["client_token"].take() {
        Value::String(token) => Secret::new(token),
        _ => anyhow::bail!("the server answered without a token"),
    };
    let kept = place.keep(&token)?;
    let name = |what: &str| auth["metadata"][what].as_str();
    let name = name("username").or(name("role")).unwrap_or("a machine");
    tell(&json!(name), &auth["policies"], &kept);
    Ok(())
}

/// Logs somebody in at an OpenID provider: prints the address, and waits for the browser to come back.
/// What the server needs at the end besides, it gets from here alone: who sends a browser here with
/// another's code gets nothing.
async fn by_browser(
    place: &reach::Place,
    mount: &str,
    arguments: &Login,
) -> anyhow::Result<(Value, browser::Returned)> {
    let waiting = browser::Waiting::at(arguments.port).await?;
    let mut drawn = [0; 24];
    rand::fill(&mut drawn).map_err(|_| anyhow::anyhow!("the kernel gave no randomness"))?;
    let nonce = BASE64URL_NOPAD.encode(&drawn);
    let client = place.client(None)?;
    let redirect = waiting.address();
    let begin = json!({
        "role": arguments.name, "redirect_uri": redirect, "client_nonce": nonce,
    });
    let path = format!("/v1/auth/{mount}/oidc/auth_url");
    let begun = ask(&client, &path, &begin).await?;
    let url = begun["data"]["auth_url"].as_str().unwrap_or_default();
    if url.is_empty() {
        let role = arguments.name.as_deref().unwrap_or("the default role");
        return Err(Failure::new(
            Exit::Refused,
            format!("`{role}` lets no browser go back to `{redirect}`"),
        )
        .hint(format!(
            "the role's `allowed_redirect_uris` must hold `{redirect}`; of loopback any port will do"
        ))
        .into());
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let state = browser::fields(query).and_then(|mut fields| fields.remove("state"));
    let state = state
        .filter(|_| url.bytes().all(|it| it.is_ascii_graphic()))
        .context("the server answered with an address that is none")?;
    output::note(format!(
        "open this address in a browser on this machine:\n\n    {url}\n"
    ));
    let returned = tokio::time::timeout(PERSON_WITHIN, waiting.wait(&state))
        .await
        .map_err(|_| Failure::new(Exit::Failed, "nobody came back from the provider"))??;
    let mut body = json!({ "state": state, "client_nonce": nonce });
    for name in ["code", "iss", "error"] {
        if let Some(value) = returned.field(name) {
            body[name] = value.into();
        }
    }
    let path = format!("/v1/auth/{mount}/oidc/callback");
    match ask(&client, &path, &body).await {
        Ok(answer) => Ok((answer, returned)),
        Err(error) => {
            returned.tell(false).await;
            Err(error)
        }
    }
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
