//! The name `vault`: called so, by a link for example, this program understands what programs that
//! start a Vault server for themselves type. Commands of a client are not among it: the clients of
//! Vault and OpenBao speak to this server as they are.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bastide_api::{Secret, ports};
use bastide_control::core::config::Compat;
use bastide_control::run::server::VAULT_VERSION;
use clap::{Args, Parser, Subcommand};
use data_encoding::{BASE64, BASE64_NOPAD};

use crate::cli::{Cli, Server, Verb};
use crate::{output, paths};

/// Where a development server listens, if no option says.
const DEV_LISTEN: &str = "VAULT_DEV_LISTEN_ADDRESS";
/// Its root token, if no option says.
const DEV_TOKEN: &str = "VAULT_DEV_ROOT_TOKEN_ID";

/// What somebody who called this program `vault` meant.
pub enum Meant {
    /// One of our own verbs.
    Verb(Box<Cli>),
    /// What was asked is answered.
    Said(ExitCode),
}

/// Serves Vault's API; the name under which programs start a server for themselves
#[derive(Debug, Parser)]
#[command(name = "vault", disable_version_flag = true, max_term_width = 100)]
struct Vault {
    /// Print the version of Vault's API that is spoken
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<VaultVerb>,
}

#[derive(Debug, Subcommand)]
enum VaultVerb {
    /// Run a server
    Server(VaultServer),
    /// Decode a root token that was generated
    #[command(subcommand)]
    Operator(Operator),
    /// Print the version of Vault's API that is spoken
    Version,
}

#[derive(Debug, Args)]
struct VaultServer {
    /// A configuration file, or a folder of them
    #[arg(long)]
    config: Vec<PathBuf>,
    /// Run in memory, unsealed, over plain HTTP
    #[arg(long)]
    dev: bool,
    /// The development server's root token
    #[arg(long)]
    dev_root_token_id: Option<String>,
    /// Where the development server listens
    #[arg(long)]
    dev_listen_address: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Operator {
    /// Decode a root token that was generated
    GenerateRoot(GenerateRoot),
}

#[derive(Debug, Args)]
struct GenerateRoot {
    /// The encoded token; `-` reads it from standard input
    #[arg(long)]
    decode: String,
    /// The one-time password that it was encoded with
    #[arg(long)]
    otp: String,
    /// Of no effect: nobody is asked
    #[arg(long)]
    address: Option<String>,
    /// Of no effect: nobody is asked
    #[arg(long)]
    tls_skip_verify: bool,
}

/// Returns what was meant, if this program was called `vault`.
pub fn called() -> Option<Meant> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if Path::new(&name).file_name()? != "vault" {
        return None;
    }
    let spelled = std::iter::once(name).chain(arguments.map(doubled));
    let vault = Vault::parse_from(spelled);
    if vault.version {
        return Some(version());
    }
    Some(match vault.verb {
        None => {
            output::note("usage: vault server -config=FILE | vault -version");
            Meant::Said(ExitCode::from(1))
        }
        Some(VaultVerb::Version) => version(),
        Some(VaultVerb::Operator(Operator::GenerateRoot(asked))) => decode(asked),
        Some(VaultVerb::Server(server)) => Meant::Verb(Box::new(Cli {
            verb: Verb::Server(Server {
                dev: server.dev,
                listen: server
                    .dev_listen_address
                    .or_else(|| std::env::var(DEV_LISTEN).ok()?.parse().ok())
                    .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::API))),
                root_token: server
                    .dev_root_token_id
                    .or_else(|| std::env::var(DEV_TOKEN).ok()),
                state: paths::SERVER.into(),
                config: server.config,
                compat: Some(Compat::Vault),
                bootstrap: false,
                handover: false,
                attached: None,
            }),
        })),
    })
}

/// Options of Go's have one dash or two; of ours two.
fn doubled(argument: OsString) -> OsString {
    let bytes = argument.as_encoded_bytes();
    let is_long = bytes.first() == Some(&b'-')
        && bytes.get(1).is_some_and(u8::is_ascii_alphabetic)
        && 2 < bytes.len();
    if !is_long {
        return argument;
    }
    let mut doubled = OsString::from("-");
    doubled.push(argument);
    doubled
}

fn version() -> Meant {
    output::data(format!(
        "Vault v{VAULT_VERSION} (bastide {}), which speaks its API",
        env!("CARGO_PKG_VERSION")
    ));
    Meant::Said(ExitCode::SUCCESS)
}

fn decode(asked: GenerateRoot) -> Meant {
    let encoded = if asked.decode == "-" {
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(_) => line,
            Err(error) => {
                output::note(format!("error: could not read standard input: {error}"));
                return Meant::Said(ExitCode::from(1));
            }
        }
    } else {
        asked.decode
    };
    let (encoded, otp) = (Secret::new(encoded), Secret::new(asked.otp));
    match decoded(encoded.expose().trim(), &otp) {
        Some(token) => {
            output::data(token.expose());
            Meant::Said(ExitCode::SUCCESS)
        }
        None => {
            output::note("error: this token was not encoded with a password of that length");
            Meant::Said(ExitCode::from(1))
        }
    }
}

/// Undoes the exclusive or of a token and its one-time password.
fn decoded(encoded: &str, otp: &Secret<String>) -> Option<Secret<String>> {
    let text = encoded.as_bytes();
    let bytes = BASE64_NOPAD.decode(text).or_else(|_| BASE64.decode(text));
    let bytes = Secret::new(bytes.ok()?);
    let otp = otp.expose().as_bytes();
    if otp.len() != bytes.expose().len() {
        return None;
    }
    let pairs = bytes.expose().iter().zip(otp);
    let token = pairs.map(|(&byte, &with)| byte ^ with).collect();
    String::from_utf8(token).ok().map(Secret::new)
}

#[cfg(test)]
mod tests;
