//! The integration tests of hvac, Vault's client for Python, against this program under the name
//! `vault`: each that is listed passes, and each that passes is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::site::{BASTIDE, Folder, skip};

/// Which sources: their tests come with them, and not with what is installed.
const VERSION: &str = "2.4.0";
/// What the tests import.
const NEEDED: &[&str] = &[
    "hvac==2.4.0",
    "pytest",
    "pytest-mock",
    "pytest-xdist",
    "pyhcl",
    "parameterized",
    "requests-mock",
    "jwcrypto",
    "Werkzeug",
    "Authlib",
    "semantic-version",
    "packaging<24",
];
/// The tests that pass, a line each.
const LISTED: &str = include_str!("hvac/passing.txt");

/// Python with what the tests need, and their sources.
struct Suite {
    python: PathBuf,
    sources: PathBuf,
}

impl Suite {
    /// Finds what an earlier run made, or makes it; `None`, and aloud, if that cannot be.
    fn find() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("bastide-test-hvac-suite-{VERSION}"));
        let this = Self {
            python: folder.join("venv/bin/python"),
            sources: folder.join(format!("hvac-{VERSION}")),
        };
        let is_ready = folder.join("ready");
        if is_ready.exists() {
            return Some(this);
        }
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let venv = folder.join("venv");
        if !run(Command::new("python3").args(["-m", "venv"]).arg(venv)) {
            skip("python3 with venv");
            return None;
        }
        let pip = |words: &[&str]| {
            let mut command = Command::new(&this.python);
            command.current_dir(&folder);
            run(command.args(["-m", "pip", "--quiet"]).args(words))
        };
        if !pip(&[&["install"], NEEDED].concat()) {
            skip("what the tests of hvac import (pip)");
            return None;
        }
        let sources = ["download", "--no-deps", "--no-binary", ":all:", NEEDED[0]];
        let archive = format!("hvac-{VERSION}.tar.gz");
        let mut unpack = Command::new("tar");
        unpack.current_dir(&folder).args(["-xzf", &archive]);
        if !pip(&sources) || !run(&mut unpack) {
            skip("the sources of hvac (pip)");
            return None;
        }
        std::fs::write(is_ready, "").unwrap();
        Some(this)
    }

    /// Runs all tests; returns what became of each.
    fn run(&self, folder: &Path) -> BTreeMap<String, String> {
        let programs = folder.join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(BASTIDE, programs.join("vault")).unwrap();
        // Tests write into their own tree.
        let sources = folder.join("hvac");
        let mut copy = Command::new("cp");
        assert!(run(copy.arg("-r").arg(&self.sources).arg(&sources)));
        let path = std::env::var("PATH").unwrap_or_default();
        let report = folder.join("report.tsv");
        let plugin = sources.join("tell_outcomes.py");
        std::fs::write(&plugin, include_str!("hvac/tell_outcomes.py")).unwrap();
        let output = Command::new(&self.python)
            .current_dir(&sources)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("OUTCOMES", &report)
            .env("PYTHONPATH", &sources)
            .args(["-m", "pytest", "tests/integration_tests", "-q", "--tb=line"])
            .args(["-p", "no:cacheprovider", "-p", "tell_outcomes"])
            .args(["-n", "2", "--dist", "loadscope"])
            .output()
            .unwrap();
        let Ok(text) = std::fs::read_to_string(&report) else {
            panic!("{}", String::from_utf8_lossy(&output.stdout));
        };
        let outcomes = text.lines().filter_map(|line| line.split_once('\t'));
        outcomes
            .map(|(outcome, test)| (test.to_owned(), outcome.to_owned()))
            .collect()
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn the_client_hvac_cannot_tell_this_server_from_vault() {
    let Some(suite) = Suite::find() else {
        return;
    };
    let folder = Folder::new();
    let outcomes = suite.run(&folder.0);
    let listed: BTreeSet<&str> = LISTED.lines().collect();
    let passed: BTreeSet<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == "passed")
        .map(|(test, _)| test.as_str())
        .collect();
    let lines = |tests: Vec<&&str>| {
        let lines = tests.iter().map(|test| {
            let outcome = outcomes.get(**test).map_or("missing", String::as_str);
            format!("\n  {test}: {outcome}")
        });
        lines.collect::<String>()
    };
    let broken = lines(listed.difference(&passed).collect());
    let new = lines(passed.difference(&listed).collect());
    assert!(broken.is_empty(), "listed, and do not pass:{broken}");
    assert!(
        new.is_empty(),
        "pass, and are not listed: list them in tests/it/hvac/passing.txt{new}"
    );
}
