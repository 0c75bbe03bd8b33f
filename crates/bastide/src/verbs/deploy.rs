//! `bastide deploy`: compose file -> stack -> images by digest -> control plane -> healthy tasks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bastide_api::StackName;
use bastide_api::status::{ServiceStatus, Status};
use bastide_stack::{COMPOSE_BYTES_MAX, ComposeError, Stack};
use serde_json::json;

use crate::cli::Deploy;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::verbs::{agent_socket, operator};

/// How long to wait for all tasks of a stack to become healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Deploys a compose file.
pub async fn run(arguments: Deploy) -> anyhow::Result<()> {
    let text = read(&arguments.file)?;
    let name = stack_name(&arguments, &text)?;
    let mut stack =
        bastide_stack::parse(&name, &text).map_err(|errors| refused(&arguments.file, &errors))?;
    for note in &stack.notes {
        output::note(note);
    }
    let operator = operator::client()?;
    for (service, spec) in &mut stack.services {
        let wanted = spec.image.to_string();
        let answer = agent_socket::call("POST", "/v1/images", Some(json!({"image": wanted}))).await;
        let answer = answer.with_context(|| format!("no image `{wanted}` for `{service}`"))?;
        let digest = answer["reference"]
            .as_str()
            .context("the agent named no digest")?;
        spec.image = digest.parse().context("the agent named an odd digest")?;
        output::note(format!("{service}: {wanted} is {digest}"));
    }
    let body = serde_json::to_value(&stack).context("could not encode the stack")?;
    operator
        .call("POST", &format!("/v1/cluster/stacks/{name}"), Some(body))
        .await
        .with_context(|| format!("stack `{name}` was not stored"))?;
    if arguments.detach {
        output::note(format!("stack `{name}` is stored"));
        return Ok(());
    }
    wait_until_healthy(&name, &stack, arguments.format.json).await
}

/// The stack's name: the one given, else the file's, else its folder's.
fn stack_name(arguments: &Deploy, text: &str) -> anyhow::Result<StackName> {
    if let Some(name) = &arguments.name {
        return Ok(name.clone());
    }
    if let Some(name) = bastide_stack::declared_name(text) {
        return name.parse().map_err(|error| {
            let what = format!("the file's `name` cannot name the stack: {error}");
            Failure::new(Exit::Usage, what)
                .hint("choose one with `--name`")
                .into()
        });
    }
    let file = arguments
        .file
        .canonicalize()
        .unwrap_or_else(|_| arguments.file.clone());
    let folder = file
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    folder.to_lowercase().parse().map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("the folder's name cannot name the stack: {error}"),
        )
        .hint("choose one with `--name`")
        .into()
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = bastide_linux::file::read_bounded(file, COMPOSE_BYTES_MAX as u64)
        .with_context(|| format!("could not read `{}`", file.display()))?
        .ok_or_else(|| Failure::new(Exit::Usage, format!("no file `{}`", file.display())))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format!("`{}` is not UTF-8", file.display())).into())
}

fn refused(file: &Path, errors: &[ComposeError]) -> Failure {
    let mut what = format!("`{}` cannot be deployed", file.display());
    for error in errors {
        let (line, column) = (error.line, error.column);
        let _ = write!(what, "\n  line {line}, column {column}: {}", error.what);
        if let Some(hint) = &error.hint {
            let _ = write!(what, " ({hint})");
        }
    }
    Failure::new(Exit::Usage, what)
}

async fn wait_until_healthy(name: &StackName, stack: &Stack, json: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut shown = String::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
    loop {
        let status = agent_socket::status().await?;
        // Why it does not come up, as soon as somebody says so: nobody waits for minutes to hear it.
        let ours = format!("`{name}_");
        for trouble in &status.troubles {
            let is_why = trouble.contains(&ours) || trouble.contains("the disk of");
            if is_why && told.insert(trouble.clone()) {
                output::note(format!("! {trouble}"));
            }
        }
        let services = services_of(&status, name);
        let is_healthy = stack.services.iter().all(|(service, spec)| {
            services
                .iter()
                .any(|one| one.name == *service && spec.replicas <= one.healthy)
        });
        let line: Vec<_> = services
            .iter()
            .map(|one| format!("{} {} of {}", one.name, one.healthy, one.wanted))
            .collect();
        let line = line.join(", ");
        if line != shown {
            output::note(format!("healthy: {line}"));
            shown = line;
        }
        if is_healthy {
            if json {
                output::data(serde_json::to_string(services).context("could not print")?);
            }
            return Ok(());
        }
        if HEALTHY_WITHIN < began.elapsed() {
            let what = format!("stack `{name}` did not become healthy: {shown}");
            return Err(Failure::new(Exit::Failed, what)
                .hint("bastide status")
                .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn services_of<'a>(status: &'a Status, name: &StackName) -> &'a [ServiceStatus] {
    let stack = status.stacks.iter().find(|stack| stack.name == *name);
    stack.map_or(&[], |stack| stack.services.as_slice())
}
