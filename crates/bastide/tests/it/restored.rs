//! The controller's store on a bad day: a backup in its place, an audit file that is moved away.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, Started, can_run, kill_all_of, processes, until};

/// The server that `up` started, as we see it.
fn server_of(up: &Started) -> u32 {
    let parent = format!("PPid:\t{}", up.pid);
    let is_server = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        status.lines().any(|line| line == parent)
            && words.split(|byte| *byte == 0).any(|word| word == b"server")
    };
    processes().into_iter().find(is_server).expect("it runs")
}

/// Whether `bastide status` on a host says that the store is older than what is known.
fn says_so(site: &Site, host: &str) -> bool {
    let troubles = site.status(host).map(|status| status.troubles);
    troubles.unwrap_or_default().iter().any(|trouble| {
        trouble.contains("runs on an older store") && trouble.contains("`bastide accept-restored`")
    })
}

#[test]
fn a_backup_is_told_apart_by_status_and_log_and_followed_once_it_is_accepted() {
    if !can_run(&["ping", "ip"]) {
        return;
    }
    let mut site = Site::three_and("restored", "");
    let (_, up) = site.up();
    site.join("boreas", &[]);
    until("the mesh", || site.pings("boreas", "atlas"));
    kill_all_of(up.pid);
    site.run(
        "atlas",
        "cp /var/lib/bastide/server/store.redb /var/lib/bastide/backup.redb",
    );
    let (_, up) = site.up();
    site.join("cygnus", &[]);
    until("the new node", || site.pings("boreas", "cygnus"));

    // An audit file that is moved away is begun anew, and a hangup does not end the server.
    let folder = "/var/lib/bastide/server";
    site.run(
        "atlas",
        &format!("mv {folder}/audit.log {folder}/audit.log.1"),
    );
    let server = Pid::from_raw(server_of(&up).cast_signed()).unwrap();
    kill_process(server, Signal::HUP).unwrap();
    until("a new audit file", || {
        site.succeeds("atlas", &format!("test -e {folder}/audit.log"))
    });
    site.bastide("atlas", &["ticket"]);

    kill_all_of(up.pid);
    site.run(
        "atlas",
        &format!("cat /var/lib/bastide/backup.redb > {folder}/store.redb"),
    );
    let (_, up) = site.up();
    until("boreas says so", || says_so(&site, "boreas"));
    until("the server says so", || {
        let said = fs::read_to_string(&up.log).unwrap();
        said.contains("an older store was put in its place")
    });
    assert!(site.node("boreas", "cygnus").is_some(), "it keeps its view");
    until("the mesh goes on", || site.pings("boreas", "cygnus"));

    site.bastide("atlas", &["accept-restored"]);
    until("boreas follows", || {
        !says_so(&site, "boreas") && site.node("boreas", "cygnus").is_none()
    });
    until("the mesh", || site.pings("boreas", "atlas"));
}
