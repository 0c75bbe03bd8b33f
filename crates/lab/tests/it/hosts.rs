//! What a host is, and what it sees.

use std::time::Instant;

use bastide_lab::{Lab, LabError, Plan};

use crate::support::{Root, SOON, THREE_SITES, can_run, run, sh};

#[test]
fn three_sites_stand_within_half_a_second_and_reach_each_other_through_nat() {
    if !can_run(&["ping", "nft"]) {
        return;
    }
    let root = Root::new();
    let began = Instant::now();
    let lab = root.up(THREE_SITES);
    let took = began.elapsed();
    run(&lab, "boreas", "ping -c1 -W2 203.0.113.10");
    run(&lab, "cygnus", "ping -c1 -W2 203.0.113.10");
    run(&lab, "boreas", "ping -c1 -W2 192.168.1.1");
    // The subnets at home and at the edge overlap: an address of one is not reached from the other.
    let routes = run(&lab, "atlas", "ip -o -4 address show dev eth0; ip route");
    assert!(
        routes.contains("203.0.113.10/24") && !routes.contains("192.168"),
        "{routes}"
    );
    let to_inner = lab
        .output("atlas", sh("ping -c1 -W1 192.168.1.10"), b"")
        .unwrap();
    assert!(!to_inner.status.success());
    // Two cores shared with other tests: ten times what it takes alone.
    assert!(took.as_millis() < 2500, "up took {took:?}");
    lab.down().unwrap();
}

#[test]
fn a_host_sees_only_its_own_processes_names_and_files() {
    if !can_run(&["ip"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    assert_eq!(
        run(&lab, "boreas", "hostname; cat /etc/hostname"),
        "boreas\nboreas\n"
    );
    assert_eq!(
        run(&lab, "boreas", "cat /proc/1/comm").trim(),
        "bastide-lab-sup"
    );
    assert_eq!(
        run(&lab, "boreas", "ls /proc | grep -c '^[0-9]'")
            .trim()
            .len(),
        1
    );
    assert_eq!(run(&lab, "boreas", "ls -A /run"), "");
    assert_eq!(
        run(&lab, "boreas", "ls /sys/class/net | tr '\\n' ' '"),
        "eth0 lo "
    );
    assert_eq!(
        run(&lab, "boreas", "cat /proc/sys/net/ipv4/ip_forward"),
        "0\n"
    );
    // Its control groups look like a machine's: the lab's own group is the root.
    run(&lab, "boreas", "! grep bastide /proc/self/cgroup");
    assert_eq!(
        run(
            &lab,
            "boreas",
            "stat -c %F /dev/net/tun /dev/null | sort -u"
        ),
        "character special file\n"
    );
    run(
        &lab,
        "boreas",
        "echo private > /run/x; echo private > /etc/lab-test; mkdir /var/lib/x",
    );
    assert_eq!(
        run(&lab, "boreas", "cat /run/x /etc/lab-test"),
        "private\nprivate\n"
    );
    run(
        &lab,
        "cygnus",
        "! test -e /run/x && ! test -e /etc/lab-test",
    );
    assert!(!std::path::Path::new("/etc/lab-test").exists());
    assert!(!std::path::Path::new("/var/lib/x").exists());
    // A router has a network only.
    assert!(run(&lab, "home-router", "ip -o link").contains("wan"));
    assert_eq!(
        run(&lab, "home-router", "cat /proc/sys/net/ipv4/ip_forward"),
        "1\n"
    );
}

#[test]
fn commands_have_input_output_environment_and_an_exit_code() {
    if !can_run(&[]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let mut command = sh("cat; echo $WORD >&2; exit 7");
    command.env("WORD", "said");
    let output = lab.output("atlas", command, b"given").unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"given"[..], &b"said\n"[..])
    );
    assert_eq!(lab.exec("atlas", sh("exit 3")).unwrap().code(), Some(3));
    let error = lab.exec("nobody", sh("true")).unwrap_err();
    assert_eq!(error.to_string(), "no node is called `nobody`");
    let mut process = lab.spawn("atlas", sh("sleep 1000 & sleep 1000")).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    assert_eq!(run(&lab, "atlas", "ps -e -o comm= | grep -c sleep"), "2\n");
    drop(process);
    run(&lab, "atlas", "! ps -e -o comm= | grep sleep");
}

#[test]
fn a_second_handle_is_as_good_and_a_name_is_taken_once() {
    if !can_run(&["ping"]) {
        return;
    }
    let root = Root::new();
    let lab = root.up(THREE_SITES);
    let again = Lab::up(Plan::parse(THREE_SITES).unwrap(), &root.options()).unwrap_err();
    assert_eq!(again.to_string(), "lab `three-sites` is already up");
    let other = Lab::attach("three-sites", &root.0).unwrap();
    run(&other, "cygnus", "ping -c1 -W2 203.0.113.10");
    let status = other.status().unwrap();
    assert_eq!(status.nodes.len(), 6);
    assert!(status.nodes.iter().all(|node| node.alive));
    drop(other);
    run(&lab, "atlas", "true");
    let mut process = lab.spawn("atlas", sh("sleep 1000")).unwrap();
    Lab::attach("three-sites", &root.0)
        .unwrap()
        .cut("atlas/eth0")
        .unwrap();
    let status = lab.status().unwrap();
    let atlas = status
        .nodes
        .iter()
        .find(|node| node.name == "atlas")
        .unwrap();
    assert!(atlas.links[0].cut && 2 <= atlas.processes, "{atlas:?}");
    lab.down().unwrap();
    assert!(process.wait_for(SOON).unwrap().is_some());
    let error = Lab::attach("three-sites", &root.0).unwrap_err();
    assert!(matches!(error, LabError::NotUp { .. }), "{error}");
}
