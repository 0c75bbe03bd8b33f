//! Clocks that tests set, for some processes each.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bastide_linux::spawn::Command;

use crate::site::{ATLAS, BASTIDE, Folder, Site, Started, bastide, skip, until};

/// An hour in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
/// A year in milliseconds.
pub const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// Tells whether the program obeys clocks that tests set.
pub fn can_set_clocks() -> bool {
    if !cfg!(feature = "clock-shift") {
        skip("the feature clock-shift, which `cargo xtask test` builds with,");
    }
    cfg!(feature = "clock-shift")
}

/// What the clocks of some processes show, more or less than the host's. A change is seen at once.
pub struct TestClock {
    path: PathBuf,
    wall_ms: Cell<i64>,
    passed_ms: Cell<u64>,
    boots: Cell<u32>,
}

impl TestClock {
    /// The variable that names the file, for programs that are built for tests.
    pub const VARIABLE: &str = "BASTIDE_TEST_CLOCK";

    /// A clock that shows what the host's does.
    pub fn new(folder: &Folder) -> Self {
        Self::named(folder, "clock")
    }

    /// The same, one of several.
    pub fn named(folder: &Folder, name: &str) -> Self {
        let clock = Self {
            path: folder.0.join(name),
            wall_ms: Cell::new(0),
            passed_ms: Cell::new(0),
            boots: Cell::new(0),
        };
        clock.write();
        clock
    }

    /// Where the processes find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command of the program, by this clock.
    pub fn bastide(&self, words: &[&str]) -> Command {
        let mut command = bastide(words);
        command.env(Self::VARIABLE, &self.path);
        command
    }

    /// A command of the program, by this clock, ended after a minute.
    pub fn bounded(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["60", BASTIDE].iter().chain(words).copied());
        command.env(Self::VARIABLE, &self.path);
        command
    }

    /// `bastide up` on atlas, by this clock; returns when it has given a ticket.
    pub fn up(&self, site: &mut Site) -> Started {
        let words = ["up", "--foreground", "--cluster", "test", "--public", ATLAS];
        let command = self.bastide(&[&words[..], &["--site", "cloud"]].concat());
        let started = site.start("atlas", command, "");
        started.line("a ticket");
        started
    }

    /// `bastide join -` on a host, by this clock; returns when the host is a node.
    pub fn join(&self, site: &mut Site, host: &str, options: &[&str]) -> Started {
        let ticket = site.bastide("atlas", &["ticket"]);
        let words = ["join", "-", "--foreground", "--site", host];
        let command = self.bastide(&[&words[..], options].concat());
        let started = site.start(host, command, &ticket);
        until("the new node", || site.status(host).is_some());
        started
    }

    /// The agent of a host that is a node, by this clock; returns when it answers.
    pub fn agent(&self, site: &mut Site, host: &str) -> Started {
        let started = site.start(host, self.bastide(&["agent"]), "");
        until("the agent", || site.status(host).is_some());
        started
    }

    /// Sets the wall clock to this much more than the time that has passed.
    pub fn set_wall(&self, ahead_ms: i64) {
        self.wall_ms.set(ahead_ms);
        self.write();
    }

    /// Lets time pass, on all clocks.
    pub fn pass(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap();
        self.passed_ms.set(self.passed_ms.get() + time);
        self.write();
    }

    /// What starts from now on starts in another boot of its host.
    pub fn boot_again(&self) {
        self.boots.set(self.boots.get() + 1);
        self.write();
    }

    fn write(&self) {
        let boot = match self.boots.get() {
            0 => "-".to_owned(),
            number => format!("boot-{number}"),
        };
        let text = format!("{} {} {boot}", self.wall_ms.get(), self.passed_ms.get());
        // In place, and always as long: a host of the lab sees what is beneath its own files, and
        // would keep a file that was replaced.
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .unwrap();
        file.write_all(format!("{text:<80}").as_bytes()).unwrap();
    }
}
