//! What a device does for its companion, and what it keeps on disk.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use bastide_linux::namespace::{self, Namespace};
use bastide_mesh::core::wireguard::{Event, Machine, Roaming, Transmit};
use bastide_mesh::run::device::{
    Action, After, Bind, Companion, Device, DeviceError, DeviceOptions, End,
};

use crate::rig::*;

/// Answers `who` with `I`, forwards everything else to a fixed address, and counts events.
#[derive(Debug, Default)]
struct Companionable {
    forward_to: Option<SocketAddr>,
    waiting: Vec<Transmit>,
    events: Vec<Event>,
    directed: usize,
}

impl Companion for Companionable {
    fn handle_datagram(&mut self, _: Instant, from: SocketAddr, datagram: &mut [u8]) -> Action {
        if datagram == b"who" {
            self.waiting.push(Transmit {
                to: from,
                datagram: b"I".to_vec(),
                whole: false,
            });
            return Action::Done;
        }
        self.forward_to.map_or(Action::Done, Action::Forward)
    }

    fn handle_event(&mut self, _: Instant, event: &Event) {
        self.events.push(*event);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn direct(&mut self, _: Instant, _: &mut Machine) {
        self.directed += 1;
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.waiting.pop()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

fn options(interface: String, floor: Option<PathBuf>) -> DeviceOptions {
    DeviceOptions {
        interface,
        port: 51820,
        mtu: Some(1420),
        roaming: Roaming::Off,
        bind: Bind::Always,
        floor,
        after: After::Gone,
    }
}

fn start(
    host: &Namespace,
    options: DeviceOptions,
    companion: Companionable,
) -> Result<Device<Companionable>, DeviceError> {
    namespace::within(&[host], || Device::start(options, companion)).unwrap()
}

#[test]
fn datagrams_of_others_reach_the_companion_and_leave_from_the_same_port() {
    if !can_run(&[]) {
        return;
    }
    let cable = Cable::new();
    let there = |host: &Namespace| {
        let socket = namespace::within(&[host], || UdpSocket::bind("198.18.0.1:0").unwrap());
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    };
    let (asker, target) = (there(&cable.a), there(&cable.a));
    let companion = Companionable {
        forward_to: Some(target.local_addr().unwrap()),
        ..Companionable::default()
    };
    let device = start(&cable.b, options(unique("d"), None), companion).unwrap();

    let mut bytes = [0; 200];
    asker.send_to(b"who", "198.18.0.2:51820").unwrap();
    let (len, from) = asker.recv_from(&mut bytes).unwrap();
    assert_eq!(
        (&bytes[..len], from.to_string()),
        (&b"I"[..], "198.18.0.2:51820".to_owned())
    );

    // A data message whose index is not the device's own, as a relay gets it.
    let relayed = [[4, 0, 0, 0, 9, 9, 9, 9].to_vec(), vec![7; 60]].concat();
    asker.send_to(&relayed, "198.18.0.2:51820").unwrap();
    let (len, from) = target.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], relayed, "unchanged");
    assert_eq!(from.to_string(), "198.18.0.2:51820");

    let (counters, directed) = device
        .handle()
        .call(|parts| (*parts.counters, parts.companion.directed))
        .unwrap();
    assert_eq!(
        (counters.received, counters.forwarded, counters.sent),
        (2, 1, 2)
    );
    assert!(directed >= 2);
    assert_eq!(device.stop(), End::Stopped);
}

#[test]
fn handshake_timestamps_are_kept_for_the_owner_alone_and_read_again() {
    if !can_run(&[]) {
        return;
    }
    let cable = Cable::new();
    let folder = std::env::temp_dir().join(unique("floor"));
    bastide_linux::file::create_private_dir(&folder).unwrap();
    let path = folder.join("timestamp");
    let mut marks = Vec::new();
    for _ in 0..2 {
        let device = start(
            &cable.a,
            options(unique("d"), Some(path.clone())),
            Companionable::default(),
        )
        .unwrap();
        device
            .handle()
            .call(|parts| {
                parts
                    .machine
                    .set_private_key(parts.now, Some([1; 32].into()));
                let peer = bastide_api::WireGuardKey::from_bytes([9; 32]);
                parts.machine.add_peer(peer).unwrap();
                let to = "198.18.0.2:51820".parse().unwrap();
                parts
                    .machine
                    .set_endpoint(parts.now, &peer, Some(to))
                    .unwrap();
                parts.machine.start_handshake(parts.now, &peer).unwrap();
            })
            .unwrap();
        assert_eq!(device.stop(), End::Stopped);
        marks.push(std::fs::read(&path).unwrap());
    }
    assert_eq!(marks[0].len(), 12);
    assert!(
        marks[0] < marks[1],
        "the second device continues after the first one's mark"
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    std::fs::write(&path, b"damage").unwrap();
    let refused = start(
        &cable.a,
        options(unique("d"), Some(path)),
        Companionable::default(),
    );
    assert!(matches!(refused, Err(DeviceError::Floor { .. })));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_port_that_is_taken_is_refused_and_leaves_no_interface() {
    if !can_run(&[]) {
        return;
    }
    let cable = Cable::new();
    let _taken =
        namespace::within(&[&cable.a], || UdpSocket::bind("198.18.0.1:51820").unwrap()).unwrap();
    let name = unique("d");
    let refused = start(
        &cable.a,
        options(name.clone(), None),
        Companionable::default(),
    );
    assert!(matches!(refused, Err(DeviceError::Udp(_))));
    let mut socket = bastide_linux::netlink::Socket::open_in(&cable.a).unwrap();
    assert!(socket.link(&name).unwrap().is_none());
}

#[test]
fn calls_after_the_end_are_refused() {
    if !can_run(&[]) {
        return;
    }
    let cable = Cable::new();
    let device = start(
        &cable.a,
        options(unique("d"), None),
        Companionable::default(),
    )
    .unwrap();
    let handle = device.handle();
    assert_eq!(device.stop(), End::Stopped);
    assert!(handle.call(|parts| parts.sockets.port()).is_err());
}
