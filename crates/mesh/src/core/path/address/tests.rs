use super::*;

#[test]
fn only_addresses_that_can_be_an_underlay_are_probed() {
    let exclude = Exclude(vec!["100.72.0.0/16".parse().unwrap()]);
    for (address, expect) in [
        ("192.168.1.7:51820", true),
        ("203.0.113.1:1", true),
        ("[2001:db8::1]:51820", true),
        ("203.0.113.1:0", false),
        ("0.0.0.0:1", false),
        ("127.0.0.1:53", false),
        ("[::1]:53", false),
        ("[::ffff:127.0.0.1]:53", false),
        ("224.0.0.1:1", false),
        ("[ff02::1]:1", false),
        ("255.255.255.255:1", false),
        ("169.254.169.254:80", false),
        ("[fe80::1]:1", false),
        ("100.72.3.4:51820", false),
        ("100.73.3.4:51820", true),
    ] {
        assert_eq!(
            exclude.allows(address.parse().unwrap()),
            expect,
            "{address}"
        );
    }
}
