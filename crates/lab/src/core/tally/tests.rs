use super::*;
use crate::core::frame::tests::{eth, ip4, udp, vxlan};

const PUBLIC_A: [u8; 4] = [203, 0, 113, 1];
const PUBLIC_B: [u8; 4] = [203, 0, 113, 2];
const INNER_A: [u8; 4] = [10, 128, 0, 1];
const INNER_B: [u8; 4] = [10, 128, 0, 2];

fn canary() -> Canary {
    let mut text = [0; CANARY_BYTES];
    for (at, byte) in (0..).zip(&mut text) {
        *byte = 0xa0_u8.wrapping_add(7 * at);
    }
    Canary(text)
}

fn count(frames: &[Vec<u8>]) -> Counts {
    let filters = Filters {
        canaries: vec![canary()],
        inner: vec!["10.128.0.0/12".parse().unwrap()],
    };
    let mut tally = Tally::new(&filters);
    for frame in frames {
        tally.add(LinkKind::Ethernet, frame);
    }
    tally.counts()
}

#[test]
fn each_frame_is_counted_by_what_is_in_it() {
    let outer = |payload: &[u8]| eth(0x0800, &ip4(PUBLIC_A, PUBLIC_B, 17, payload));
    let inner = ip4(INNER_A, INNER_B, 17, &udp(1, 2, b"hello"));
    let mut data = vec![9; 64];
    data[..4].copy_from_slice(&[4, 0, 0, 0]);
    let frames = [
        outer(&udp(51_820, 51_820, &data)),
        outer(&vxlan(&eth(0x0800, &inner))),
        eth(0x0800, &inner),
        outer(&udp(1, 2, &canary().0)),
        outer(&udp(1, 2, b"nothing")),
    ];
    let counts = count(&frames);
    assert_eq!((counts.frames, counts.wireguard, counts.vxlan), (5, 1, 1));
    assert_eq!((counts.inner, counts.canary, counts.missed), (2, 1, 0));
    assert_eq!(
        counts.bytes,
        frames.iter().map(|frame| frame.len() as u64).sum::<u64>()
    );
}

#[test]
fn a_canary_is_found_at_every_place_and_only_whole() {
    let needle = Needle::new(&canary());
    let text = canary().0;
    for before in 0..100 {
        for after in [0, 1, 31, 64] {
            let whole = [vec![0xa0; before], text.to_vec(), vec![text[31]; after]].concat();
            assert!(needle.is_in(&whole), "{before} before, {after} after");
            let cut = [vec![0xa0; before], text[..31].to_vec(), vec![0; after]].concat();
            assert!(!needle.is_in(&cut), "{before} before, {after} after");
        }
    }
    assert!(!needle.is_in(b""));
}

#[test]
fn a_canary_that_repeats_itself_is_found_too() {
    let needle = Needle::new(&Canary([7; CANARY_BYTES]));
    assert!(needle.is_in(&[7; 40]));
    assert!(!needle.is_in(&[7; 31]));
    let mut broken = [7; 63];
    broken[31] = 8;
    assert!(!needle.is_in(&broken));
}
