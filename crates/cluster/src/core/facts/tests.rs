use super::*;

fn container(name: &str, address: Option<&str>, labels: &[(&str, &str)]) -> Container {
    Container {
        name: name.to_owned(),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        address: address.map(|text| text.parse().unwrap()),
        health: Health::Unchecked,
    }
}

fn subnet() -> Ipv4Net {
    "10.128.3.0/24".parse().unwrap()
}

#[test]
fn a_task_is_published_under_its_service_and_a_container_under_its_name() {
    let labels = [(LABEL_STACK, "hello"), (LABEL_SERVICE, "hello_web")];
    let facts = tasks(
        &[
            container("hello_web.1.abc", Some("10.128.3.9"), &labels),
            container("shell", Some("10.128.3.4"), &[]),
        ],
        subnet(),
    );
    assert_eq!(facts.len(), 2);
    assert_eq!(facts[0].name.as_deref(), Some("shell"));
    assert_eq!(facts[0].service, None);
    let (stack, service) = facts[1].service.clone().unwrap();
    assert_eq!((stack.as_str(), service.as_str()), ("hello", "web"));
    assert_eq!(facts[1].name, None);
}

#[test]
fn a_container_outside_the_own_subnet_is_not_published() {
    let foreign = container("x", Some("10.128.4.9"), &[]);
    let elsewhere = container("y", None, &[]);
    assert_eq!(tasks(&[foreign, elsewhere], subnet()), []);
}

#[test]
fn a_service_label_without_its_stack_does_not_name_a_service() {
    let labels = [(LABEL_STACK, "other"), (LABEL_SERVICE, "hello_web")];
    let facts = tasks(&[container("x", Some("10.128.3.9"), &labels)], subnet());
    assert_eq!(facts[0].service, None);
    assert_eq!(facts[0].name.as_deref(), Some("x"));
}

#[test]
fn only_a_failed_or_pending_check_makes_a_task_unhealthy() {
    let check = |status: &str, expected| {
        let mut one = container("x", Some("10.128.3.9"), &[]);
        one.health = Health::of_status(status);
        assert_eq!(tasks(&[one], subnet())[0].healthy, expected, "{status}");
    };
    check("Up 5 minutes", true);
    check("Up 5 minutes (healthy)", true);
    check("Up 5 minutes (unhealthy)", false);
    check("Up 2 seconds (health: starting)", false);
}
