//! A real container engine runs in a host of a lab, one in each, and they form a Swarm.

use std::path::PathBuf;

use bastide_lab::Lab;
use bastide_lab::run::Process;
use bastide_linux::spawn::Stdio;

use crate::support::{Root, THREE_SITES, can_run, run, sh, until};

/// Starts an engine as on any machine, but for an empty settings file: it finds its place by itself.
fn start_engine(lab: &Lab, node: &str) -> Process {
    run(lab, node, "echo '{}' > /run/engine.json");
    let mut command = sh(
        "exec dockerd --config-file /run/engine.json -H unix:///run/docker.sock > /run/engine.log 2>&1",
    );
    command.stdin(Stdio::Null);
    lab.spawn(node, command).unwrap()
}

fn wait_for_engine(lab: &Lab, node: &str) {
    until("the engine", || {
        lab.output(node, sh("docker version"), b"")
            .unwrap()
            .status
            .success()
    });
}

/// A static program, from the machine's C compiler for musl.
fn image(root: &Root) -> Option<PathBuf> {
    let source = "#include <stdio.h>\n#include <unistd.h>\n\
        int main(int n, char **v) { puts(\"hello from a container\"); fflush(stdout); \
        if (n > 1) pause(); return 0; }\n";
    std::fs::write(root.0.join("hello.c"), source).unwrap();
    let script = "cd \"$1\" && musl-gcc -static -Os -o hello hello.c && tar -cf image.tar hello";
    let built = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&root.0)
        .status();
    built.unwrap().success().then(|| root.0.join("image.tar"))
}

#[test]
fn engines_on_three_hosts_run_containers_and_form_a_swarm() {
    if !can_run(&["dockerd", "docker", "musl-gcc"]) {
        return;
    }
    let root = Root::new();
    let image = image(&root).unwrap();
    let lab = root.up(THREE_SITES);
    let hosts = ["atlas", "boreas", "cygnus"];
    let engines: Vec<_> = hosts.iter().map(|host| start_engine(&lab, host)).collect();
    for host in hosts {
        wait_for_engine(&lab, host);
        run(
            &lab,
            host,
            &format!("docker import {} hello", image.display()),
        );
        let limits = "--memory 64m --cpus 0.5 --pids-limit 20";
        let said = run(
            &lab,
            host,
            &format!("docker run --rm {limits} hello /hello"),
        );
        assert_eq!(said, "hello from a container\n");
    }
    assert_eq!(
        run(&lab, "boreas", "docker info -f '{{.Driver}}'"),
        "overlay2\n"
    );
    // The engine's own rule is met in every host: nothing is forwarded unless it is allowed.
    assert!(run(&lab, "boreas", "iptables -S FORWARD").starts_with("-P FORWARD DROP"));
    // Its groups are inside those of the lab.
    let id = run(&lab, "boreas", "docker run -d hello /hello stay");
    let inside = format!(
        "/sys/fs/cgroup/pids/{}/boreas/docker/{}",
        lab.control_group(),
        id.trim()
    );
    assert!(std::path::Path::new(&inside).is_dir(), "{inside}");

    run(
        &lab,
        "atlas",
        "docker swarm init --advertise-addr 203.0.113.10",
    );
    let token = run(&lab, "atlas", "docker swarm join-token -q worker");
    for host in ["boreas", "cygnus"] {
        run(
            &lab,
            host,
            &format!(
                "docker swarm join --token {} 203.0.113.10:2377",
                token.trim()
            ),
        );
    }
    until("three ready nodes", || {
        run(
            &lab,
            "atlas",
            "docker node ls -f role=worker -f role=manager --format '{{.Hostname}}={{.Status}}'",
        )
        .lines()
        .filter(|line| line.ends_with("=Ready"))
        .count()
            == 3
    });
    drop(engines);
    let group = lab.control_group().to_owned();
    lab.down().unwrap();
    assert!(
        !std::path::Path::new("/sys/fs/cgroup/pids")
            .join(group)
            .exists()
    );
}
