//! The lab with its three hosts, and what is done on them: by commands, as a user would.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bastide_api::status::Status;
use bastide_lab::run::Process;
use bastide_lab::run::sweep::Removed;
use bastide_lab::{Lab, Plan};
use bastide_linux::spawn::{Command, Stdio};

use super::report::Report;
use super::{
    CLUSTER, CONTROLLER_ADDRESS, HEARTBEAT_MS, PLACES, Place, REBALANCE_AFTER_S, STACK,
    expect_success, until,
};
use crate::verbs::lab as lab_verb;

/// The network of the demo: an example that users may copy.
const TOPOLOGY: &str = include_str!("../../../../examples/three-sites.yaml");
/// The compose file of the demo.
const COMPOSE: &str = include_str!("../../../../examples/hello/compose.yaml");
/// Where the demo's compose file lies on the controller.
const COMPOSE_PATH: &str = "/root/hello/compose.yaml";
/// How long a ticket may take to be printed.
const TICKET_WITHIN: Duration = Duration::from_secs(30);

/// The hosts, and what runs on them until the end.
pub struct Scene {
    lab: Lab,
    program: PathBuf,
    logs: PathBuf,
    running: std::sync::Mutex<Vec<Process>>,
}

/// What a command did.
pub struct Output {
    /// Whether it ended well.
    pub success: bool,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Removes what earlier labs and demos left behind.
pub fn sweep() -> anyhow::Result<Vec<Removed>> {
    Ok(bastide_lab::sweep(Path::new(lab_verb::STATE_ROOT))?)
}

impl Scene {
    /// Brings the lab up.
    pub fn up() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("could not find this program")?;
        let plan = Plan::parse(TOPOLOGY).context("the demo's own topology is wrong")?;
        let lab = Lab::up(plan, &lab_verb::options()?)?;
        let logs = Path::new(lab_verb::STATE_ROOT)
            .join(lab.plan().name().as_str())
            .join("logs");
        fs::create_dir_all(&logs)
            .with_context(|| format!("could not make `{}`", logs.display()))?;
        Ok(Self {
            lab,
            program,
            logs,
            running: std::sync::Mutex::default(),
        })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Runs a command on a host to its end.
    pub fn run(&self, host: &str, words: &[&str], input: Option<&[u8]>) -> anyhow::Result<Output> {
        let (program, arguments) = words.split_first().context("a command has a name")?;
        let mut command = Command::new(program);
        command.args(arguments.iter().copied());
        let output = self.lab.output(host, command, input.unwrap_or_default())?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs this program on a host to its end.
    fn bastide(&self, host: &str, words: &[&str]) -> anyhow::Result<Output> {
        let program = self.program.to_string_lossy().into_owned();
        let words: Vec<_> = std::iter::once(program.as_str())
            .chain(words.iter().copied())
            .collect();
        self.run(host, &words, None)
    }

    /// Starts a program that runs until the end, its output in a log of that name.
    fn start(&self, host: &str, name: &str, mut command: Command) -> anyhow::Result<Started> {
        let path = self.logs.join(format!("{host}-{name}.log"));
        let log =
            File::create(&path).with_context(|| format!("could not make `{}`", path.display()))?;
        command.stderr(Stdio::File(log.into()));
        let mut process = self.lab.spawn(host, command)?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        self.running
            .lock()
            .expect("nothing panics with this lock")
            .push(process);
        Ok(Started {
            stdin,
            stdout,
            log: path,
        })
    }

    /// Starts a host's container engine.
    pub fn start_engine(&self, host: &str) -> anyhow::Result<()> {
        let mut command = Command::new("dockerd");
        // The lab's hosts may not lower a process's score, nor need to.
        command.args(["--oom-score-adjust", "0", "--storage-driver", "overlay2"]);
        command.stdin(Stdio::Null).stdout(Stdio::Null);
        self.start(host, "engine", command).map(drop)
    }

    /// `bastide up` on the first host; returns the ticket that it prints.
    pub fn up_first(&self) -> anyhow::Result<String> {
        let place = &PLACES[0];
        let mut command = Command::new(&self.program);
        command
            .args([
                "up",
                "--foreground",
                "--cluster",
                CLUSTER,
                "--site",
                place.site,
            ])
            .args(["--public", CONTROLLER_ADDRESS])
            .arg("--swarm-heartbeat-ms")
            .arg(HEARTBEAT_MS.to_string())
            .arg("--rebalance-after-s")
            .arg(REBALANCE_AFTER_S.to_string())
            .stdin(Stdio::Null)
            .stdout(Stdio::Pipe);
        let started = self.start(place.host, "bastide", command)?;
        let stdout = started.stdout.context("its output is a pipe")?;
        let mut ticket = String::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody waits any more once the deadline has passed.
            let _ = sender.send(read.map(|_| line));
        });
        if let Ok(line) = receiver.recv_timeout(TICKET_WITHIN) {
            ticket = line.context("could not read the ticket")?;
        }
        if ticket.trim().is_empty() {
            bail!(
                "`bastide up` printed no ticket: {}",
                last_lines(&started.log)
            );
        }
        Ok(ticket.trim().to_owned())
    }

    /// `bastide ticket` on the first host.
    pub fn ticket(&self) -> anyhow::Result<String> {
        let output = self.bastide(PLACES[0].host, &["ticket"])?;
        expect_success("bastide ticket", &output)?;
        Ok(output.stdout.trim().to_owned())
    }

    /// `bastide join -` on a host, given a ticket; returns when that host is a node.
    pub fn join(&self, place: &Place, ticket: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut command = Command::new(&self.program);
        command
            .args(["join", "-", "--foreground", "--site", place.site])
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Null);
        let mut started = self.start(place.host, "bastide", command)?;
        let mut stdin = started.stdin.take().context("its input is a pipe")?;
        stdin
            .write_all(ticket.as_bytes())
            .context("could not hand over the ticket")?;
        drop(stdin);
        until(TICKET_WITHIN, "the new node", || {
            Ok(self.status(place.host).is_ok())
        })
        .with_context(|| {
            format!(
                "`bastide join -` on {}: {}",
                place.host,
                last_lines(&started.log)
            )
        })
    }

    /// `bastide status --json` on a host.
    pub fn status(&self, host: &str) -> anyhow::Result<Status> {
        let output = self.bastide(host, &["status", "--json"])?;
        expect_success("bastide status", &output)?;
        serde_json::from_str(&output.stdout).context("the status cannot be read")
    }

    /// Whether a host gets an answer from the mesh address of every other.
    pub fn pings_all(&self, host: &str, status: &Status) -> anyhow::Result<bool> {
        for node in status.nodes.iter().filter(|node| node.id != status.node) {
            let address = node.address.to_string();
            let output = self.run(host, &["ping", "-n", "-c1", "-W1", &address], None)?;
            if !output.success {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `docker load` on a host: what `docker build` would have left there.
    pub fn load_image(&self, host: &str, archive: &[u8]) -> anyhow::Result<()> {
        let output = self.run(host, &["docker", "load", "--quiet"], Some(archive))?;
        expect_success("docker load", &output)
    }

    /// `bastide deploy` of the example on a host; returns when all its replicas are healthy.
    pub fn deploy(&self, host: &str) -> anyhow::Result<()> {
        let folder = Path::new(COMPOSE_PATH)
            .parent()
            .context("the path has a folder")?;
        let folder = folder.to_string_lossy();
        expect_success("mkdir", &self.run(host, &["mkdir", "-p", &folder], None)?)?;
        let written = self.run(host, &["tee", COMPOSE_PATH], Some(COMPOSE.as_bytes()))?;
        expect_success("tee", &written)?;
        let output = self.bastide(host, &["deploy", COMPOSE_PATH, "--name", STACK])?;
        expect_success("bastide deploy", &output)
    }

    /// Runs a container of the example's image beside the service, on the cluster's network.
    pub fn run_container(&self, host: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        // By digest, as every node knows it: a tag is this host's own affair.
        let format = "{{.Repository}}@{{.Digest}}";
        let images = self.run(
            host,
            &["docker", "images", "--digests", "--format", format],
            None,
        )?;
        expect_success("docker images", &images)?;
        let image = images
            .stdout
            .lines()
            .find(|line| line.contains("/hello@sha256:"))
            .with_context(|| format!("{host} has no image of the service"))?;
        let search = format!("{STACK}.{CLUSTER}.internal");
        let mut words = vec![
            "docker",
            "run",
            "--rm",
            "--network",
            "bastide",
            "--cap-drop",
            "ALL",
        ];
        // Engines write `ndots:0`, with which musl asks for short names as they are.
        words.extend(["--dns-option", "ndots:1"]);
        words.extend(["--dns", "100.72.0.53", "--dns-search", &search, image]);
        words.extend(arguments);
        self.run(host, &words, None)
    }

    /// Cuts a host's uplink.
    pub fn cut(&self, host: &str) -> anyhow::Result<()> {
        Ok(self.lab.cut(&format!("{host}/eth0"))?)
    }

    /// Heals it.
    pub fn heal(&self, host: &str) -> anyhow::Result<()> {
        Ok(self.lab.heal(&format!("{host}/eth0"))?)
    }

    /// Leaves everything running, and tells how to look around in it.
    pub fn keep(self, report: &Report) -> anyhow::Result<()> {
        // The lab keeps its own file beside its state, and takes it along when it ends.
        let folder = Path::new(lab_verb::STATE_ROOT).join(self.lab.plan().name().as_str());
        let file = folder.join("lab.yaml");
        let (file, program) = (file.display(), self.program.display());
        report.note("everything stays up; look around with");
        for place in &PLACES {
            let host = place.host;
            report.note(format!(
                "  {program} lab exec {file} {host} -- {program} status"
            ));
        }
        report.note(format!(
            "  {program} lab exec {file} atlas -- docker node ls"
        ));
        report.note(format!("  {program} lab exec {file} boreas -- bash"));
        report.note("and take it down with");
        report.note(format!("  {program} lab down {file}"));
        for process in self
            .running
            .into_inner()
            .expect("nothing panics with this lock")
        {
            process.leave();
        }
        Ok(self.lab.keep()?)
    }

    /// Copies the hosts' logs to where they outlive the lab.
    pub fn save_logs(&self) -> anyhow::Result<PathBuf> {
        let folder = std::env::temp_dir().join("bastide-demo-logs");
        fs::create_dir_all(&folder).context("could not make a folder for the logs")?;
        for entry in fs::read_dir(&self.logs)
            .context("could not list the logs")?
            .flatten()
        {
            fs::copy(entry.path(), folder.join(entry.file_name()))
                .context("could not copy a log")?;
        }
        Ok(folder)
    }

    /// Takes everything down.
    pub fn down(self) -> anyhow::Result<()> {
        ensure!(
            fs::remove_dir_all(&self.logs).is_ok(),
            "the logs could not be removed"
        );
        drop(self.running);
        self.lab.down()?;
        Ok(())
    }
}

/// A program that runs until the end.
struct Started {
    stdin: Option<File>,
    stdout: Option<File>,
    log: PathBuf,
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
