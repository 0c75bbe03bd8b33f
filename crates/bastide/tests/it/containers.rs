//! Containers on a site's hosts: one static program that does nothing, in whose network the test
//! itself opens sockets.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::OnceLock;

use bastide_linux::namespace::{self, Kind, Namespace};

use crate::site::{Folder, Site, processes, sh, skip, until};

const IDLE: &str = "fn main() { loop { std::thread::park() } }";

/// Builds the program, once; without the means for a static program, says so.
pub fn idle() -> Option<&'static [u8]> {
    static PROGRAM: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    PROGRAM.get_or_init(|| static_program(IDLE)).as_deref()
}

/// Builds a program that needs nothing beside it; without the means for that, says so.
pub fn static_program(source: &str) -> Option<Vec<u8>> {
    let folder = Folder::new();
    fs::write(folder.0.join("program.rs"), source).unwrap();
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition=2021", "-Cpanic=abort", "-Cstrip=symbols"])
        .args(["--target", &target, "-o", "program", "program.rs"])
        .current_dir(&folder.0)
        .output();
    if !built.is_ok_and(|output| output.status.success()) {
        skip("Rust's standard library for musl");
        return None;
    }
    Some(fs::read(folder.0.join("program")).unwrap())
}

/// Makes a program the image `name` of a host's engine.
pub fn import(site: &Site, host: &str, name: &str, program: &[u8]) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, program).unwrap();
    let archive = archive.into_inner().unwrap();
    let import = format!("docker import --change 'CMD [\"/{name}\"]' - {name}");
    let imported = site.lab().output(host, sh(&import), &archive).unwrap();
    assert!(imported.status.success(), "{imported:?}");
}

/// Gives a host's engine the idle program as an image.
fn import_idle(site: &Site, host: &str) {
    import(site, host, "idle", idle().expect("the caller asked before"));
}

/// A container.
pub struct Container {
    /// Its address.
    pub address: Ipv4Addr,
    id: String,
    network: Namespace,
}

impl Container {
    /// Runs the idle program on a host.
    pub fn run(site: &Site, host: &str) -> Self {
        import_idle(site, host);
        let mut id = String::new();
        until("the cluster's network", || {
            let run = sh("docker run -d --network bastide idle");
            let output = site.output(host, run, "");
            id = output.text();
            output.status.success()
        });
        let id = id.trim();
        let format = "{{(index .NetworkSettings.Networks \"bastide\").IPAddress}}";
        let address = site.run(host, &format!("docker inspect -f '{format}' {id}"));
        Self {
            address: address.trim().parse().unwrap(),
            id: id.to_owned(),
            network: Namespace::of_process(Kind::Network, process_of(id)).unwrap(),
        }
    }

    /// Runs the idle program on a host that has nothing to do with a cluster, with these options.
    pub fn own(site: &Site, host: &str, options: &str) -> Self {
        import_idle(site, host);
        let id = site.run(host, &format!("docker run -d {options} idle"));
        let id = id.trim();
        Self {
            address: Ipv4Addr::UNSPECIFIED,
            id: id.to_owned(),
            network: Namespace::of_process(Kind::Network, process_of(id)).unwrap(),
        }
    }

    /// Starts it again after its engine was restarted.
    pub fn again(&mut self, site: &Site, host: &str) {
        site.run(host, &format!("docker start {}", self.id));
        self.network = Namespace::of_process(Kind::Network, process_of(&self.id)).unwrap();
    }

    /// Does `work` in the container's network.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::within(&[&self.network], work).unwrap()
    }
}

/// Finds a container's process, as we see it, by its control group.
fn process_of(container: &str) -> u32 {
    let mut of_container = processes().into_iter().filter(|pid| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        groups.is_ok_and(|groups| groups.contains(container))
    });
    of_container
        .next()
        .expect("a container that runs has a process")
}
