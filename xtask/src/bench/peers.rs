//! What is compared: how each peer makes a tunnel between the two ends.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::network::{Daemon, End, Network};
use crate::workspace::{must, output};

const READY_WITHIN: Duration = Duration::from_secs(20);
/// The inner address that is measured; end one has `.1`.
pub const INNER: &str = "10.77.0.2";
const MTU: u16 = 1420;

/// A way to join two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The bare cable.
    Raw,
    /// tinc 1.0, the mesh of the field.
    Tinc,
    /// WireGuard in userspace, by its authors.
    WireguardGo,
    /// `bastide wg`.
    Bastide,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Tinc, Self::WireguardGo, Self::Bastide];

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tinc => "tinc",
            Self::WireguardGo => "wireguard-go",
            Self::Bastide => "bastide",
        }
    }

    /// Joins the two ends.
    pub fn start(self, network: &Network, bastide: &Path) -> anyhow::Result<Tunnel> {
        let mut tunnel = match self {
            Self::Raw => Tunnel::bare(End::Two.address()),
            Self::Tinc => tinc(network)?,
            Self::WireguardGo => wireguard(network, |end, name| {
                let mut command = network.command(end, "wireguard-go");
                command.args(["-f", name]).env("LOG_LEVEL", "error");
                command
            })?,
            Self::Bastide => wireguard(network, |end, name| {
                let mut command = network.command(end, bastide);
                command.args(["wg", "-f", name]);
                command
            })?,
        };
        wait(self.name(), &mut tunnel.daemons, || {
            let mut ping = network.command(End::One, "ping");
            ping.args(["-c", "1", "-W", "1", &tunnel.to])
                .stdout(Stdio::null());
            ping.status().is_ok_and(|status| status.success())
        })?;
        Ok(tunnel)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|peer| peer.name() == text);
        found.with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no peer: {names}")
        })
    }
}

/// Two ends that reach each other.
#[derive(Debug)]
pub struct Tunnel {
    /// The address of end two inside.
    pub to: String,
    /// The processes that carry it.
    pub daemons: Vec<Daemon>,
    folder: Option<PathBuf>,
}

impl Tunnel {
    fn bare(to: String) -> Self {
        Self {
            to,
            daemons: Vec::new(),
            folder: None,
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.daemons.clear();
        if let Some(folder) = &self.folder {
            // Only throw-away keys are in it.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn wireguard(network: &Network, command: impl Fn(End, &str) -> Command) -> anyhow::Result<Tunnel> {
    let mut tunnel = Tunnel::bare(INNER.to_owned());
    let name = |end: End| format!("xb{}n{}", std::process::id() % 1_000_000, end.number());
    let mut keys = Vec::new();
    for end in End::BOTH {
        tunnel
            .daemons
            .push(Daemon::start(&mut command(end, &name(end)))?);
        let private = output(Command::new("wg").arg("genkey"))?;
        let public = fed(
            Command::new("wg").arg("pubkey").stdout(Stdio::piped()),
            &private,
        )?;
        keys.push((private, public.trim().to_owned()));
    }
    for end in End::BOTH {
        let name = name(end);
        let socket = PathBuf::from(format!("/run/wireguard/{name}.sock"));
        wait(&name, &mut tunnel.daemons, || {
            network.has_interface(end, &name) && socket.exists()
        })?;
        let private = &keys[usize::from(end.number()) - 1].0;
        let public = &keys[usize::from(end.other().number()) - 1].1;
        let mut set = network.command(end, "wg");
        set.args([
            "set",
            &name,
            "listen-port",
            "51820",
            "private-key",
            "/dev/stdin",
        ]);
        set.args(["peer", public, "allowed-ips", "10.77.0.0/24", "endpoint"]);
        set.arg(format!("{}:51820", end.other().address()));
        fed(&mut set, private)?;
        network.address(end, &name, &format!("10.77.0.{}/24", end.number()), MTU)?;
    }
    Ok(tunnel)
}

fn tinc(network: &Network) -> anyhow::Result<Tunnel> {
    let folder = std::env::temp_dir().join(format!("xtask-tinc-{}", std::process::id()));
    let mut tunnel = Tunnel::bare(INNER.to_owned());
    tunnel.folder = Some(folder.clone());
    let of = |end: End| folder.join(end.number().to_string());
    for end in End::BOTH {
        let number = end.number();
        let hosts = of(end).join("hosts");
        fs::create_dir_all(&hosts).context("could not make tinc's folder")?;
        let mut config = format!("Name = n{number}\nDeviceType = tun\nInterface = tinc{number}\n");
        if end == End::One {
            config.push_str("ConnectTo = n2\n");
        }
        fs::write(of(end).join("tinc.conf"), config).context("could not write tinc.conf")?;
        let host = format!(
            "Address = {}\nSubnet = 10.77.0.{number}/32\n",
            end.address()
        );
        fs::write(hosts.join(format!("n{number}")), host).context("could not write a host")?;
        let mut keys = Command::new("tincd");
        keys.arg("-c")
            .arg(of(end))
            .arg("-K2048")
            .stdin(Stdio::null());
        must(keys.stdout(Stdio::null()).stderr(Stdio::null()))?;
    }
    for end in End::BOTH {
        let file = format!("hosts/n{}", end.number());
        fs::copy(of(end).join(&file), of(end.other()).join(&file))
            .context("could not exchange tinc's hosts")?;
    }
    for end in End::BOTH {
        let mut tincd = network.command(end, "tincd");
        tincd
            .args(["-D", "-c"])
            .arg(of(end))
            .arg("--pidfile")
            .arg(of(end).join("pid"));
        tunnel.daemons.push(Daemon::start(&mut tincd)?);
        let name = format!("tinc{}", end.number());
        wait(&name, &mut tunnel.daemons, || {
            network.has_interface(end, &name)
        })?;
        network.address(end, &name, &format!("10.77.0.{}/24", end.number()), MTU)?;
    }
    Ok(tunnel)
}

/// Waits until `is_ready`, while the daemons run.
fn wait(
    what: &str,
    daemons: &mut [Daemon],
    mut is_ready: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_ready() {
        for daemon in daemons.iter_mut() {
            daemon
                .ensure_runs()
                .with_context(|| format!("{what} does not start"))?;
        }
        if READY_WITHIN < began.elapsed() {
            bail!("{what} is not ready after {} s", READY_WITHIN.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a command, gives it `text` on standard input and returns what it printed.
fn fed(command: &mut Command, text: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .context("could not run wg")?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin
        .write_all(text.as_bytes())
        .context("could not write to wg")?;
    drop(stdin);
    let output = child.wait_with_output().context("could not wait for wg")?;
    ensure!(output.status.success(), "wg failed: {}", output.status);
    String::from_utf8(output.stdout).context("wg printed no text")
}
