//! Two namespaces joined by a cable, and the programs that run in them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bastide_linux::namespace::{self, Namespace};
use bastide_linux::netlink::{self, VethEnd};
use ipnet::IpNet;

/// How long anything may take before a test fails. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(20);

static NAMES: AtomicU32 = AtomicU32::new(0);

/// Tells whether a test can run here; says aloud why not.
pub fn can_run(programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: root is missing");
        return false;
    }
    if !PathBuf::from("/dev/net/tun").exists() {
        eprintln!("skipped: /dev/net/tun is missing");
        return false;
    }
    for program in programs {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", program])
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("skipped: {program} is missing");
            return false;
        }
    }
    true
}

/// A name that no other test and no other run has: UAPI sockets are in one folder for all.
pub fn unique(label: &str) -> String {
    let count = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("b{}{label}{count}", std::process::id())
}

/// Two hosts, 198.18.0.1 and 198.18.0.2, joined by a cable.
pub struct Cable {
    pub a: Namespace,
    pub b: Namespace,
}

impl Cable {
    pub fn new() -> Self {
        let (a, ()) = Namespace::new_network(|| ()).unwrap();
        let (b, ()) = Namespace::new_network(|| ()).unwrap();
        let (near, mut far) = (VethEnd::new("up0"), VethEnd::new("up0"));
        far.network = Some(b.as_fd());
        netlink::Socket::open_in(&a)
            .unwrap()
            .add_veth(&near, &far)
            .unwrap();
        set_up(&a, "up0", &["198.18.0.1/24"]);
        set_up(&b, "up0", &["198.18.0.2/24"]);
        Self { a, b }
    }
}

/// Sets an interface up with its addresses.
pub fn set_up(host: &Namespace, interface: &str, addresses: &[&str]) {
    let mut socket = netlink::Socket::open_in(host).unwrap();
    let link = socket
        .link(interface)
        .unwrap()
        .expect("the interface is there");
    for address in addresses {
        socket
            .add_address(link.index, address.parse::<IpNet>().unwrap())
            .unwrap();
    }
    socket.set_up(link.index).unwrap();
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where a device's UAPI socket is.
pub fn socket(interface: &str) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{interface}.sock"))
}

/// wireguard-go in a namespace; killed when dropped.
pub struct WireguardGo(Child, PathBuf);

impl WireguardGo {
    pub fn start(host: &Namespace, interface: &str) -> Self {
        let child = namespace::within(&[host], || {
            Command::new("wireguard-go")
                .args(["-f", interface])
                .env("LOG_LEVEL", "error")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .unwrap();
        let path = socket(interface);
        wait_for("wireguard-go is there", || {
            std::fs::symlink_metadata(&path).is_ok_and(|file| file.file_type().is_socket())
        });
        Self(child, path)
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_file(&self.1);
    }
}

/// Runs `wg` with `input` on its standard input, which must succeed, and returns what it printed.
pub fn wg(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("wg")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "wg {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sends datagrams until one is answered; returns how long the first answer took.
pub fn echo(from: &Namespace, to: &Namespace, address: IpAddr) -> Duration {
    let server = namespace::within(&[to], || UdpSocket::bind((address, 0)).unwrap()).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let to = server.local_addr().unwrap();
    let client = namespace::within(&[from], || {
        let any: SocketAddr = if to.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        UdpSocket::bind(any).unwrap()
    })
    .unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let begun = Instant::now();
    client.send_to(b"are you there?", to).unwrap();
    let mut bytes = [0; 100];
    let (len, back) = server.recv_from(&mut bytes).unwrap();
    server.send_to(&bytes[..len], back).unwrap();
    let len = client.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"are you there?");
    begun.elapsed()
}

/// Carries a megabyte each way over one TCP connection and compares every byte.
pub fn megabyte_both_ways(from: &Namespace, to: &Namespace, address: IpAddr) {
    let sent: Vec<u8> = (0..1_000_000u32)
        .map(|at| at.wrapping_mul(31).to_be_bytes()[3])
        .collect();
    let listener = namespace::within(&[to], || TcpListener::bind((address, 0)).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut got = vec![0; 1_000_000];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    let mut client =
        namespace::within(&[from], || TcpStream::connect_timeout(&to, LIMIT).unwrap()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(&sent).unwrap();
    let mut got = vec![0; sent.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == sent, "every byte comes back as it went");
    server.join().unwrap();
}
