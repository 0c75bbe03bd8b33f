use std::fs;
use std::process::Command;

use super::policy::suppress_services;
use super::*;

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn says(policy: &Path) -> i32 {
    Command::new("sh")
        .arg(policy)
        .arg("docker")
        .arg("start")
        .status()
        .unwrap()
        .code()
        .unwrap()
}

#[test]
fn a_program_that_several_verbs_need_is_named_once() {
    let missing = missing(&[TESTS, BENCH, TESTS], |program| program != "wg");
    assert_eq!(
        missing.iter().map(|need| need.program).collect::<Vec<_>>(),
        ["wg"]
    );
}

#[test]
fn the_first_package_that_this_release_knows_is_taken() {
    let choices = ["docker-cli|docker.io", "docker.io", "nftables"].map(str::to_owned);
    let known = |package: &str| package != "docker-cli";
    assert_eq!(chosen(&choices, known).unwrap(), ["docker.io", "nftables"]);
    assert_eq!(
        chosen(&choices, |_| true).unwrap(),
        ["docker-cli", "docker.io", "nftables"]
    );
    assert!(chosen(&choices, |_| false).is_err());
}

#[test]
fn services_may_not_start_until_the_installation_ended() {
    let folder = folder("policy");
    let policy = folder.join("policy-rc.d");
    let suppressed = suppress_services(&folder).unwrap();
    assert_eq!(says(&policy), 101);
    drop(suppressed);
    assert!(!policy.exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_policy_of_the_machine_is_put_back() {
    let folder = folder("own-policy");
    let policy = folder.join("policy-rc.d");
    fs::write(&policy, "exit 104\n").unwrap();
    let first = suppress_services(&folder).unwrap();
    // As if the first run had been killed: the second one still knows what to put back.
    std::mem::forget(first);
    drop(suppress_services(&folder).unwrap());
    assert_eq!(fs::read_to_string(&policy).unwrap(), "exit 104\n");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_policy_left_by_a_killed_run_allows_everything() {
    let folder = folder("left-policy");
    let policy = folder.join("policy-rc.d");
    std::mem::forget(suppress_services(&folder).unwrap());
    let own = std::process::id().to_string();
    let script = fs::read_to_string(&policy)
        .unwrap()
        .replace(&own, "999999999");
    fs::write(&policy, script).unwrap();
    assert_eq!(says(&policy), 0);
    fs::remove_dir_all(folder).unwrap();
}
