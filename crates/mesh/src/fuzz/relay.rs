//! A relay with four members, two of them bound, and everybody who can reach it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bastide_api::{NodeId, WireGuardKey};

use super::input::{Input, address};
use crate::core::relay::{MemberKey, PAIRS_MAX, PAIRS_PER_MEMBER_MAX, Quota, Relay};
use crate::core::wireguard::message::Mac1Key;

const STEPS_MAX: usize = 512;
const MEMBERS: u8 = 4;
/// How long a member that says nothing may still be forwarded from and to.
const LIFE: Duration = Duration::from_secs(90);

pub fn run(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut relay = Relay::new(now, node(9), Quota::default());
    let mut heard: [Vec<(SocketAddr, Instant)>; MEMBERS as usize] = Default::default();
    relay.set_members(now, &members(MEMBERS));
    let mut input = Input(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let choice = input.byte();
        let (member, other) = ((choice >> 4) % MEMBERS, (choice >> 6) % MEMBERS);
        match choice & 7 {
            0 => {
                let from = address(input.byte());
                relay.handle_heard(now, node(member), from, choice & 8 == 0);
                heard[usize::from(member)].push((from, now));
            }
            1 => {
                let indices = [input.word(), input.word()];
                let count = usize::from(choice >> 3 & 1) + 1;
                // Refusals are answers too.
                let _ = relay.handle_bind(now, node(member), node(other), &indices[..count]);
            }
            2 => {
                let datagram = datagram(&mut input);
                let from = address(input.byte());
                if let Ok(to) = relay.forward(now, from, &datagram) {
                    check(&heard, now, from, to);
                }
            }
            3 => {
                let from = address(input.byte());
                let len = usize::from(input.byte()) * 8;
                let sent = relay.forward_discovery(now, from, node(member), node(other), len);
                if let Ok(to) = sent {
                    check(&heard, now, from, to);
                }
            }
            4 => {
                now += Duration::from_millis(1 << (input.byte() % 18));
                relay.handle_timeout(now);
            }
            5 => relay.set_members(now, &members(input.byte() % (MEMBERS + 1))),
            _ => {}
        }
        let pairs = relay.status().pairs;
        assert!(pairs <= PAIRS_MAX && pairs <= 2 * PAIRS_PER_MEMBER_MAX * usize::from(MEMBERS));
    }
}

/// What is forwarded comes from where a member was heard, and goes to where one was heard.
fn check(heard: &[Vec<(SocketAddr, Instant)>], now: Instant, from: SocketAddr, to: SocketAddr) {
    let known = |address: SocketAddr| {
        let mut all = heard.iter().flatten();
        all.any(|(at, when)| *at == address && now <= *when + LIFE)
    };
    assert!(known(from), "forwarded for {from}, who proved nothing");
    assert!(known(to), "forwarded to {to}, who never asked");
}

fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.byte();
    let len = match kind % 5 {
        1 => 148,
        2 => 92,
        3 => 64,
        4 => 32 + usize::from(input.byte()),
        _ => usize::from(input.byte()),
    };
    let mut datagram = input.bytes(len.min(16)).to_vec();
    datagram.resize(len, kind);
    if len >= 32 {
        datagram[..4].copy_from_slice(&[kind % 5, 0, 0, 0]);
    }
    if len >= 92 && kind & 8 == 0 {
        Mac1Key::new(&key(kind >> 4 & 3)).sign(&mut datagram);
    }
    datagram
}

fn members(count: u8) -> Vec<MemberKey> {
    (0..count)
        .map(|name| MemberKey {
            node: node(name),
            wireguard: key(name),
        })
        .collect()
}

fn node(name: u8) -> NodeId {
    NodeId::from_bytes([name + 1; 16])
}

fn key(name: u8) -> WireGuardKey {
    WireGuardKey::from_bytes([name + 1; 32])
}
