use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;

#[test]
fn a_line_of_the_kernel_gives_port_and_inode() {
    let line = "   1: 0100007F:2008 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 \
                       0 812345 1 0000000000000000 100 0 0 10 0";
    assert_eq!(socket(line, LISTEN), Some((8200, 812_345)));
    assert_eq!(socket(line, UNCONNECTED), None);
    assert_eq!(socket("", LISTEN), None);
}

#[test]
fn a_listener_of_ours_is_known_and_a_connection_is_no_listener() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let seen = all();
    let program = std::env::current_exe().unwrap();
    let this = Holder::Other(format!(
        "`{}` (process {})",
        program.file_name().unwrap().display(),
        std::process::id()
    ));
    let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    assert_eq!(seen.holder(Protocol::Tcp, tcp.port()), this);
    assert_eq!(seen.holder(Protocol::Udp, udp.port()), this);
    let connected = ours.local_addr().unwrap().port();
    assert_eq!(seen.holder(Protocol::Tcp, connected), Holder::Nobody);
}

#[test]
fn the_program_is_known_by_its_whole_name_and_after_an_upgrade() {
    assert!(is_ours("bastide") && is_ours("bastide (deleted)"));
    assert!(!is_ours("bastide_agent-6f4b") && !is_ours("bastide-lab") && !is_ours("sshd"));
}
