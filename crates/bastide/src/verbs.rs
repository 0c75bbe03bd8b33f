//! The verbs: each composes what the crates offer, and prints.

mod agent_socket;
mod audit;
mod cluster;
mod completions;
mod deploy;
mod doctor;
mod down;
mod ending;
mod exec;
mod join;
pub mod lab;
mod lease;
mod login;
mod logs;
mod mesh;
mod node;
mod operator;
mod policy;
mod preflight;
mod prompt;
mod reach;
mod restored;
mod sealing;
mod secret;
mod serve;
mod services;
mod session;
pub mod ssh;
pub mod standalone;
mod status;
mod ticket;
mod token;
mod units;
mod up;
mod user;
mod wg;

use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{Agent, Cli, Server, Verb};
use crate::{demo, privilege};

/// Runs the verb that was asked for.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        // These start processes or namespaces of their own and must not run in a threaded process.
        Verb::Lab(verb) => lab::run(verb),
        Verb::LabPart(part) => Ok(lab::part(part)),
        Verb::Wg(arguments) => wg::run(arguments),
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::SshPrincipals { node, user } => Ok(ssh::principals(&node, &user)),
        // Somebody waits at a login: no more threads than needed.
        Verb::SshPam => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("could not start the runtime")?;
            Ok(runtime.block_on(ssh::pam()))
        }
        verb => {
            match &verb {
                Verb::Server(Server { attached, .. }) => privilege::confine(None, *attached)?,
                Verb::Agent(Agent { attached, .. }) => {
                    privilege::confine(Some(privilege::AGENT), *attached)?;
                }
                _ => {}
            }
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("could not start the runtime")?;
            runtime.block_on(run_async(verb))
        }
    }
}

/// Returns what a verb logs when `RUST_LOG` says nothing: daemons tell their state, tools only
/// trouble.
pub fn log_default(verb: &Verb) -> &'static str {
    match verb {
        Verb::Server(server) => standalone::log_level(&server.config).unwrap_or("info"),
        Verb::Agent(_) => "info",
        _ => "warn",
    }
}

async fn run_async(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Doctor(format) => return doctor::run(format).await,
        Verb::Exec(arguments) => return exec::run(arguments).await,
        Verb::Ssh(arguments) => return ssh::run(arguments).await,
        Verb::Logs(arguments) => logs::run(arguments).await,
        Verb::Up(arguments) => up::run(arguments).await,
        Verb::Init(arguments) => sealing::init(arguments).await,
        Verb::Unseal(arguments) => sealing::unseal(arguments).await,
        Verb::Seal => sealing::seal().await,
        Verb::Join(arguments) => join::run(arguments).await,
        Verb::Status(format) => status::status(format).await,
        Verb::Deploy(arguments) => deploy::run(arguments).await,
        Verb::Ps(arguments) => status::ps(arguments).await,
        Verb::Ticket(arguments) => ticket::run(arguments).await,
        Verb::Cluster(verb) => cluster::run(verb).await,
        Verb::Node(verb) => node::run(verb).await,
        Verb::AcceptRestored => restored::accept().await,
        Verb::Mesh(verb) => mesh::run(verb).await,
        Verb::Down(arguments) => down::run(arguments).await,
        Verb::Login(arguments) => login::run(arguments).await,
        Verb::Secret(verb) => secret::run(verb).await,
        Verb::Policy(verb) => return policy::run(verb).await,
        Verb::Lease(verb) => lease::run(verb).await,
        Verb::User(verb) => user::run(verb).await,
        Verb::Token(verb) => token::run(verb).await,
        Verb::Audit(verb) => return audit::run(verb).await,
        Verb::Completions(arguments) => completions::print(&arguments),
        Verb::Complete(arguments) => completions::complete(arguments).await,
        Verb::Server(arguments) => serve::server(arguments).await,
        Verb::Agent(arguments) => Box::pin(serve::agent(arguments)).await,
        Verb::Lab(_)
        | Verb::LabPart(_)
        | Verb::Wg(_)
        | Verb::Demo(_)
        | Verb::SshPrincipals { .. }
        | Verb::SshPam => {
            unreachable!("`run` handles these before it starts a runtime")
        }
    }?;
    Ok(ExitCode::SUCCESS)
}
