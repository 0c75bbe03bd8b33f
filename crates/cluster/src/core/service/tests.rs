use super::super::fixture;
use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn view(stacks: &[(&str, &str)]) -> View {
    let mut view = fixture::view();
    for (name, text) in stacks {
        view.stacks
            .insert(name.parse().unwrap(), (*text).to_owned());
    }
    view
}

fn stack(image: &str, rest: &str) -> String {
    let resources = r#""resources":{"limit_cpus":1,"limit_memory":1,"limit_pids":1}"#;
    format!(
        r#"{{"name":"hello","services":{{"web":{{"image":"{image}","replicas":3,{resources}{rest}}}}}}}"#
    )
}

fn one(image: &str, rest: &str) -> Wish {
    let (mut wishes, troubles) = wishes(&view(&[("hello", &stack(image, rest))]));
    assert_eq!(troubles, []);
    wishes.remove(0)
}

#[test]
fn an_image_is_taken_from_the_nodes_own_registry_by_digest() {
    let wish = one(&format!("registry.example:5000/team/app:2@{DIGEST}"), "");
    assert_eq!(
        wish.image.to_string(),
        format!("127.0.0.1:5443/team/app@{DIGEST}")
    );
    assert_eq!(wish.name(), "hello_web");
    assert_eq!(wish.search, "hello.home.internal");
}

#[test]
fn an_image_without_a_digest_is_not_deployed() {
    let (wishes, troubles) = wishes(&view(&[("hello", &stack("app:2", ""))]));
    assert_eq!(wishes, []);
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].what.contains("`app:2`"), "{}", troubles[0]);
}

#[test]
fn a_stack_that_cannot_be_read_hides_no_other() {
    let good = stack(&format!("app@{DIGEST}"), "");
    let (wishes, troubles) = wishes(&view(&[("broken", "{"), ("hello", &good)]));
    assert_eq!(wishes.len(), 1);
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].what.contains("`broken`"), "{}", troubles[0]);
}

#[test]
fn a_revision_changes_with_what_is_deployed_and_with_nothing_else() {
    let image = format!("app@{DIGEST}");
    let first = one(&image, "");
    assert_eq!(first.revision(), one(&image, "").revision());
    assert_ne!(first.revision(), one(&image, r#","user":"7""#).revision());
    assert_eq!(first.revision().len(), 32);
}

#[test]
fn a_service_with_a_volume_or_a_host_port_stops_before_it_starts() {
    let check = |rest: &str, expected| {
        let wish = one(&format!("app@{DIGEST}"), rest);
        assert_eq!(wish.order(wish.spec.update.order), expected, "{rest}");
    };
    check("", UpdateOrder::StartFirst);
    check(
        r#","ports":[{"target":80,"published":80}]"#,
        UpdateOrder::StopFirst,
    );
    check(
        r#","volumes":[{"volume":"data","target":"/data"}]"#,
        UpdateOrder::StopFirst,
    );
}
