use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::*;

fn line(number: u64) -> Arc<[u8]> {
    format!("{{\"seq\":{number}}}").into_bytes().into()
}

fn tcp(address: &str) -> Target {
    Target::Socket {
        family: Family::Tcp,
        address: address.to_owned(),
        write_timeout_ms: 200,
    }
}

/// Waits for what another thread does; the error is what it waited for.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn lines_reach_a_socket_in_order_and_are_answered_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let target = Target::Socket {
        family: Family::Unix,
        address: path.display().to_string(),
        write_timeout_ms: 1000,
    };
    let remote = Remote::start("s/", target, 7).unwrap();
    assert_eq!(remote.taken(), 7);
    assert!(remote.offer(7, line(7)) && remote.offer(8, line(8)));
    let mut lines = BufReader::new(listener.accept().unwrap().0).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "{\"seq\":7}");
    assert_eq!(lines.next().unwrap().unwrap(), "{\"seq\":8}");
    until("both are with the other end", || remote.taken() == 9);
    assert!(!remote.is_failing());
}

#[test]
fn a_socket_that_hangs_holds_up_nobody_and_gets_its_lines_once_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let remote = Remote::start("s/", tcp(&address), 0).unwrap();
    // Whoever is there accepts and never reads: the kernel's buffers fill, and writes time out.
    let (silent, _) = {
        assert!(remote.offer(0, line(0)));
        listener.accept().unwrap()
    };
    let long: Arc<[u8]> = vec![b'x'; 4 << 20].into();
    let mut next = 1;
    until("writes time out", || {
        let began = std::time::Instant::now();
        if remote.offer(next, Arc::clone(&long)) {
            next += 1;
        }
        assert!(
            began.elapsed() < Duration::from_millis(150),
            "it was held up"
        );
        remote.is_failing()
    });
    drop(silent);
    let taken = remote.taken();
    let (stream, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let mut stream = stream;
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    until("it goes on", || {
        taken < remote.taken() && !remote.is_failing()
    });
    drop(remote);
    drop(listener);
    let _ = reader.join().unwrap();
}

#[test]
fn a_device_that_is_not_there_is_told_when_it_is_enabled() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(probe(&tcp(&address)), Ok(()));
    drop(listener);
    let why = probe(&tcp(&address)).unwrap_err();
    assert!(why.contains(&address), "{why}");
    let file = Target::File {
        path: "/proc/no/such/file".to_owned(),
        mode: Some(0o600),
    };
    assert!(probe(&file).is_err());
}

#[test]
fn a_line_too_long_for_a_datagram_does_not_stop_those_after_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let target = Target::Socket {
        family: Family::Udp,
        address: socket.local_addr().unwrap().to_string(),
        write_timeout_ms: 1000,
    };
    let remote = Remote::start("s/", target, 0).unwrap();
    // As vault's issue 28136: an answer longer than a datagram.
    assert!(remote.offer(0, vec![b'{'; 200_000].into()));
    assert!(remote.offer(1, line(1)));
    let mut bytes = [0; 1000];
    let length = socket.recv(&mut bytes).unwrap();
    let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(
        told.contains("\"seq\":0") && told.contains("too long"),
        "{told}"
    );
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"{\"seq\":1}");
}
