//! Our device against wireguard-go and under `wg`.

use std::sync::mpsc;
use std::thread::JoinHandle;

use bastide_linux::namespace::{self, Namespace};
use bastide_linux::netlink;
use bastide_mesh::core::wireguard::Roaming;
use bastide_mesh::run::alone::{self, AloneError, Stop};
use bastide_mesh::run::device::{After, Alone, Bind, Device, DeviceOptions};
use bastide_mesh::run::uapi::{Access, Server};

use crate::rig::*;

/// Our device in a namespace, run as `bastide wg` runs it.
struct Ours {
    stop: Stop,
    thread: Option<JoinHandle<Result<(), AloneError>>>,
}

impl Ours {
    fn start(host: &Namespace, interface: &str) -> Self {
        let (stop, name) = (Stop::new().unwrap(), interface.to_owned());
        let (ready, is_ready) = mpsc::channel();
        let thread = namespace::within(&[host], || {
            let stop = stop.clone();
            std::thread::spawn(move || {
                alone::run(&name, &stop, |name| ready.send(name.to_owned()).unwrap())
            })
        })
        .unwrap();
        assert_eq!(is_ready.recv_timeout(LIMIT).unwrap(), interface);
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until it has ended by itself.
    fn join(mut self) -> Result<(), AloneError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A device's keys, as `wg` makes them.
struct Keys {
    private: String,
    public: String,
}

fn keys() -> Keys {
    let private = wg(&["genkey"], "");
    let public = wg(&["pubkey"], &private).trim().to_owned();
    Keys {
        private: private.trim().to_owned(),
        public,
    }
}

/// The configuration of a device with one peer, in `wg`'s own file format.
fn configuration(own: &Keys, peer: &Keys, preshared: &str, peer_lines: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 51820\n\
         [Peer]\nPublicKey = {}\nPresharedKey = {preshared}\n{peer_lines}\n",
        own.private, peer.public
    )
}

/// A tunnel between 10.77.0.1 at `cable.a` and 10.77.0.2 at `cable.b`; only `a` knows where its
/// peer is, so only `a` can begin.
fn configure(cable: &Cable, at_a: &str, at_b: &str) -> (Keys, Keys) {
    let (a, b) = (keys(), keys());
    let preshared = wg(&["genpsk"], "");
    let to_b = "AllowedIPs = 10.77.0.2/32, fd77::2/128\nEndpoint = 198.18.0.2:51820";
    let to_a = "AllowedIPs = 10.77.0.1/32, fd77::1/128";
    for (interface, text) in [
        (at_a, configuration(&a, &b, preshared.trim(), to_b)),
        (at_b, configuration(&b, &a, preshared.trim(), to_a)),
    ] {
        wg(&["setconf", interface, "/dev/stdin"], &text);
    }
    set_up(&cable.a, at_a, &["10.77.0.1/24"]);
    set_up(&cable.b, at_b, &["10.77.0.2/24"]);
    (a, b)
}

fn exchange(cable: &Cable) {
    echo(&cable.a, &cable.b, "10.77.0.2".parse().unwrap());
    echo(&cable.b, &cable.a, "10.77.0.1".parse().unwrap());
    megabyte_both_ways(&cable.a, &cable.b, "10.77.0.2".parse().unwrap());
    megabyte_both_ways(&cable.b, &cable.a, "10.77.0.1".parse().unwrap());
}

#[test]
fn wireguard_go_answers_our_handshake() {
    if !can_run(&["wireguard-go", "wg"]) {
        return;
    }
    let (cable, ours, theirs) = (Cable::new(), unique("a"), unique("b"));
    let _ours = Ours::start(&cable.a, &ours);
    let _theirs = WireguardGo::start(&cable.b, &theirs);
    configure(&cable, &ours, &theirs);
    exchange(&cable);
}

#[test]
fn we_answer_the_handshake_of_wireguard_go() {
    if !can_run(&["wireguard-go", "wg"]) {
        return;
    }
    let (cable, ours, theirs) = (Cable::new(), unique("a"), unique("b"));
    let _theirs = WireguardGo::start(&cable.a, &theirs);
    let _ours = Ours::start(&cable.b, &ours);
    configure(&cable, &theirs, &ours);
    exchange(&cable);
}

#[test]
fn two_of_ours_show_in_wg_what_they_have_done() {
    if !can_run(&["wg"]) {
        return;
    }
    let (cable, at_a, at_b) = (Cable::new(), unique("a"), unique("b"));
    let (_a, _b) = (Ours::start(&cable.a, &at_a), Ours::start(&cable.b, &at_b));
    let (a, b) = configure(&cable, &at_a, &at_b);
    exchange(&cable);

    let dump = wg(&["show", &at_a, "dump"], "");
    let rows: Vec<Vec<&str>> = dump
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 2, "the device and one peer: {dump}");
    assert_eq!(rows[0], [&a.private, &a.public, "51820", "off"]);
    assert_eq!(rows[1][0], b.public);
    assert_eq!(
        rows[1][2..4],
        ["198.18.0.2:51820", "10.77.0.2/32,fd77::2/128"]
    );
    let handshake: u64 = rows[1][4].parse().unwrap();
    let now = bastide_linux::clock::wall().as_secs();
    assert!(
        (now - 60..=now).contains(&handshake),
        "{handshake}, now {now}"
    );
    for bytes in &rows[1][5..7] {
        assert!(bytes.parse::<u64>().unwrap() > 2_000_000, "{bytes}");
    }
    assert_eq!(rows[1][7], "off");
}

#[test]
fn a_peer_that_wg_removes_is_cut_off_at_once_and_can_come_back() {
    if !can_run(&["wg"]) {
        return;
    }
    let (cable, at_a, at_b) = (Cable::new(), unique("a"), unique("b"));
    let (_a, _b) = (Ours::start(&cable.a, &at_a), Ours::start(&cable.b, &at_b));
    let (_, b) = configure(&cable, &at_a, &at_b);
    echo(&cable.a, &cable.b, "10.77.0.2".parse().unwrap());
    wg(&["set", &at_a, "peer", &b.public, "remove"], "");
    assert_eq!(wg(&["show", &at_a, "peers"], ""), "");
    let set = ["set", &at_a, "fwmark", "0x10", "peer", &b.public];
    let peer = ["allowed-ips", "10.77.0.9/32", "persistent-keepalive", "25"];
    wg(&[&set[..], &peer[..]].concat(), "");
    assert_eq!(wg(&["show", &at_a, "fwmark"], ""), "0x10\n");
    assert_eq!(
        wg(&["show", &at_a, "allowed-ips"], ""),
        format!("{}\t10.77.0.9/32\n", b.public)
    );
    assert_eq!(
        wg(&["show", &at_a, "persistent-keepalive"], ""),
        format!("{}\t25\n", b.public)
    );
}

#[test]
fn deleting_the_socket_ends_the_device_and_removes_the_interface() {
    if !can_run(&[]) {
        return;
    }
    let (cable, name) = (Cable::new(), unique("a"));
    let ours = Ours::start(&cable.a, &name);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(socket(&name)).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(socket(&name)).unwrap();
    ours.join().unwrap();
    assert!(
        netlink::Socket::open_in(&cable.a)
            .unwrap()
            .link(&name)
            .unwrap()
            .is_none()
    );
}

#[test]
fn deleting_the_interface_ends_the_device_and_removes_the_socket() {
    if !can_run(&[]) {
        return;
    }
    let (cable, name) = (Cable::new(), unique("a"));
    let ours = Ours::start(&cable.a, &name);
    netlink::Socket::open_in(&cable.a)
        .unwrap()
        .delete_link(&name)
        .unwrap();
    ours.join().unwrap();
    assert!(!socket(&name).exists());
}

#[test]
fn a_second_device_of_the_same_name_is_refused() {
    if !can_run(&[]) {
        return;
    }
    let (cable, name) = (Cable::new(), unique("a"));
    let _ours = Ours::start(&cable.a, &name);
    let second = namespace::within(&[&cable.b], || {
        alone::run(&name, &Stop::new().unwrap(), |_| ())
    });
    assert!(matches!(second.unwrap(), Err(AloneError::Uapi(_))));
    assert!(
        socket(&name).exists(),
        "the first one's socket is left alone"
    );
}

#[test]
fn a_managed_device_shows_no_private_key_and_takes_no_configuration() {
    if !can_run(&["wg"]) {
        return;
    }
    let (cable, name) = (Cable::new(), unique("a"));
    let own = keys();
    let device = namespace::within(&[&cable.a], || {
        let options = DeviceOptions {
            interface: name.clone(),
            port: 0,
            mtu: Some(1420),
            roaming: Roaming::Off,
            bind: Bind::Always,
            floor: None,
            after: After::Gone,
        };
        Device::start(options, Alone).unwrap()
    })
    .unwrap();
    let server = Server::start(&name, device.handle(), Access::Managed, device.done()).unwrap();
    let secret: [u8; 32] = data_encoding::BASE64
        .decode(own.private.as_bytes())
        .unwrap()
        .try_into()
        .unwrap();
    device
        .handle()
        .call(move |parts| {
            parts
                .machine
                .set_private_key(parts.now, Some(secret.into()));
        })
        .unwrap();

    let dump = wg(&["show", &name, "dump"], "");
    assert!(dump.starts_with("(none)\t(none)\t"), "{dump}");
    let set = std::process::Command::new("wg")
        .args(["set", &name, "listen-port", "7"])
        .output()
        .unwrap();
    assert!(!set.status.success());
    assert!(String::from_utf8_lossy(&set.stderr).contains("Operation not permitted"));
    drop(server);
    assert!(!socket(&name).exists());
}
