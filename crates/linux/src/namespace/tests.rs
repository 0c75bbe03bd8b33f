use super::*;
use crate::test_support::is_root;

#[test]
fn a_new_network_namespace_has_only_a_loopback_and_its_own_sysctls() {
    if !is_root() {
        return;
    }
    let (network, ()) = Namespace::new_network(|| {
        crate::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
    })
    .unwrap();
    let mut socket = crate::netlink::Socket::open_in(&network).unwrap();
    let names: Vec<String> = socket
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(names, ["lo"]);
    let read = || crate::sysctl::read("net/ipv4/ip_forward").unwrap();
    assert_eq!(within(&[&network], read).unwrap(), "1");
}

#[test]
fn a_thread_that_worked_inside_leaves_the_caller_where_it_was() {
    if !is_root() {
        return;
    }
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    let (network, inside) = Namespace::new_network(here).unwrap();
    assert_ne!(inside, before);
    assert_eq!(within(&[&network], here).unwrap(), inside);
    assert_eq!(here(), before);
}
