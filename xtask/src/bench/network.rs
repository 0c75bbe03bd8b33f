//! Two networks joined by one cable, and commands in them.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use crate::workspace::{must, output};

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// 198.18.0.1
    One,
    /// 198.18.0.2
    Two,
}

impl End {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }

    /// Its address on the cable (RFC 2544 sets this range aside for benches).
    pub fn address(self) -> String {
        format!("198.18.0.{}", self.number())
    }
}

/// The two networks; gone when dropped.
#[derive(Debug)]
pub struct Network {
    namespaces: [String; 2],
}

impl Network {
    /// Makes them.
    pub fn up() -> anyhow::Result<Self> {
        let name = |end: End| format!("xtask-{}-{}", std::process::id(), end.number());
        let network = Self {
            namespaces: End::BOTH.map(name),
        };
        for namespace in &network.namespaces {
            must(Command::new("ip").args(["netns", "add", namespace]))?;
        }
        let [one, two] = &network.namespaces;
        let cable = ["link", "add", "cable", "netns", one, "type", "veth"];
        must(
            Command::new("ip")
                .args(cable)
                .args(["peer", "name", "cable", "netns", two]),
        )?;
        for end in End::BOTH {
            network.address(end, "cable", &format!("{}/24", end.address()), 1500)?;
            network.ip(end, &["link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Gives an interface an address and sets it up.
    pub fn address(&self, end: End, name: &str, address: &str, mtu: u16) -> anyhow::Result<()> {
        self.ip(end, &["address", "add", address, "dev", name])?;
        self.ip(end, &["link", "set", name, "mtu", &mtu.to_string(), "up"])
    }

    /// Returns a command that runs at one end.
    pub fn command(&self, end: End, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.namespace(end)])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Returns whether an interface is there.
    pub fn has_interface(&self, end: End, name: &str) -> bool {
        output(Command::new("ip").args(["-n", self.namespace(end), "link", "show", "dev", name]))
            .is_ok()
    }

    fn namespace(&self, end: End) -> &str {
        match end {
            End::One => &self.namespaces[0],
            End::Two => &self.namespaces[1],
        }
    }

    fn ip(&self, end: End, words: &[&str]) -> anyhow::Result<()> {
        must(
            Command::new("ip")
                .args(["-n", self.namespace(end)])
                .args(words),
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // What was never made cannot be deleted; what stays is named after this process.
            let mut delete = Command::new("ip");
            let _ = delete
                .args(["netns", "delete", namespace])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A process that ends when dropped.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Starts it, without a voice.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(
            quiet
                .spawn()
                .with_context(|| format!("could not run {command:?}"))?,
        ))
    }

    /// Fails if it has ended.
    pub fn ensure_runs(&mut self) -> anyhow::Result<()> {
        let ended = self.0.try_wait().context("could not look at a process")?;
        ensure!(ended.is_none(), "a process ended early");
        Ok(())
    }

    /// Returns the processor time it has used, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        let stat = stat.unwrap_or_default();
        // Fields count from behind the name, which may hold blanks (proc_pid_stat(5): 14 and 15).
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
