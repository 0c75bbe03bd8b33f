//! Bytes of a stranger: they may do nothing, and never panic.

use proptest::prelude::*;

use super::*;

fn connected() -> Pair {
    let mut pair = Pair::new();
    pair.connect();
    pair
}

/// The indices that a's messages go to at b and the other way round.
fn known_indices(pair: &Pair) -> Vec<u32> {
    pair.b.by_index.keys().copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_datagram_panics_or_moves_a_peer(
        kind in 0u8..6,
        known in any::<bool>(),
        shape in 0usize..6,
        mac in any::<bool>(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut pair = connected();
        if let Some(len) = [148, 92, 64, 32, 33].get(shape) {
            bytes.resize(*len, 0x5a);
        }
        if bytes.len() >= 12 {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            if known {
                let index = known_indices(&pair)[0].to_le_bytes();
                bytes[4..8].copy_from_slice(&index);
                bytes[8..12].copy_from_slice(&index);
            }
        }
        if mac && matches!((kind, bytes.len()), (1, 148) | (2, 92)) {
            Mac1Key::new(&public(2)).sign(&mut bytes);
        }
        let endpoint = pair.b.peer(&public(1)).unwrap().endpoint;
        let result = pair.b.handle_datagram(pair.now, address(66), &mut bytes);
        let passed = matches!(result, Ok(Received::Packet { .. } | Received::Taken));
        prop_assert!(!passed, "{result:?}");
        prop_assert_eq!(pair.b.peer(&public(1)).unwrap().endpoint, endpoint);
        pair.b.handle_timeout(pair.now + Duration::from_secs(1));
        let sealed = matches!(pair.a_sends(60), Ok(Sent::Sealed { .. }));
        prop_assert!(sealed);
        pair.settle();
        prop_assert_eq!(pair.out_b.len(), 1, "the session stands");
    }

    #[test]
    fn no_packet_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..1500), version in 3u8..8) {
        let mut pair = connected();
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | 5;
        }
        let _ = send(&mut pair.a, pair.now, &bytes);
    }

    #[test]
    fn no_sealed_rubbish_panics_or_passes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in 3u8..8,
    ) {
        // A member may send anything inside its own session.
        let mut pair = connected();
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | 5;
        }
        let id = PeerId(0);
        let mut buffer = [vec![0; 16], bytes.clone(), vec![0; 31]].concat();
        let session = pair.a.expect_peer(id).current.as_mut().unwrap();
        let range = session.sealer.seal(&mut buffer, 16..16 + bytes.len(), 1420).unwrap();
        let result = pair.b.handle_datagram(pair.now, address(1), &mut buffer[range]);
        match result {
            Ok(Received::Packet { .. }) => {
                prop_assert_eq!(&bytes[12..16], &[10, 0, 0, 1]);
            }
            Ok(Received::Taken) => prop_assert!(bytes.is_empty()),
            Ok(Received::NotOurs) => prop_assert!(false, "the index is known"),
            Err(_) => {}
        }
    }

    #[test]
    fn a_lossy_reordering_wire_never_delivers_twice_or_wrongly(
        fates in prop::collection::vec(0u8..8, 50..200),
    ) {
        let mut pair = connected();
        let mut held: Vec<(SocketAddr, Transmit)> = Vec::new();
        for (sent, fate) in fates.into_iter().enumerate() {
            pair.now += Duration::from_secs(2);
            pair.a.handle_timeout(pair.now);
            pair.b.handle_timeout(pair.now);
            let _ = pair.a_sends(60 + sent);
            pair.drain();
            for (from, transmit) in std::mem::take(&mut pair.wire) {
                match fate {
                    0 => {}
                    1 | 2 => held.push((from, transmit)),
                    3 => {
                        let _ = pair.deliver(from, &transmit);
                        let _ = pair.deliver(from, &transmit);
                    }
                    _ => {
                        let _ = pair.deliver(from, &transmit);
                        for (from, transmit) in held.drain(..) {
                            let _ = pair.deliver(from, &transmit);
                        }
                    }
                }
            }
        }
        let mut lens: Vec<_> = pair.out_b.iter().map(Vec::len).collect();
        let delivered = lens.len();
        lens.sort_unstable();
        lens.dedup();
        prop_assert_eq!(lens.len(), delivered, "each length was sent once");
        for out in &pair.out_b {
            prop_assert_eq!(out, &packet([10, 0, 0, 1], [10, 0, 0, 2], out.len()));
        }
    }
}
