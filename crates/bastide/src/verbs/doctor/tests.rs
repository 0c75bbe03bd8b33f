use bastide_api::doctor::Layer;

use super::*;

#[test]
fn the_page_groups_by_layer_and_shows_what_mends() {
    let checks = [
        Check::pass(Layer::Host, "tun", "opens"),
        Check::skip(Layer::Time, "clock", "nobody to compare with"),
        Check::fail(
            Layer::Mesh,
            "device",
            "`bst0` is down",
            "ip link set bst0 up",
        ),
    ];
    let expected = "\
host
  PASS  tun     opens
time
  skip  clock   nobody to compare with
mesh
  FAIL  device  `bst0` is down
                -> ip link set bst0 up

1 check failed: mend it, then `bastide doctor` again.
";
    assert_eq!(page(&checks), expected);
}
