//! The units for systemd: judged by its own tools, and run by a real one.

use std::fs;
use std::path::Path;
use std::process::Command as Tool;

use bastide_lab::run::Output;
use rustix::process::Signal;

use crate::site::{
    ATLAS, BASTIDE, Folder, Site, Started, can_run, processes, sh, signal, skip, until,
};

#[path = "../../src/verbs/units.rs"]
mod generated;

use generated::Seal;

/// What is agreed for `/usr/local/bin/bastide`.
const GOLDEN: [(&str, &str); 3] = [
    (
        "bastide-agent.service",
        include_str!("units/bastide-agent.service"),
    ),
    (
        "bastide-server.service",
        include_str!("units/bastide-server.service"),
    ),
    (
        "bastide-server.service, sealed by people",
        include_str!("units/bastide-server-sealed.service"),
    ),
];

fn all(program: &Path) -> [(&'static str, String); 3] {
    [
        ("bastide-agent.service", generated::agent(program)),
        (
            "bastide-server.service",
            generated::server(program, Seal::KeyFile),
        ),
        (
            "bastide-server.service, sealed by people",
            generated::server(program, Seal::Elsewhere),
        ),
    ]
}

#[test]
fn the_units_are_the_golden_ones() {
    let units = all(Path::new("/usr/local/bin/bastide"));
    for ((name, text), (_, golden)) in units.iter().zip(GOLDEN) {
        assert_eq!(text, golden, "{name}");
        assert!(!text.contains('@') || text.contains("@system-service"));
    }
}

#[test]
fn a_program_in_a_home_or_in_tmp_is_none_for_a_unit() {
    for (path, expected) in [
        ("/usr/local/bin/bastide", true),
        ("/opt/home/bastide", true),
        ("/home/eve/bastide", false),
        ("/root/bastide", false),
        ("/tmp/bastide", false),
        ("/var/tmp/x/bastide", false),
        ("/opt/a \"b\"/bastide", false),
    ] {
        assert_eq!(generated::can_start(Path::new(path)), expected, "{path}");
    }
}

fn analyze(words: &[&str], unit: &Path) -> std::process::Output {
    Tool::new("systemd-analyze")
        .args(words)
        .arg(unit)
        .output()
        .unwrap()
}

fn has_analyze() -> bool {
    let has = Tool::new("systemd-analyze").arg("--version").output();
    let has = has.is_ok_and(|output| output.status.success());
    if !has {
        skip("systemd-analyze");
    }
    has
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has_analyze() {
        return;
    }
    let folder = Folder::new();
    // What systemd would take for its own, unless it is quoted.
    let odd = folder.0.join("a b%n$HOME");
    fs::create_dir(&odd).unwrap();
    let program = odd.join("bastide");
    std::os::unix::fs::symlink(BASTIDE, &program).unwrap();
    for (name, text) in all(&program) {
        let file = folder.0.join(name.split(',').next().unwrap());
        fs::write(&file, &text).unwrap();
        let output = analyze(&["verify", "--man=no"], &file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        // It would have found something.
        fs::write(&file, text.replace("ExecStart=", "ExecStart=/nowhere")).unwrap();
        let output = analyze(&["verify", "--man=no"], &file);
        assert!(!output.status.success(), "{name}");
    }
}

#[test]
fn what_the_units_are_exposed_to_is_little() {
    if !has_analyze() {
        return;
    }
    let folder = Folder::new();
    // Tenths: 0 is a process that can do nothing, 96 one of root without any limit.
    for ((name, text), most) in all(Path::new(BASTIDE)).iter().zip(["23", "11", "11"]) {
        let file = folder.0.join(name.split(',').next().unwrap());
        fs::write(&file, text).unwrap();
        let threshold = format!("--threshold={most}");
        let words = ["security", "--offline=true", "--no-pager", &threshold];
        let output = analyze(&words, &file);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {table}");
        let open = "[Service]\nExecStart=/usr/bin/true\n";
        fs::write(&file, open).unwrap();
        assert!(!analyze(&words, &file).status.success(), "{table}");
    }
}

/// Units of systemd's own that ours are ordered by; all others are hidden, because they would set up a
/// machine that is not theirs.
const KEPT: [&str; 12] = [
    "sysinit.target",
    "basic.target",
    "multi-user.target",
    "network.target",
    "network-online.target",
    "shutdown.target",
    "sockets.target",
    "timers.target",
    "paths.target",
    "slices.target",
    "umount.target",
    "local-fs.target",
];

/// Starts a systemd of its own on a host: the first process of a namespace of its own, in the host's
/// network, with the host's `/run`.
fn start_systemd(site: &mut Site, host: &str) -> Option<Started> {
    let has_group = "grep -q 'cgroup .*name=systemd' /proc/self/mountinfo";
    if !Path::new("/lib/systemd/systemd").exists() {
        skip("systemd");
        return None;
    }
    if !site.succeeds(host, has_group) {
        skip("the hierarchy of control groups `name=systemd`");
        return None;
    }
    let folder = Path::new(BASTIDE).parent().unwrap().display();
    let prepare = format!(
        "set -e
         mkdir -p /run/units
         for unit in {}; do cp /lib/systemd/system/$unit /run/units/; done
         mount --bind /run/units /lib/systemd/system
         mount -t tmpfs tmpfs /etc/systemd/system
         mkdir -p /etc/systemd/system/bastide-.service.d
         printf '[Service]\\nStandardError=append:/run/%%N.log\\n' \
             > /etc/systemd/system/bastide-.service.d/log.conf
         mount --bind {folder} /usr/local/sbin",
        KEPT.join(" ")
    );
    site.run(host, &prepare);
    // A group of its own, which a new namespace has as its root.
    let boot = "set -e
        group=/run/group; mkdir -p $group; mount -t cgroup -o none,name=systemd cgroup $group
        mkdir -p $group/machine; echo $$ > $group/machine/cgroup.procs
        exec unshare --pid --mount --ipc --cgroup --fork --kill-child --mount-proc sh -ec '
            mount --make-rshared /
            mount -t tmpfs tmpfs /sys/fs/cgroup
            mkdir /sys/fs/cgroup/systemd
            mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
            export container=lxc
            exec /lib/systemd/systemd --system --unit=basic.target --log-target=console'";
    let started = site.start(host, sh(boot), "");
    until("systemd", || {
        let active = inside(site, "systemctl is-active basic.target");
        active.text().trim() == "active"
    });
    Some(started)
}

/// Runs a script where atlas's systemd is the first process.
fn inside(site: &Site, script: &str) -> Output {
    let enter = "exec nsenter --target $(pidof systemd) --pid --mount --ipc --cgroup sh -e";
    site.output("atlas", sh(enter), script)
}

/// The same, returns what it wrote, and fails the test if it fails.
fn run_inside(site: &Site, script: &str) -> String {
    let output = inside(site, script);
    let said = String::from_utf8_lossy(&output.stderr);
    let logs = || {
        site.run(
            "atlas",
            "head -n 8 /run/bastide-*.log; tail -n 8 /run/bastide-*.log || true",
        )
    };
    assert!(output.status.success(), "`{script}`: {said}{}", logs());
    output.text()
}

fn property(site: &Site, unit: &str, name: &str) -> String {
    let script = format!("systemctl show -P {name} bastide-{unit}.service");
    run_inside(site, &script).trim().to_owned()
}

/// The main process of a unit, as we see it: the one of its group that systemd did not start for it
/// alone.
fn main_process(unit: &str) -> u32 {
    let group = format!("/machine/system.slice/bastide-{unit}.service");
    let is_main = |pid: &u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        groups.contains(&group) && words.ends_with(format!("bastide\0{unit}\0").as_bytes())
    };
    let mut found = processes().into_iter().filter(is_main);
    found.next().expect("the unit runs")
}

/// A line of a unit's main process's status.
fn status_of(unit: &str, line: &str) -> String {
    let path = format!("/proc/{}/status", main_process(unit));
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix(line));
    line.unwrap().trim().to_owned()
}

fn until_restarted(site: &Site, unit: &str, times: &str) {
    until("systemd to start it again", || {
        property(site, unit, "NRestarts") == times
            && property(site, unit, "ActiveState") == "active"
    });
}

#[test]
fn a_real_systemd_runs_starts_again_watches_and_removes_the_units() {
    if !can_run(&[
        "dockerd",
        "docker",
        "iptables",
        "ping",
        "systemctl",
        "unshare",
    ]) {
        return;
    }
    let mut site = Site::three_and("units", "");
    site.start_engines(&["atlas"]);
    if start_systemd(&mut site, "atlas").is_none() {
        return;
    }
    let look = |site: &Site| {
        let files = site.run("atlas", "find /etc /var/lib/bastide | sort || true");
        let network = site.run(
            "atlas",
            "ip -o link | cut -d: -f2; ip route; nft -s list ruleset",
        );
        let swarm = site.run("atlas", "docker info --format '{{.Swarm.LocalNodeState}}'");
        (files, network, swarm)
    };
    // The server's user stays.
    site.run(
        "atlas",
        "useradd --system --user-group --no-create-home bastide",
    );
    let before = look(&site);

    // Where units are shut out of, it says so.
    let folder = Folder::new();
    let copy = folder.0.join("bastide");
    fs::copy(BASTIDE, &copy).unwrap();
    let up = format!("up --cluster test --public {ATLAS} --swarm-heartbeat-ms 1000");
    let refused = inside(&site, &format!("{} {up}", copy.display()));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("sudo install"), "{said}");

    run_inside(&site, &format!("/usr/local/sbin/bastide {up}"));
    for unit in ["server", "agent"] {
        assert_eq!(property(&site, unit, "ActiveState"), "active");
        assert_eq!(property(&site, unit, "UnitFileState"), "enabled");
        assert_eq!(status_of(unit, "NoNewPrivs:"), "1");
        assert_eq!(status_of(unit, "Seccomp:"), "2");
    }
    assert_eq!(status_of("server", "CapBnd:"), "0000000000000000");
    // NET_BIND_SERVICE (10), NET_ADMIN (12), NET_RAW (13), IPC_LOCK (14).
    assert_eq!(status_of("agent", "CapBnd:"), "0000000000007400");
    // What it may, it can: engine, packet filter, settings, names.
    site.until_swarm(&["atlas"]);
    until("no trouble", || {
        site.status("atlas")
            .is_some_and(|status| status.troubles.is_empty())
    });
    site.run(
        "atlas",
        "nft list table inet bastide && iptables -S BASTIDE",
    );
    assert_eq!(
        site.run("atlas", "cat /proc/sys/net/ipv4/ip_forward"),
        "1\n"
    );
    assert!(site.resolves("atlas", "atlas.node.test.internal"));
    site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));

    // A new binary, and a restart of both.
    run_inside(&site, "systemctl restart bastide-server bastide-agent");
    until("the mesh", || site.pings("boreas", "atlas"));
    // Killed, it is started again; hanging, it is killed and started again.
    for unit in ["agent", "server"] {
        signal(main_process(unit), Signal::KILL);
        until_restarted(&site, unit, "1");
    }
    run_inside(
        &site,
        "printf '[Service]\\nWatchdogSec=2\\n' > /etc/systemd/system/bastide-.service.d/soon.conf
         systemctl daemon-reload && systemctl restart bastide-server bastide-agent",
    );
    for unit in ["agent", "server"] {
        signal(main_process(unit), Signal::STOP);
        until_restarted(&site, unit, "1");
    }
    until("the mesh", || site.pings("boreas", "atlas"));
    site.run(
        "atlas",
        "rm /etc/systemd/system/bastide-.service.d/soon.conf",
    );

    // `up` again is no harm, and leaves what runs alone.
    let running = main_process("agent");
    run_inside(&site, "systemctl daemon-reload; /usr/local/sbin/bastide up");
    assert_eq!(main_process("agent"), running);

    for name in site.status("atlas").unwrap().nodes {
        if name.name.as_str() != "atlas" {
            site.bastide("atlas", &["node", "rm", name.name.as_str()]);
        }
    }
    until("one node", || {
        site.status("atlas").unwrap().nodes.len() == 1
    });
    run_inside(&site, "/usr/local/sbin/bastide down --forget");
    assert_eq!(property(&site, "agent", "LoadState"), "not-found");
    assert_eq!(property(&site, "server", "LoadState"), "not-found");
    until("the host as it was", || look(&site) == before);
}
