use super::*;

const THREE_SITES: &str = include_str!("../../../../../examples/three-sites.yaml");

/// A lab with one host on one switch; `host` is what stands in the host.
fn with_host(host: &str) -> String {
    format!("lab: t\nnodes:\n  net: {{ kind: switch }}\n  a:\n{host}\n")
}

fn refused(text: &str, line: u64, what: &str) {
    let error = Plan::parse(text).unwrap_err();
    assert!(error.what.contains(what), "{error}\nin\n{text}");
    assert_eq!(error.line, line, "{error}\nin\n{text}");
}

#[test]
fn the_example_is_read_whole() {
    let plan = Plan::parse(THREE_SITES).unwrap();
    assert_eq!(plan.name().as_str(), "three-sites");
    let words: Vec<_> = plan
        .nodes()
        .iter()
        .map(|(name, node)| format!("{name} {}", node.role.word()))
        .collect();
    let expected = [
        "atlas host",
        "boreas host",
        "cygnus host",
        "edge-router router",
        "home-router router",
        "internet switch",
    ];
    assert_eq!(words, expected);
    assert_eq!(plan.segments(), 3, "the internet and two wires");
    let (_, home) = plan.node("home-router").unwrap();
    let wan = "wan".parse().unwrap();
    assert_eq!(
        home.role,
        Role::Router(Some(Nat {
            kind: NatKind::PortRestricted,
            wan
        }))
    );
    let (_, boreas) = plan.node("boreas").unwrap();
    let default = ("0.0.0.0/0".parse().unwrap(), "192.168.1.1".parse().unwrap());
    assert_eq!(boreas.routes, [default]);
    assert_eq!(plan.end("boreas/eth0").unwrap().to_string(), "boreas/eth0");
    assert_eq!(plan.end("boreas/eth1"), None);
    assert_eq!(plan.end("internet"), None);
}

#[test]
fn both_ends_of_a_wire_are_on_one_segment() {
    let plan = Plan::parse(THREE_SITES).unwrap();
    let segment = |node: &str, interface: &str| {
        let (_, node) = plan.node(node).unwrap();
        node.interfaces[&interface.parse().unwrap()].segment
    };
    assert_eq!(segment("boreas", "eth0"), segment("home-router", "lan"));
    assert_eq!(segment("atlas", "eth0"), segment("home-router", "wan"));
    assert_ne!(segment("boreas", "eth0"), segment("cygnus", "eth0"));
}

#[test]
fn syntax_errors_have_their_line() {
    refused("lab: t\nnodes: [", 2, "");
    refused(
        "lab: t\nnodes:\n  a: { kind: host }\n  a: { kind: host }\n",
        4,
        "duplicate",
    );
    refused("lab: t\n", 1, "nodes");
    refused(
        "lab: t\nnodes:\n  a: { kind: host, colour: red }\n",
        3,
        "colour",
    );
    refused("lab: t\nnodes: {}\n", 2, "expected 1 to");
}

#[test]
fn words_that_are_not_known_are_refused_with_those_that_are() {
    refused("lab: T\nnodes:\n  a: { kind: host }\n", 1, "lower-case");
    refused(
        "lab: t\nnodes:\n  a: { kind: hots }\n",
        3,
        "expected `host`, `router` or `switch`",
    );
    refused(
        "lab: t\nnodes:\n  a:\n    kind: router\n    nat: full-cone\n",
        5,
        "expected `none`, `port-restricted` or `symmetric`",
    );
    refused(
        "lab: t\nnodes:\n  a:\n    kind: router\n    nat: symmetric\n",
        5,
        "needs `wan`",
    );
    refused(
        "lab: t\nnodes:\n  a:\n    kind: host\n    nat: none\n",
        5,
        "only a router has",
    );
    refused(
        "lab: t\nnodes:\n  a:\n    kind: router\n    nat: symmetric\n    wan: out\n",
        6,
        "no interface of this router",
    );
}

#[test]
fn interfaces_are_checked() {
    let host = |interface: &str| {
        with_host(&format!(
            "    kind: host\n    interfaces:\n      eth0: {{ {interface} }}"
        ))
    };
    assert!(Plan::parse(&host("link: net")).is_ok());
    assert!(Plan::parse(&host("link: net, address: 10.0.0.1/31")).is_ok());
    assert!(Plan::parse(&host("link: net, address: 'fd00::1/64', mtu: 1280")).is_ok());
    refused(&host("link: nte"), 7, "no node is called `nte`");
    refused(&host("link: a"), 7, "no interface of `a` links back");
    refused(
        &host("link: net, address: 10.0.0.1"),
        7,
        "expected the like of",
    );
    refused(
        &host("link: net, address: 10.0.0.0/24"),
        7,
        "the subnet's own",
    );
    refused(&host("link: net, mtu: 10"), 7, "576");
    refused(&host("address: 10.0.0.1/24"), 7, "link");
    let lo = with_host("    kind: host\n    interfaces:\n      lo: { link: net }");
    refused(&lo, 7, "not `lo`");
}

#[test]
fn a_next_hop_must_be_reachable() {
    let host = |route: &str| {
        with_host(&format!(
            "    kind: host\n    interfaces:\n      eth0: {{ link: net, address: 10.0.0.1/24 }}\n    \
             routes:\n      {route}"
        ))
    };
    assert!(Plan::parse(&host("default: 10.0.0.2")).is_ok());
    assert!(Plan::parse(&host("10.1.0.0/16: 10.0.0.2")).is_ok());
    refused(&host("default: 10.0.1.2"), 9, "in no subnet");
    refused(&host("default: here"), 9, "expected the next hop's");
    refused(&host("10.1: 10.0.0.2"), 9, "expected `default` or a subnet");
    refused(&host("'fd00::/8': 10.0.0.2"), 9, "two IP versions");
}

#[test]
fn one_address_is_not_given_twice_on_one_link() {
    let text = "lab: t\nnodes:\n  net: { kind: switch }\n  other: { kind: switch }\n\
        \x20 a: { kind: host, interfaces: { e: { link: net, address: 10.0.0.1/24 } } }\n\
        \x20 b: { kind: host, interfaces: { e: { link: NET, address: 10.0.0.1/24 } } }\n";
    refused(&text.replace("NET", "net"), 6, "`10.0.0.1` is taken by `a`");
    assert!(Plan::parse(&text.replace("NET", "other")).is_ok());
}

#[test]
fn parallel_wires_are_told_apart_by_their_interfaces() {
    let text = |a0: &str, b0: &str| {
        format!(
            "lab: t\nnodes:\n\
             \x20 a: {{ kind: host, interfaces: {{ x: {{ link: {a0} }}, y: {{ link: b/y }} }} }}\n\
             \x20 b: {{ kind: host, interfaces: {{ x: {{ link: {b0} }}, y: {{ link: a/y }} }} }}\n"
        )
    };
    let plan = Plan::parse(&text("b/x", "a/x")).unwrap();
    assert_eq!(plan.segments(), 2);
    refused(&text("b/y", "a/x"), 3, "no interface of `b` links back");
    let many = "lab: t\nnodes:\n  a: { kind: host, interfaces: { x: { link: b } } }\n  \
                b: { kind: host, interfaces: { x: { link: a }, y: { link: a } } }\n";
    refused(many, 3, "several interfaces of `b` link back");
}

#[test]
fn a_file_that_was_damaged_anywhere_is_refused_or_read_but_never_panics() {
    let bytes = THREE_SITES.as_bytes();
    for at in 0..bytes.len() {
        for byte in [b'{', b'\n', b'-', b'0', 0xff] {
            let mut damaged = bytes.to_vec();
            damaged[at] = byte;
            let _ = Plan::parse(&String::from_utf8_lossy(&damaged));
        }
        let _ = Plan::parse(&String::from_utf8_lossy(&bytes[..at]));
    }
}
