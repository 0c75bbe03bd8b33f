//! Namespaces with wires between them, without engines.

use std::process::{Command, Output, Stdio};

use bastide_linux::namespace::{Namespace, within};

/// A network namespace, which goes away with this.
pub struct Net(pub Namespace);

impl Net {
    /// Makes one, with its loopback up.
    pub fn new() -> Self {
        let (namespace, ()) = Namespace::new_network(|| ()).unwrap();
        let net = Self(namespace);
        net.run("ip link set lo up");
        net
    }

    /// Runs a command inside, which must succeed, and returns what it printed.
    pub fn run(&self, command: &str) -> String {
        let output = self.output(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "`{command}`: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command inside.
    pub fn output(&self, command: &str) -> Output {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::null());
        self.inside(|| command.output().unwrap())
    }

    /// Does `work` inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&[&self.0], work).unwrap()
    }

    /// Lays a wire to `other`: `name` here, `there` at the other end, both up.
    pub fn wire(&self, name: &str, other: &Self, there: &str) {
        use std::os::fd::{AsFd, AsRawFd};
        let pid = std::process::id();
        let target = format!("/proc/{pid}/fd/{}", other.0.as_fd().as_raw_fd());
        self.run(&format!(
            "ip link add {name} type veth peer name {there} netns {target}"
        ));
        self.run(&format!("ip link set {name} up"));
        other.run(&format!("ip link set {there} up"));
    }
}
