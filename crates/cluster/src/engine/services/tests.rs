use super::*;
use crate::core::fixture::wish;

#[test]
fn a_service_is_told_with_our_names_our_network_and_without_raw_sockets() {
    let told = serde_json::to_value(spec(&wish("1"), 3)).unwrap();
    let container = &told["TaskTemplate"]["ContainerSpec"];
    assert_eq!(told["EndpointSpec"]["Mode"], "dnsrr");
    assert_eq!(container["DNSConfig"]["Nameservers"][0], "100.72.0.53");
    assert_eq!(container["DNSConfig"]["Search"][0], "hello.home.internal");
    assert_eq!(container["CapabilityDrop"][0], "NET_RAW");
    assert_eq!(told["TaskTemplate"]["Networks"][0]["Target"], "bastide");
    assert_eq!(told["UpdateConfig"]["FailureAction"], "rollback");
    assert_eq!(told["UpdateConfig"]["Order"], "start-first");
    assert_eq!(
        told["TaskTemplate"]["Placement"]["Preferences"][0]["Spread"]["SpreadDescriptor"],
        "node.labels.bastide.site"
    );
}

#[test]
fn a_stack_cannot_take_the_labels_of_another() {
    let mut wish = wish("1");
    let forged = std::collections::BTreeMap::from([(LABEL_STACK.to_owned(), "other".to_owned())]);
    wish.spec.labels = forged.clone();
    wish.spec.service_labels = forged;
    let told = serde_json::to_value(spec(&wish, 3)).unwrap();
    assert_eq!(told["Labels"][LABEL_STACK], "hello");
    assert_eq!(
        told["TaskTemplate"]["ContainerSpec"]["Labels"][LABEL_STACK],
        "hello"
    );
}

#[test]
fn a_port_is_published_on_its_host_only() {
    let mut wish = wish("1");
    wish.spec.ports = serde_json::from_str(r#"[{"target":80,"published":8080}]"#).unwrap();
    let told = serde_json::to_value(spec(&wish, 1)).unwrap();
    let port = &told["EndpointSpec"]["Ports"][0];
    assert_eq!(port["PublishMode"], "host");
    assert_eq!(
        (port["TargetPort"].as_i64(), port["PublishedPort"].as_i64()),
        (Some(80), Some(8080))
    );
    assert_eq!(told["UpdateConfig"]["Order"], "stop-first");
}
