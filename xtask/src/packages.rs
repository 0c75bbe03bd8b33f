//! System packages: what is missing, and installing it without starting anything.

mod policy;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::workspace::{find_program, must, status};
use crate::{root, say};

/// A program that a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The program that shows whether it is there.
    pub program: &'static str,
    /// The Debian packages that bring it; the first that this release knows is taken.
    pub packages: &'static [&'static str],
    /// What for.
    pub purpose: &'static str,
}

const fn need(
    program: &'static str,
    packages: &'static [&'static str],
    purpose: &'static str,
) -> Need {
    Need {
        program,
        packages,
        purpose,
    }
}

/// What the demo needs. A C compiler is not among it: without one, no Rust program links.
pub const DEMO: &[Need] = &[
    need(
        "dockerd",
        &["docker.io"],
        "the container engine of each of the demo's hosts",
    ),
    need(
        "docker",
        &["docker-cli", "docker.io"],
        "asks those engines from outside Bastide",
    ),
    need("iptables", &["iptables"], "those engines' firewall"),
    need("nft", &["nftables"], "Bastide's firewall"),
    need(
        "ping",
        &["iputils-ping"],
        "tests the mesh from outside Bastide",
    ),
];

/// What the tests need besides.
pub const TESTS: &[Need] = &[
    need(
        "musl-gcc",
        &["musl-tools"],
        "makes the static program that a lab's engines run",
    ),
    need(
        "ip",
        &["iproute2"],
        "makes and looks at networks from outside Bastide",
    ),
    need(
        "nsenter",
        &["util-linux"],
        "runs the tests' engines in their networks",
    ),
    need("sysctl", &["procps"], "looks at the kernel's settings"),
    need(
        "wireguard-go",
        &["wireguard-go"],
        "another WireGuard to speak with ours",
    ),
    need("wg", &["wireguard-tools"], "judges our WireGuard's socket"),
    need(
        "dig",
        &["bind9-dnsutils", "dnsutils"],
        "judges our name server",
    ),
    need("openssl", &["openssl"], "judges our certificates and TLS"),
    need(
        "systemd-analyze",
        &["systemd"],
        "judges our units, and runs them",
    ),
    need("swtpm", &["swtpm"], "a TPM for the seal that needs one"),
    need("strace", &["strace"], "kills `down` at its every step"),
    need("curl", &["curl"], "asks the server's socket on its host"),
    need("oathtool", &["oathtool"], "judges our one-time passwords"),
    need("zbarimg", &["zbar-tools"], "reads our QR codes"),
    need("script", &["bsdutils"], "gives `exec` a terminal"),
    need(
        "sshd",
        &["openssh-server"],
        "lets people in on the tests' hosts",
    ),
    need(
        "ssh-keygen",
        &["openssh-client"],
        "judges our certificates and revocation lists",
    ),
    need("slapd", &["slapd"], "a directory that people log in by"),
    need(
        "/usr/lib/python3/dist-packages/jwt/__init__.py",
        &["python3-jwt"],
        "signs tokens that logins are tried with",
    ),
];

/// What the bench needs besides.
pub const BENCH: &[Need] = &[
    need("ip", &["iproute2"], "makes the two networks"),
    need("ping", &["iputils-ping"], "measures latency"),
    need("iperf3", &["iperf3"], "measures throughput"),
    need("tincd", &["tinc"], "a peer to compare with"),
    need("wireguard-go", &["wireguard-go"], "a peer to compare with"),
    need("wg", &["wireguard-tools"], "sets the peers up"),
];

/// What fuzzing needs besides.
pub const FUZZ: &[Need] = &[need("g++", &["g++"], "compiles the fuzzer itself")];

/// What shipping needs besides.
pub const SHIP: &[Need] = &[need(
    "musl-gcc",
    &["musl-tools"],
    "compiles C for a static binary",
)];

/// Installs what is missing of `needs`, as root; says what for.
pub fn ensure_installed(needs: &[&[Need]]) -> anyhow::Result<()> {
    let missing = missing(needs, |program| find_program(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    say::note("missing on this machine:");
    for need in &missing {
        say::note(&format!("  {:<14} {}", need.program, need.purpose));
    }
    if find_program("apt-get").is_none() {
        let programs: Vec<_> = missing.iter().map(|need| need.program).collect();
        bail!(
            "this is no Debian: please install {} yourself",
            programs.join(", ")
        );
    }
    if !root::is_root() {
        say::note("asking sudo for root, to install them with apt");
    }
    let choices = missing.iter().map(|need| need.packages.join("|"));
    let own = std::env::current_exe().context("could not find this program")?;
    must(root::command(own)?.arg("install").args(choices))?;
    for need in missing {
        ensure!(
            find_program(need.program).is_some(),
            "`{}` is still missing after its package was installed",
            need.program
        );
    }
    Ok(())
}

/// Returns the needs that are not met, each program once.
fn missing(needs: &[&[Need]], is_there: impl Fn(&str) -> bool) -> Vec<Need> {
    let mut missing: Vec<Need> = Vec::new();
    for need in needs.iter().copied().flatten() {
        let is_known = missing.iter().any(|known| known.program == need.program);
        if !is_known && !is_there(need.program) {
            missing.push(*need);
        }
    }
    missing
}

/// Installs packages, given as alternatives `a|b`, with the start of services suppressed. The engine
/// of this machine, if this installs one, is neither started now nor at the next boot.
pub fn install_as_root(choices: &[String]) -> anyhow::Result<()> {
    ensure!(root::is_root(), "`install` must run as root");
    ensure!(!choices.is_empty(), "no package named");
    let had = |program: &str| find_program(program).is_some();
    let (had_docker, had_containerd) = (had("dockerd"), had("containerd"));
    let suppressed = policy::suppress_services(Path::new("/usr/sbin"))?;
    if chosen(choices, is_known).is_err() {
        // The lists were never fetched on this machine.
        update()?;
    }
    let packages = chosen(choices, is_known)?;
    if !install(&packages)? {
        // Lists that are too old name files that are gone.
        update()?;
        ensure!(
            install(&packages)?,
            "apt-get could not install {}",
            packages.join(" ")
        );
    }
    drop(suppressed);
    if had("systemctl") {
        if !had_docker && had("dockerd") {
            disable(&["docker.service", "docker.socket"])?;
            say::note("Docker is installed, not started: `systemctl enable --now docker` does it");
        }
        if !had_containerd && had("containerd") {
            disable(&["containerd.service"])?;
        }
    }
    Ok(())
}

/// Keeps services that were installed a moment ago from starting at the next boot.
fn disable(units: &[&str]) -> anyhow::Result<()> {
    must(
        Command::new("systemctl")
            .args(["--quiet", "disable"])
            .args(units),
    )
}

/// Picks of each choice `a|b` the first package that is known.
fn chosen(choices: &[String], is_known: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let mut packages: Vec<String> = Vec::new();
    for choice in choices {
        let package = choice.split('|').find(|package| is_known(package));
        let package = package.with_context(|| format!("apt knows no package `{choice}`"))?;
        if !packages.iter().any(|known| known == package) {
            packages.push(package.to_owned());
        }
    }
    Ok(packages)
}

fn is_known(package: &str) -> bool {
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions", package])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    show.status().is_ok_and(|status| status.success())
}

fn update() -> anyhow::Result<()> {
    must(apt_get().arg("update"))
}

fn install(packages: &[String]) -> anyhow::Result<bool> {
    let mut install = apt_get();
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    Ok(status(&mut install)?.success())
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .args([
            "--quiet",
            "--quiet",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
    apt_get
}
