//! `down`, `up` and `join` that are killed at each of their steps, and what the next `down` makes of it.
//!
//! The steps are system calls, and who kills is the kernel's tracer, so that the program has no part in
//! it: it is killed as it enters the n-th call of a kind.

use bastide_linux::spawn::Command;

use crate::down::{changes, expect_put_back, look};
use crate::site::{ATLAS, BASTIDE, Site, Started, bastide, can_run, until};

const JOURNAL: &str = "/var/lib/bastide/agent/journal";

/// A command of the program that is killed at the `step`-th of these calls: on one file if that is
/// given, else on whatever; of one thread, or of all and of the processes that it starts, each counted
/// by itself.
fn killed_at(calls: &str, on: Option<&str>, all: &[&str], step: usize, words: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:signal=KILL:when={step}")]);
    if let Some(path) = on {
        command.args(["-P", path]);
    }
    command.args(all.iter().copied());
    command.arg(BASTIDE).args(words.iter().copied());
    command
}

/// Runs `down` on a host, killed at a step; tells whether it came that far.
fn down_is_killed(site: &Site, host: &str, calls: &str, on: Option<&str>, step: usize) -> bool {
    let command = killed_at(calls, on, &[], step, &["down"]);
    let output = site.output(host, command, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The tracer ends as the traced does.
    let is_killed = output.status.code().is_none();
    assert!(is_killed || output.status.success(), "{said}");
    is_killed
}

/// An agent on its own, until its engine is a member.
fn agent(site: &mut Site, host: &str) -> Started {
    let agent = site.start(host, bastide(&["agent"]), "");
    site.until_swarm(&[host]);
    until("the last step of an agent's start", || {
        site.run(host, &format!("cat {JOURNAL}"))
            .contains("docker-user-rule")
    });
    agent
}

#[test]
fn down_that_is_killed_at_any_step_is_finished_by_the_next() {
    if !can_run(&["dockerd", "docker", "iptables", "ip", "strace"]) {
        return;
    }
    let mut site = Site::three_and("steps", "");
    let host = "boreas";
    site.start_engines(&["atlas", host]);
    let before = look(&site, host);
    site.up();
    let join = site.join(host, &[]);
    site.until_swarm(&["atlas", host]);

    // Each change is undone, and killed before that is written down; undone once more, written down, and
    // killed before that is durable.
    let made = site.run(host, &format!("grep -c made {JOURNAL}"));
    let made: usize = made.trim().parse().unwrap();
    let mut kills = 0;
    for call in ["write", "fsync"].into_iter().cycle() {
        if !down_is_killed(&site, host, call, Some(JOURNAL), 1) {
            break;
        }
        if kills == 0 {
            site.wait_for_end(&join);
        }
        kills += 1;
        assert!(kills < 100, "each one gets a step further");
    }
    assert!(8 < made, "{made} changes");
    assert_eq!(kills, 2 * made);
    expect_put_back(&site, host, &before);

    // While it speaks with the kernel, starts programs, opens files.
    kills = 0;
    for calls in ["sendto", "clone,clone3,vfork", "openat"] {
        let running = agent(&mut site, host);
        assert_ne!(changes(&site, host, &before), [""; 0], "there is something");
        // Of each kind one after another, and always further.
        let mut steps = (1, 2);
        while down_is_killed(&site, host, calls, None, steps.0) {
            kills += 1;
            steps = (steps.1, steps.0 + steps.1);
        }
        site.wait_for_end(&running);
        expect_put_back(&site, host, &before);
    }
    assert!(8 < kills, "killed {kills} times");
}

#[test]
fn what_an_agent_that_is_killed_at_any_step_of_its_start_has_changed_is_undone() {
    if !can_run(&["dockerd", "docker", "iptables", "ip", "strace"]) {
        return;
    }
    let mut site = Site::three_and("starts", "");
    let host = "boreas";
    site.start_engines(&["atlas", host]);
    let before = look(&site, host);
    site.up();
    let join = site.join(host, &[]);
    site.until_swarm(&["atlas", host]);
    site.bastide(host, &["down"]);
    site.wait_for_end(&join);
    expect_put_back(&site, host, &before);

    let mut most = 0;
    // A change is two calls: written down, and made durable. In between it is not made yet.
    for step in (1..).step_by(3) {
        let words = ["agent"];
        let traced = killed_at("write,fsync", Some(JOURNAL), &["-f"], step, &words);
        let traced = site.start(host, traced, "");
        let mut is_through = false;
        until("it is killed, or through", || {
            is_through = site.status(host).is_some()
                && site
                    .run(host, &format!("cat {JOURNAL}"))
                    .contains("docker-user-rule");
            is_through || site.has_ended(&traced)
        });
        most = most.max(changes(&site, host, &before).len());
        site.bastide(host, &["down"]);
        site.wait_for_end(&traced);
        expect_put_back(&site, host, &before);
        if is_through {
            break;
        }
        assert!(step < 100, "it gets through in the end");
    }
    assert!(8 < most, "the last ones had changed {most} things");
}

#[test]
fn up_and_join_that_are_killed_at_any_step_leave_nothing_that_down_does_not_take_away() {
    if !can_run(&["ip", "docker", "strace"]) {
        return;
    }
    let mut site = Site::three_and("begins", "");
    let renames = "rename,renameat,renameat2";
    let (atlas, boreas) = (look(&site, "atlas"), look(&site, "boreas"));
    let folders = "ls -d /etc/bastide /var/lib/bastide 2>/dev/null || true";
    let mut kills = 0;
    // What it writes, and whom it starts: the server that begins the cluster, server, agent.
    let steps = (1..3).map(|step| (renames, step));
    let starts = (1..8).map(|step| ("clone,clone3,vfork", step));
    for (calls, step) in steps.chain(starts) {
        let words = ["up", "--foreground", "--cluster", "test", "--public", ATLAS];
        let up = killed_at(calls, None, &[], step, &words);
        let up = site.start("atlas", up, "");
        let mut is_up = false;
        until("it is killed, or up", || {
            is_up = up.try_line().is_some();
            is_up || site.has_ended(&up)
        });
        kills += usize::from(!is_up);
        site.bastide("atlas", &["down", "--forget"]);
        site.wait_for_end(&up);
        expect_put_back(&site, "atlas", &atlas);
        assert_eq!(site.run("atlas", folders), "", "{calls} {step}");
    }
    assert!(3 <= kills, "up was killed {kills} times");

    site.up();
    kills = 0;
    for step in 1..6 {
        let ticket = site.bastide("atlas", &["ticket"]);
        let name = format!("boreas-{step}");
        let words = ["join", "-", "--foreground", "--name", &name];
        let join = killed_at(renames, None, &["-f"], step, &words);
        let join = site.start("boreas", join, &ticket);
        let mut is_in = false;
        until("it is killed, or in", || {
            is_in = site.status("boreas").is_some();
            is_in || site.has_ended(&join)
        });
        kills += usize::from(!is_in);
        site.bastide("boreas", &["down", "--forget"]);
        site.wait_for_end(&join);
        expect_put_back(&site, "boreas", &boreas);
        assert_eq!(site.run("boreas", folders), "", "after {step}");
    }
    assert!(2 < kills, "join was killed {kills} times");
}

#[test]
fn an_engine_that_is_a_member_of_a_swarm_of_its_own_stays_one() {
    if !can_run(&["dockerd", "docker", "iptables", "ip"]) {
        return;
    }
    let mut site = Site::three_and("swarm", "");
    let engine = site.start_engines(&["boreas"]).remove(0);
    site.up();
    site.run(
        "boreas",
        "docker swarm init --advertise-addr 127.0.0.1 && docker network create -d overlay mine",
    );
    let swarm = "docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Cluster.ID}}'";
    let before = site.run("boreas", swarm);
    let ticket = site.bastide("atlas", &["ticket"]);
    let refused = site.output("boreas", bastide(&["join", "-", "--foreground"]), &ticket);
    assert_eq!(refused.status.code(), Some(6), "while that can be seen");

    // An engine that does not run at the time cannot be asked, and is met later.
    site.run("boreas", "kill $(cat /var/run/docker.pid)");
    site.wait_for_end(&engine);
    let join = site.join_with("boreas", &ticket, &[]);
    site.start_engines(&["boreas"]);
    until("it is told", || {
        let status = site.status("boreas");
        status.is_some_and(|status| {
            let text = status.troubles.join(" ");
            text.contains("Swarm")
        })
    });
    site.bastide("boreas", &["down"]);
    site.wait_for_end(&join);
    assert_eq!(site.run("boreas", swarm), before);
    let networks = site.run("boreas", "docker network ls --format '{{.Name}}'");
    assert!(networks.lines().any(|name| name == "mine"), "{networks}");
    assert!(!networks.contains("bastide"), "{networks}");
}

#[test]
fn a_damaged_journal_is_told_and_what_is_ours_by_name_is_undone() {
    if !can_run(&["ip"]) {
        return;
    }
    let mut site = Site::three_and("damaged", "");
    site.up();
    let join = site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    crate::site::kill_all_of(join.pid);
    site.wait_for_end(&join);
    // The line of the interface, and the last one is torn.
    site.run(
        "boreas",
        &format!(
            "sed -i 's/.*\"interface\".*/{{{{/' {JOURNAL}; printf '{{\"made\":{{\"ki' >> {JOURNAL}"
        ),
    );
    let told = site.try_bastide("boreas", &["down"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be read"), "{said}");
    assert!(!site.succeeds("boreas", "ip link show bst0"), "{said}");
    assert_eq!(site.run("boreas", "nft list tables"), "", "{said}");
    // It was told; what could be done was.
    site.bastide("boreas", &["down"]);
    assert!(site.succeeds("boreas", &format!("test -e {JOURNAL}.damaged")));
}
