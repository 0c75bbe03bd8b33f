//! `bastide ssh [USER@]NODE`: a credential that is good for two minutes, for one user at one node, and
//! then the system's own `ssh`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::Context;
use bastide_api::Secret;
use bastide_client::{Client, ClientError};
use bastide_pki::ssh::PrivateKey;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::helper::PROMPT_FILE;
use crate::cli::SshConnect;
use crate::exit::{Exit, Failure};
use crate::verbs::reach;

/// How long a certificate is good: it is looked at when the session begins.
const TTL: &str = "2m";

/// What `ssh` is given.
struct Credential {
    user: String,
    node: String,
    address: String,
    port: u64,
    host_authority: String,
    proof: Proof,
}

enum Proof {
    Certificate {
        private: Secret<String>,
        certificate: String,
    },
    Password(Secret<String>),
}

/// Logs in, and ends with the exit code of `ssh`.
pub async fn run(arguments: SshConnect) -> anyhow::Result<ExitCode> {
    let destination = arguments.destination.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "no node is named")
            .hint("`bastide ssh root@NODE`, or `bastide ssh setup` on a node")
    })?;
    let (user, node) = match destination.rsplit_once('@') {
        Some((user, node)) => (user.to_owned(), node),
        None => (own_name()?, destination),
    };
    let client = reach::client(&arguments.at).await?;
    let credential = credential(&client, &arguments, &user, node).await?;
    let folder = Folder::new()?;
    let mut ssh = command(&credential, &folder)?;
    ssh.args(&arguments.command);
    // A key that interrupts is meant for the session: from here on it does not end this process.
    let _interrupts = signal(SignalKind::interrupt()).context("could not listen for signals")?;
    let status = ssh.status().await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::Usage, "this host has no `ssh`")
            .hint("install OpenSSH's client: `apt-get install openssh-client`")
            .into(),
        _ => anyhow::Error::from(error).context("could not run `ssh`"),
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Gets a certificate, or, if policy or roles do not give one, a one-time password.
async fn credential(
    client: &Client,
    arguments: &SshConnect,
    user: &str,
    node: &str,
) -> anyhow::Result<Credential> {
    let role = |default| {
        arguments
            .role
            .clone()
            .unwrap_or_else(|| String::from(default))
    };
    if arguments.otp {
        let password = password(client, &role("otp"), user, node).await;
        return password.map_err(said);
    }
    let refused = match certificate(client, &role("login"), user, node).await? {
        Ok(credential) => return Ok(credential),
        Err(refused) => refused,
    };
    if !is_role_refused(&refused) {
        return Err(said(refused));
    }
    match password(client, &role("otp"), user, node).await {
        Ok(credential) => Ok(credential),
        // What was asked for first says more of what is missing.
        Err(other) if is_role_refused(&other) => {
            Err(anyhow::Error::from(refused).context("no certificate and no one-time password"))
        }
        Err(other) => Err(said(other)),
    }
}

/// Adds what to type.
fn said(error: ClientError) -> anyhow::Error {
    let ClientError::Refused { status, errors } = &error else {
        return error.into();
    };
    let text = errors.join("; ");
    let failure = if text.starts_with("there is no node") {
        Failure::new(Exit::Usage, text).hint("see `bastide status`")
    } else if *status == 404 || text.contains("haven't been configured") {
        Failure::new(Exit::Usage, "this cluster has no authority for SSH yet")
            .hint("on the first controller: `bastide ssh enable`")
    } else {
        return error.into();
    };
    failure.into()
}

/// Whether a policy or the lack of a role is in the way: then another way may be open.
fn is_role_refused(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status: 403, .. } => true,
        ClientError::Refused {
            status: 400,
            errors,
        } => errors.iter().any(|text| {
            text.starts_with("Unknown role") || text.contains("not allowed to sign keys")
        }),
        _ => false,
    }
}

async fn certificate(
    client: &Client,
    role: &str,
    user: &str,
    node: &str,
) -> anyhow::Result<Result<Credential, ClientError>> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).expect("the system's random source answers");
    let key = PrivateKey::ed25519(seed);
    seed.fill(0);
    let public = key.public().context("could not make a key")?;
    let asked = json!({
        "public_key": public.to_line(),
        "valid_principals": user,
        "node": node,
        "ttl": TTL,
    });
    let path = format!("/v1/ssh/sign/{role}");
    let answer = match client.call("POST", &path, Some(asked)).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    let mut check = [0; 4];
    aws_lc_rs::rand::fill(&mut check).expect("the system's random source answers");
    let private = key
        .to_openssh("bastide", u32::from_be_bytes(check))
        .context("could not write the key")?;
    let proof = Proof::Certificate {
        private,
        certificate: text(&answer, "signed_key")?,
    };
    let address = text(&answer, "address")?;
    Ok(Ok(Credential {
        user: user.to_owned(),
        node: text(&answer, "node")?,
        address,
        port: 22,
        host_authority: text(&answer, "host_authority")?,
        proof,
    }))
}

async fn password(
    client: &Client,
    role: &str,
    user: &str,
    node: &str,
) -> Result<Credential, ClientError> {
    let asked = json!({ "username": user, "node": node });
    let path = format!("/v1/ssh/creds/{role}");
    let answer = client.call("POST", &path, Some(asked)).await?;
    let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    Ok(Credential {
        user: field("username"),
        node: field("node"),
        address: field("ip"),
        port: answer["port"].as_u64().unwrap_or(22),
        host_authority: field("host_authority"),
        proof: Proof::Password(Secret::new(field("key"))),
    })
}

fn text(answer: &Value, field: &str) -> anyhow::Result<String> {
    let text = answer[field].as_str().map(str::to_owned);
    text.with_context(|| format!("the control plane's answer has no `{field}`"))
}

/// Who types this.
fn own_name() -> anyhow::Result<String> {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.map_err(|_| {
        Failure::new(Exit::Usage, "it is not known who you are")
            .hint("name the user: `bastide ssh root@NODE`")
            .into()
    })
}

/// Makes the command: whatever the user's own configuration says of keys and known hosts, this
/// session has its own.
fn command(credential: &Credential, folder: &Folder) -> anyhow::Result<Command> {
    let Credential { user, node, .. } = credential;
    let is_word = |text: &str| !text.is_empty() && !text.starts_with('-');
    let plain = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if ![user, node, &credential.address]
        .iter()
        .all(|it| is_word(it) && plain(it))
    {
        return Err(Failure::new(Exit::Usage, "the user's or the node's name is not valid").into());
    }
    let known = format!(
        "@cert-authority {node} {}\n",
        credential.host_authority.trim()
    );
    let known = folder.write("known_hosts", known.as_bytes())?;
    let mut ssh = Command::new("ssh");
    let mut option = |text: String| {
        ssh.arg("-o").arg(text);
    };
    option(format!("HostName={}", credential.address));
    option(format!("HostKeyAlias={node}"));
    option(format!("UserKnownHostsFile={}", known.display()));
    option("GlobalKnownHostsFile=/dev/null".to_owned());
    option("StrictHostKeyChecking=yes".to_owned());
    option("UpdateHostKeys=no".to_owned());
    option("CheckHostIP=no".to_owned());
    option("IdentityAgent=none".to_owned());
    option("IdentitiesOnly=yes".to_owned());
    option(format!("Port={}", credential.port));
    match &credential.proof {
        Proof::Certificate {
            private,
            certificate,
        } => {
            let key = folder.write("key", private.expose().as_bytes())?;
            let line = folder.write("key-cert.pub", certificate.as_bytes())?;
            option("PreferredAuthentications=publickey".to_owned());
            option(format!("IdentityFile={}", key.display()));
            option(format!("CertificateFile={}", line.display()));
        }
        Proof::Password(otp) => {
            let file = folder.write("prompt", otp.expose().as_bytes())?;
            option("PreferredAuthentications=keyboard-interactive".to_owned());
            option("PubkeyAuthentication=no".to_owned());
            option("NumberOfPasswordPrompts=1".to_owned());
            let own = std::env::current_exe().context("could not find this program")?;
            ssh.env("SSH_ASKPASS", own)
                .env("SSH_ASKPASS_REQUIRE", "force")
                // Before OpenSSH 8.4 that alone was what counted.
                .env(
                    "DISPLAY",
                    std::env::var("DISPLAY").unwrap_or_else(|_| ":".to_owned()),
                )
                .env(PROMPT_FILE, file);
        }
    }
    ssh.arg(format!("{user}@{node}"));
    ssh.kill_on_drop(false);
    ssh.stdin(Stdio::inherit());
    Ok(ssh)
}

/// A folder of this session's own, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).expect("the system's random source answers");
        // In memory, where the system has such a place for its users.
        let root = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let root = root
            .filter(|root| root.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = root.join(format!("bastide-ssh-{}", HEXLOWER.encode(&name)));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("could not make `{}`", path.display()))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(bytes))
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = fs::remove_dir_all(&self.0);
    }
}
