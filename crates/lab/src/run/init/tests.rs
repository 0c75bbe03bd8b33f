use super::*;

#[test]
fn file_systems_with_files_of_people_are_taken_over_and_the_kernels_own_are_not() {
    let mountinfo = "\
21 1 8:1 / / rw - ext4 /dev/vda rw
22 21 0:4 / /proc rw - proc proc rw
23 21 0:5 / /usr rw - xfs /dev/vdb rw
24 21 0:6 / /tmp rw - tmpfs tmpfs rw
25 21 0:7 / /run rw - tmpfs tmpfs rw
26 21 0:8 / /dev/shm rw - tmpfs tmpfs rw
27 21 0:9 / /no\\040such rw - ext4 /dev/vdc rw
28 21 0:9 / /no-such-folder-here rw - ext4 /dev/vdc rw
";
    let places: Vec<_> = file_systems(mountinfo)
        .into_iter()
        .map(|place| place.display().to_string())
        .collect();
    assert_eq!(places, ["/", "/tmp", "/usr"]);
}
