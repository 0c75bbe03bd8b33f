use super::*;

#[test]
fn the_resolver_never_asks_itself() {
    let text = "# made by hand\nsearch home.lan\nnameserver 100.72.0.53\nnameserver 192.168.1.1\n\
                nameserver 192.168.1.1\nnameserver fe80::1%eth0\nnameserver\nnameserver ::1\n\
                nameserver 9.9.9.9\nnameserver 8.8.8.8\noptions ndots:1\n";
    let own = "100.72.0.53".parse().unwrap();
    let expect = ["192.168.1.1:53", "[::1]:53", "9.9.9.9:53"];
    assert_eq!(
        upstreams(text, own),
        expect.map(|text| text.parse().unwrap())
    );
}
