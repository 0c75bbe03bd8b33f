use serde_json::json;

use super::*;

fn peer(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 4711)
}

fn nets(list: &Value) -> Vec<IpNet> {
    let map = serde_json::Map::from_iter([("cidrs".to_owned(), list.clone())]);
    field(Fields(&map), "cidrs").unwrap().unwrap()
}

#[test]
fn a_peer_is_admitted_by_its_own_network_alone() {
    let bound = nets(&json!(["10.1.0.0/16", "192.0.2.7", "fd00::/8"]));
    for inside in ["10.1.2.3", "192.0.2.7", "fd12::1", "::ffff:10.1.2.3"] {
        assert!(admit(&bound, Some(peer(inside))), "{inside}");
    }
    for outside in ["10.2.0.1", "192.0.2.8", "fe80::1", "::ffff:10.2.0.1"] {
        assert!(!admit(&bound, Some(peer(outside))), "{outside}");
    }
    assert!(!admit(&bound, None), "an unknown address is outside");
    assert!(admit(&[], None), "nothing is bound");
}

#[test]
fn networks_are_shown_as_they_were_given() {
    let list = json!(["10.1.0.0/16", "192.0.2.7", "fd00::/8"]);
    assert_eq!(shown(&nets(&list)), list);
    assert_eq!(
        shown(&nets(&json!("127.0.0.1/32,10.0.0.0/8"))),
        json!(["127.0.0.1", "10.0.0.0/8"])
    );
    for wrong in ["10.0.0.0/33", "ten", "10.0.0.1/", "10.0.0"] {
        let map = serde_json::Map::from_iter([("cidrs".to_owned(), json!([wrong]))]);
        assert!(field(Fields(&map), "cidrs").is_err(), "{wrong}");
    }
}
