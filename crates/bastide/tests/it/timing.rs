//! Clocks that tests set, for a process each.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::site::Folder;

/// An hour in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;

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

    /// Sets the wall clock to this much more than the time that has passed.
    pub fn set_wall(&self, ahead_ms: i64) {
        self.wall_ms.set(ahead_ms);
        self.write();
    }

    fn write(&self) {
        let boot = match self.boots.get() {
            0 => "-".to_owned(),
            number => format!("boot-{number}"),
        };
        let text = format!("{} {} {boot}\n", self.wall_ms.get(), self.passed_ms.get());
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &self.path).unwrap();
    }
}
