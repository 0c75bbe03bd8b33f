use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn the_longest_prefix_wins() {
    let mut table = AllowedIps::default();
    for (peer, net) in [
        (0, "0.0.0.0/0"),
        (1, "10.0.0.0/8"),
        (2, "10.1.0.0/16"),
        (3, "10.1.2.3/32"),
        (4, "::/0"),
        (5, "fd00::/8"),
    ] {
        assert_eq!(table.insert(prefix(net), PeerId(peer)), None);
    }
    let check = |address: &str, peer: u32| {
        assert_eq!(
            table.lookup(address.parse().unwrap()),
            Some(PeerId(peer)),
            "{address}"
        );
    };
    check("8.8.8.8", 0);
    check("10.9.9.9", 1);
    check("10.1.9.9", 2);
    check("10.1.2.3", 3);
    check("10.1.2.2", 2);
    check("2001:db8::1", 4);
    check("fd12::1", 5);
    assert_eq!(table.len(), 6);
}

#[test]
fn a_prefix_is_moved_and_removed_alone() {
    let mut table = AllowedIps::default();
    table.insert(prefix("10.0.0.0/8"), PeerId(1));
    assert_eq!(
        table.insert(prefix("10.0.0.0/8"), PeerId(2)),
        Some(PeerId(1))
    );
    table.insert(prefix("10.0.0.0/9"), PeerId(3));
    assert_eq!(table.remove(prefix("10.0.0.0/10")), None);
    assert_eq!(table.remove(prefix("10.0.0.0/8")), Some(PeerId(2)));
    assert_eq!(table.lookup("10.1.1.1".parse().unwrap()), Some(PeerId(3)));
    assert_eq!(table.lookup("10.200.1.1".parse().unwrap()), None);
    assert_eq!(table.len(), 1);
}

fn nets() -> impl Strategy<Value = IpNet> {
    // Few bits vary, so that prefixes meet.
    let v4 = (0u32..64, 0u8..=32).prop_map(|(bits, len)| {
        IpNet::from(Ipv4Net::new_assert(Ipv4Addr::from(bits.reverse_bits() | bits), len).trunc())
    });
    let v6 = (0u128..64, 0u8..=128).prop_map(|(bits, len)| {
        IpNet::from(Ipv6Net::new_assert(Ipv6Addr::from(bits.reverse_bits() | bits), len).trunc())
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn the_trie_agrees_with_a_search_through_all_prefixes(
        steps in prop::collection::vec((nets(), 0u32..5, any::<bool>()), 1..80),
        asked in prop::collection::vec(nets(), 1..40),
    ) {
        let mut table = AllowedIps::default();
        let mut model: BTreeMap<IpNet, PeerId> = BTreeMap::new();
        for (net, peer, keep) in steps {
            if keep {
                let peer = PeerId(peer);
                prop_assert_eq!(table.insert(net, peer), model.insert(net, peer));
            } else {
                prop_assert_eq!(table.remove(net), model.remove(&net));
            }
            prop_assert_eq!(table.len(), model.len());
        }
        for net in asked {
            let address = net.addr();
            let expected = model
                .iter()
                .filter(|(held, _)| held.contains(&address))
                .max_by_key(|(held, _)| held.prefix_len())
                .map(|(_, peer)| *peer);
            prop_assert_eq!(table.lookup(address), expected);
        }
    }

    #[test]
    fn a_trie_that_was_emptied_holds_no_node(
        nets in prop::collection::vec(nets(), 1..60),
    ) {
        let mut table = AllowedIps::default();
        for net in &nets {
            table.insert(*net, PeerId(0));
        }
        for net in &nets {
            table.remove(*net);
        }
        prop_assert_eq!(table.len(), 0);
        prop_assert!(table.v4.root.is_none() && table.v6.root.is_none());
    }
}
