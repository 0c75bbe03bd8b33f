use super::*;

#[test]
fn a_user_is_found_by_its_whole_name() {
    let passwd =
        "root:x:0:0:root:/root:/bin/bash\nbast:x:7:8::/home/b:\nbastide:x:990:991:a:b:/d:\n";
    let check = |name: &str, expected: Option<(u32, u32, &str)>| {
        let expected = expected.map(|(uid, gid, home)| User {
            uid,
            gid,
            home: home.to_owned(),
        });
        assert_eq!(find_user(passwd, name), expected, "{name}");
    };
    check("root", Some((0, 0, "/root")));
    check("bast", Some((7, 8, "/home/b")));
    check("bas", None);
    check("", None);
}

#[test]
fn the_peer_of_a_socket_pair_is_ourselves() {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let peer = peer(&one).unwrap();
    assert_eq!(peer.pid, Some(std::process::id()));
    assert_eq!(peer.uid, rustix::process::getuid().as_raw());
}
