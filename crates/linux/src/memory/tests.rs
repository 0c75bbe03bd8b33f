use rustix::process::dumpable_behavior;
use rustix::thread::transparent_huge_pages_are_disabled;

use super::*;

#[test]
fn a_hardened_process_is_not_dumped_and_locks_memory_only_if_that_cannot_harm_it() {
    let hardened = harden().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(
        getrlimit(Resource::Core),
        Rlimit {
            current: Some(0),
            maximum: Some(0)
        }
    );
    assert!(!hardened.locked || may_lock_all());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let locked = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    assert_eq!(
        hardened.locked,
        !locked.trim_end().ends_with(" 0 kB"),
        "{locked}"
    );
}

#[test]
fn a_process_that_keeps_small_pages_gets_no_huge_ones() {
    keep_small_pages();
    assert!(transparent_huge_pages_are_disabled().unwrap());
}
