//! What the tests share.

#![expect(clippy::print_stderr, reason = "a skipped test says so aloud")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bastide_lab::{Lab, Options, Plan};
use bastide_linux::spawn::Command;

/// Long enough for anything that works, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Tells whether a test may run: as root, and with these programs at hand.
pub fn can_run(programs: &[&str]) -> bool {
    let mut missing: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    let path = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    for program in programs {
        if !path
            .iter()
            .any(|folder| PathBuf::from(folder).join(program).exists())
        {
            missing.push(program);
        }
    }
    for what in &missing {
        eprintln!("skipped: {what} is missing");
    }
    missing.is_empty()
}

/// A state folder of a test's own, removed when this is dropped.
pub struct Root(pub PathBuf);

impl Root {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bl-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn options(&self) -> Options {
        Options {
            state_root: self.0.clone(),
            program: env!("CARGO_BIN_EXE_bastide-lab-supervisor").into(),
            before: Vec::new(),
        }
    }

    pub fn up(&self, file: &str) -> Lab {
        Lab::up(Plan::parse(file).unwrap(), &self.options()).unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const THREE_SITES: &str = include_str!("../../../../examples/three-sites.yaml");

/// A shell command.
pub fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Runs a script in a node and returns what it wrote; fails the test if it fails.
pub fn run(lab: &Lab, node: &str, script: &str) -> String {
    let output = lab.output(node, sh(script), b"").unwrap();
    assert!(
        output.status.success(),
        "{node}: `{script}` failed: {}{}",
        output.text(),
        String::from_utf8_lossy(&output.stderr)
    );
    output.text()
}

/// Looks until `holds`, or fails the test.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "waited {SOON:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
