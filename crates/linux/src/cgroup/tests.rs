use super::*;
use crate::test_support::is_root;

#[test]
fn hierarchies_are_told_apart() {
    let mountinfo = "\
24 1 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
27 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
28 1 0:26 / /mnt rw - cgroup cgroup rw,pids
";
    let found: Vec<_> = Hierarchies::parse(mountinfo)
        .iter()
        .map(|h| {
            (
                h.mount.display().to_string(),
                h.options.clone(),
                h.is_unified,
            )
        })
        .collect();
    let expected = [
        (
            "/sys/fs/cgroup/cpu".to_owned(),
            "cpu,cpuacct".to_owned(),
            false,
        ),
        (
            "/sys/fs/cgroup/systemd".to_owned(),
            "none,name=systemd".to_owned(),
            false,
        ),
        ("/sys/fs/cgroup/unified".to_owned(), String::new(), true),
    ];
    assert_eq!(found, expected);
    assert!(!Hierarchies::parse(mountinfo).is_unified_only());
}

#[test]
fn a_group_is_made_in_each_hierarchy_and_removed_with_all_below_it() {
    if !is_root() {
        return;
    }
    let hierarchies = Hierarchies::find().unwrap();
    let name = format!("bastide-linux-test-{}", std::process::id());
    let inner = hierarchies.create(&format!("{name}/inner")).unwrap();
    assert_eq!(
        inner.open_procs().unwrap().len(),
        hierarchies.iter().count()
    );
    assert_eq!(hierarchies.leftovers(&name), [name.as_str()]);
    assert!(inner.processes().is_empty());
    let removed = hierarchies
        .group(&name)
        .remove(Duration::from_secs(1))
        .unwrap();
    assert_eq!(removed.len(), 2 * hierarchies.iter().count());
    assert!(hierarchies.leftovers(&name).is_empty());
}
