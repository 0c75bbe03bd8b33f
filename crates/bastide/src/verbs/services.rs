//! The two daemons of a host: as children in the foreground, or as systemd's units.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use bastide_agent::Handover;
use bastide_api::Secret;
use bastide_linux::file;
use bastide_store::KeyFileSeal;
use data_encoding::BASE64;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::paths;
use crate::verbs::{agent_socket, operator, sealing, units};

/// This program, by a link that leads to it whatever folders are in between: the server's user may not
/// enter all of those that root may.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The system user that the server runs as.
pub const USER: &str = "bastide";
/// How often a condition is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a daemon may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether people have opened the server.
const OPEN_EVERY: Duration = Duration::from_millis(200);

/// What a control plane that answers says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// It serves.
    Open,
    /// It waits for shares.
    Sealed,
}

/// The daemons that this command started.
pub struct Running {
    foreground: bool,
    server: Option<Child>,
    agent: Option<Child>,
}

impl Running {
    /// Nothing yet. Fails if units are wanted and could not start this program, before anything was
    /// changed.
    pub fn new(foreground: bool) -> anyhow::Result<Self> {
        let foreground = foreground || !has_systemd();
        if !foreground {
            program_of_units()?;
        }
        Ok(Self {
            foreground,
            server: None,
            agent: None,
        })
    }

    /// Starts the server.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        // Without a key file the server is sealed by shares: systemd starts no unit whose credential
        // is missing.
        let has_key = Path::new(paths::SEAL_KEY).exists();
        if !self.foreground {
            let seal = if has_key {
                units::Seal::KeyFile
            } else {
                units::Seal::Elsewhere
            };
            let text = units::server(&program_of_units()?, seal);
            return start_unit(SERVER_UNIT_NAME, &text).await;
        }
        let own = std::process::id().to_string();
        let mut child = server_command(&["server", "--handover", "--attached", &own])?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("could not start the server")?;
        let key = if has_key {
            let seal = KeyFileSeal::open(Path::new(paths::SEAL_KEY))?;
            BASE64.encode(seal.key().expose()).into_bytes()
        } else {
            Vec::new()
        };
        let key = Secret::new(key);
        give(&mut child, key.expose())
            .await
            .context("could not hand the server its seal key")?;
        self.server = Some(child);
        Ok(())
    }

    /// Starts the agent, with what it needs to join if it has not joined yet.
    pub async fn start_agent(&mut self, handover: Option<Handover>) -> anyhow::Result<()> {
        let handover = handover
            .map(|handover| serde_json::to_vec(&handover))
            .transpose()?;
        if !self.foreground {
            let text = units::agent(&program_of_units()?);
            file::create_private_dir(Path::new(paths::AGENT))
                .with_context(|| format!("could not make `{}`", paths::AGENT))?;
            if let Some(handover) = handover {
                file::write_private(Path::new(paths::AGENT_HANDOVER), &handover)
                    .with_context(|| format!("could not write `{}`", paths::AGENT_HANDOVER))?;
            }
            return start_unit(AGENT_UNIT_NAME, &text).await;
        }
        let program = std::env::current_exe().context("could not find this program")?;
        let mut command = Command::new(program);
        command
            .args(["agent", "--attached", &std::process::id().to_string()])
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if handover.is_some() {
            command.arg("--handover").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        let mut child = command.spawn().context("could not start the agent")?;
        if let Some(handover) = handover {
            let handover = Secret::new(handover);
            give(&mut child, handover.expose())
                .await
                .context("could not hand over the ticket")?;
        }
        self.agent = Some(child);
        Ok(())
    }

    /// Waits until the control plane of this host answers, or says that it is sealed.
    pub async fn wait_for_server(&mut self, within: Duration) -> anyhow::Result<Ready> {
        let began = Instant::now();
        loop {
            if sealing::is_sealed().await == Some(true) {
                return Ok(Ready::Sealed);
            }
            let client = operator::client()?;
            let looked_up = client.call("GET", "/v1/auth/token/lookup-self", None).await;
            let Err(error) = looked_up else {
                return Ok(Ready::Open);
            };
            ensure_runs("server", self.server.as_mut())?;
            if within < began.elapsed() {
                return Err(anyhow::Error::new(error).context("the server does not answer"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until people have opened a sealed control plane.
    pub async fn wait_until_open(&mut self) -> anyhow::Result<()> {
        while sealing::is_sealed().await != Some(false) {
            ensure_runs("server", self.server.as_mut())?;
            tokio::time::sleep(OPEN_EVERY).await;
        }
        Ok(())
    }

    /// Waits until the agent of this host is a node.
    pub async fn wait_for_agent(&mut self, within: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let Err(error) = agent_socket::status().await else {
                return Ok(());
            };
            ensure_runs("agent", self.agent.as_mut())?;
            if within < began.elapsed() {
                let error = error.context("the agent does not answer");
                if self.foreground {
                    return Err(error);
                }
                // What it says of itself is in systemd's journal.
                return Err(error.context(
                    Failure::new(Exit::Failed, "this host is no node yet")
                        .hint(format!("journalctl -n 20 -u {AGENT_UNIT_NAME}")),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// In the foreground: waits until the agent ends or a signal comes, then ends what is left.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let Some(mut agent) = self.agent.take() else {
            return Ok(());
        };
        let mut server = self.server.take();
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .context("could not listen for signals")?;
        let server_ends = async {
            match server.as_mut() {
                Some(server) => server.wait().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            status = agent.wait() => {
                let status = status.context("could not wait for the agent")?;
                if status.success() { Ok(()) } else { Err(anyhow::anyhow!("the agent ended: {status}")) }
            }
            status = server_ends => {
                let status = status.context("could not wait for the server")?;
                Err(anyhow::anyhow!("the server ended: {status}"))
            }
            _ = terminate.recv() => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        // The server first, which may have to wait for others: meanwhile the agent carries the mesh.
        if let Some(server) = &mut server {
            end(server).await;
        }
        end(&mut agent).await;
        outcome
    }
}

/// Fails if a daemon that we started has ended; it has said why itself.
fn ensure_runs(what: &str, daemon: Option<&mut Child>) -> anyhow::Result<()> {
    let Some(daemon) = daemon else { return Ok(()) };
    let ended = daemon
        .try_wait()
        .with_context(|| format!("could not look after the {what}"))?;
    let Some(status) = ended else { return Ok(()) };
    let said = format!("the {what} ended: {status}");
    if status.code() == Some(Exit::Conflict as i32) {
        return Err(Failure::new(Exit::Conflict, said)
            .hint("it said why above")
            .into());
    }
    Err(anyhow::anyhow!(said))
}

/// Asks a daemon to end, and ends it if it does not.
async fn end(child: &mut Child) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
        return;
    };
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // Fails only if it ended already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(END_WITHIN, child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}

/// Writes all of a child's input.
pub async fn give(child: &mut Child, bytes: &[u8]) -> std::io::Result<()> {
    let mut stdin = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    stdin.write_all(bytes).await?;
    stdin.shutdown().await
}

/// A command of this program that runs as the server's user, without any capability.
pub fn server_command(arguments: &[&str]) -> anyhow::Result<Command> {
    let (uid, gid) = server_user()?;
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0("bastide")
        .args(arguments)
        .uid(uid)
        .gid(gid)
        .current_dir("/");
    Ok(command)
}

/// Returns the server's user and group, making them on the first call on a host.
pub fn server_user() -> anyhow::Result<(u32, u32)> {
    if let Some(found) = lookup(USER)? {
        return Ok(found);
    }
    let status = std::process::Command::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            USER,
        ])
        .status()
        .context("could not run `useradd`")?;
    anyhow::ensure!(status.success(), "`useradd {USER}` failed: {status}");
    lookup(USER)?.with_context(|| format!("user `{USER}` is still missing"))
}

fn lookup(user: &str) -> anyhow::Result<Option<(u32, u32)>> {
    let text = std::fs::read_to_string("/etc/passwd").context("could not read `/etc/passwd`")?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(user));
    let Some(line) = line else { return Ok(None) };
    let fields: Vec<_> = line.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
    Ok(number(2).zip(number(3)))
}

/// Returns this host's name.
pub fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("could not read the host's name")?;
    Ok(name
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_lowercase())
}

/// Returns the address that this host most likely has for others: the source of its default route.
pub fn likely_address() -> anyhow::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("could not open a socket")?;
    // Nothing is sent: connecting only asks the kernel which source it would use.
    let to = SocketAddr::from(([192, 0, 2, 1], 9));
    let source = socket.connect(to).and_then(|()| socket.local_addr());
    source.map(|address| address.ip()).map_err(|_| {
        Failure::new(Exit::Usage, "this host has no route to other machines")
            .hint("name the address at which they reach it with `--public ADDRESS`")
            .into()
    })
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Stops the units that [`Running`] installed, where systemd runs: nothing starts the daemons again.
pub async fn stop_units() -> anyhow::Result<()> {
    if !has_systemd() {
        return Ok(());
    }
    for name in [AGENT_UNIT_NAME, SERVER_UNIT_NAME] {
        if Path::new(UNITS).join(name).exists() {
            systemctl(&["disable", "--now", name]).await?;
        }
    }
    Ok(())
}

/// Removes the units that [`Running`] installed, where systemd runs.
pub async fn remove_units() -> anyhow::Result<()> {
    if !has_systemd() {
        return Ok(());
    }
    for name in [AGENT_UNIT_NAME, SERVER_UNIT_NAME] {
        let path = Path::new(UNITS).join(name);
        if path.exists() {
            std::fs::remove_file(&path)
                .with_context(|| format!("could not delete `{}`", path.display()))?;
            output::note(format!("removed: {name}"));
        }
    }
    systemctl(&["daemon-reload"]).await
}

async fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("systemctl").args(arguments).status().await;
    let status = status.context("could not run `systemctl`")?;
    anyhow::ensure!(
        status.success(),
        "`systemctl {}` failed: {status}",
        arguments.join(" ")
    );
    Ok(())
}

async fn start_unit(name: &str, text: &str) -> anyhow::Result<()> {
    let path = Path::new(UNITS).join(name);
    let is_news = std::fs::read_to_string(&path).map_or(true, |known| known != text);
    if is_news {
        file::write_public(&path, text.as_bytes())
            .with_context(|| format!("could not write `{}`", path.display()))?;
        systemctl(&["daemon-reload"]).await?;
    }
    systemctl(&["enable", name]).await?;
    // What runs already goes on, unless it is to run otherwise.
    let started = systemctl(&[if is_news { "restart" } else { "start" }, name]).await;
    started.map_err(|error| {
        Failure::new(Exit::Failed, format!("{name} did not start: {error:#}"))
            .hint(format!("see why: `journalctl -u {name} -n 50`"))
    })?;
    output::note(format!("{name} is enabled"));
    Ok(())
}

/// This program, as a unit can start it.
fn program_of_units() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("could not find this program")?;
    if units::can_start(&program) {
        return Ok(program);
    }
    let program = program.display();
    let what =
        format!("the units are shut out of homes and of `/tmp`, and this program is `{program}`");
    Err(Failure::new(Exit::Usage, what)
        .hint(format!(
            "install it first: `sudo install {program} /usr/local/bin/`"
        ))
        .into())
}

/// Where systemd finds the units of this host's administrator.
const UNITS: &str = "/etc/systemd/system";
const SERVER_UNIT_NAME: &str = "bastide-server.service";
const AGENT_UNIT_NAME: &str = "bastide-agent.service";
