use super::*;
use crate::core::model::{
    ByteSize, FailureAction, Healthcheck, Millis, NanoCpus, ProbeCommand, Protocol, Restart,
    RestartCondition, UpdateOrder,
};

fn read(text: &str) -> Result<Stack, Vec<ComposeError>> {
    parse(&"shop".parse().unwrap(), text)
}

fn service(body: &str) -> Service {
    let text = format!("services:\n  web:\n    image: hello\n{body}volumes: {{data: }}\n");
    let mut stack = read(&text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    stack.services.remove(&"web".parse().unwrap()).unwrap()
}

/// The errors of a service whose body begins at line 4, as `line: what` with hints apart.
fn errors(body: &str) -> Vec<(usize, String, String)> {
    let text = format!("services:\n  web:\n    image: hello\n{body}");
    read(&text)
        .expect_err(&text)
        .into_iter()
        .map(|error| (error.line, error.what, error.hint.unwrap_or_default()))
        .collect()
}

fn refused(body: &str, line: usize, words: &str) {
    let errors = errors(body);
    let said = |(at, what, hint): &(usize, String, String)| {
        *at == line && format!("{what} {hint}").contains(words)
    };
    assert!(
        errors.iter().any(said),
        "{body:?} gives {errors:#?}, not {words:?} at line {line}"
    );
}

#[test]
fn a_whole_file_is_read() {
    let stack = read(include_str!("full.yaml")).unwrap();
    assert_eq!(stack.services.len(), 2);
    let web = &stack.services[&"web".parse().unwrap()];
    assert_eq!(web.image.to_string(), "hello:1");
    assert_eq!(
        web.command,
        Some(vec!["serve".into(), "--port".into(), "80".into()])
    );
    assert_eq!(web.environment["PRICE"], "1.10");
    assert_eq!(web.environment["DOLLAR"], "a$b");
    assert_eq!(web.replicas, 3);
    assert_eq!(web.ports[0].target, 80);
    assert_eq!(web.ports[0].published, Some(8080));
    assert_eq!(web.ports[0].protocol, Protocol::Tcp);
    assert_eq!(web.resources.limit_memory, ByteSize(64 << 20));
    assert_eq!(web.resources.limit_cpus, NanoCpus(500_000_000));
    assert_eq!(web.resources.limit_pids, 32);
    assert_eq!(web.resources.reserve_memory, Some(ByteSize(16 << 20)));
    assert_eq!(
        web.placement.constraints[0].as_str(),
        "node.labels.disk==ssd"
    );
    assert_eq!(web.placement.spread, ["node.labels.rack"]);
    assert_eq!(web.update.order, Some(UpdateOrder::StartFirst));
    assert_eq!(web.update.failure_action, FailureAction::Pause);
    assert_eq!(web.restart.condition, RestartCondition::OnFailure);
    assert_eq!(web.volumes[0].volume.as_str(), "data");
    assert!(web.volumes[0].read_only);
    assert_eq!(web.tmpfs[0].size, Some(ByteSize(8 << 20)));
    assert_eq!(web.stop_grace_period, Some(Millis(5_000)));
    assert_eq!(
        web.healthcheck,
        Some(Healthcheck::Probe {
            test: Some(ProbeCommand::Exec(vec!["/hello".into(), "check".into()])),
            interval: Some(Millis(2_000)),
            timeout: Some(Millis(1_500)),
            retries: Some(3),
            start_period: None,
        })
    );
    let other = &stack.services[&"other".parse().unwrap()];
    assert_eq!(other.environment["COMMON"], "yes");
    assert_eq!(other.healthcheck, Some(Healthcheck::Disabled));
}

#[test]
fn a_stack_survives_its_json() {
    let stack = read(include_str!("full.yaml")).unwrap();
    let json = serde_json::to_string(&stack).unwrap();
    assert_eq!(serde_json::from_str::<Stack>(&json).unwrap(), stack);
}

#[test]
fn limits_are_added_and_the_person_is_told() {
    let stack = read("services: {web: {image: hello}}").unwrap();
    let web = &stack.services[&"web".parse().unwrap()];
    assert_eq!(web.resources.limit_memory, ByteSize(256 << 20));
    assert_eq!(web.resources.limit_cpus, NanoCpus(1_000_000_000));
    assert_eq!(web.resources.limit_pids, 256);
    assert_eq!(web.placement.spread, ["node.labels.bastide.site"]);
    assert_eq!(web.restart, Restart::default());
    assert_eq!(stack.notes.len(), 1);
    assert!(stack.notes[0].contains("256 MiB"), "{:?}", stack.notes);
    let full = read(include_str!("full.yaml")).unwrap();
    assert!(
        !full.notes.iter().any(|note| note.contains("`web`")),
        "{:?}",
        full.notes
    );
}

#[test]
fn commands_may_be_lines_or_lists() {
    let words = |body: &str| service(body).command;
    assert_eq!(
        words("    command: a 'b c'\n"),
        Some(vec!["a".into(), "b c".into()])
    );
    assert_eq!(
        words("    command: [a, \"b c\"]\n"),
        Some(vec!["a".into(), "b c".into()])
    );
    assert_eq!(words("    command:\n"), None);
    assert_eq!(words("    command: []\n"), Some(vec![]));
    refused("    command: a 'b\n", 4, "quote is left open");
}

#[test]
fn every_unknown_key_is_refused_with_its_line() {
    refused("    imagee: x\n", 4, "did you mean `image`?");
    refused(
        "    deploy:\n      replica: 3\n",
        5,
        "did you mean `replicas`?",
    );
    refused("    labels: {}\n    zzzzzzzz: x\n", 5, "known here:");
    let errors = read("servces: {}\n").unwrap_err();
    let hints: Vec<_> = errors
        .iter()
        .filter_map(|error| error.hint.as_deref())
        .collect();
    assert_eq!(hints, ["did you mean `services`?"]);
    refused(
        "    deploy:\n      update_config:\n        x: 1\n",
        6,
        "not known in `update_config`",
    );
}

#[test]
fn what_breaks_out_of_a_container_is_refused_by_name() {
    refused("    privileged: true\n", 4, "root on the host");
    refused("    cap_add: [NET_ADMIN]\n", 4, "`cap_add` is refused");
    refused("    devices: [/dev/kvm]\n", 4, "a device of the host");
    refused(
        "    security_opt: [seccomp=unconfined]\n",
        4,
        "host's kernel",
    );
    refused(
        "    sysctls: {net.ipv4.ip_forward: 1}\n",
        4,
        "host's kernel",
    );
    for key in ["network_mode", "pid", "ipc", "userns_mode"] {
        refused(&format!("    {key}: host\n"), 4, "host's namespace");
    }
    refused("    build: .\n", 4, "docker build");
    refused(
        "    volumes: [\"/:/host\"]\n",
        4,
        "the host's path `/` is refused",
    );
    refused(
        "    volumes: [\"./src:/src\"]\n",
        4,
        "the host's path `./src` is refused",
    );
    refused(
        "    volumes: [\"/var/run/docker.sock:/s:ro\"]\n",
        4,
        "the host's path",
    );
    refused(
        "    volumes:\n      - type: bind\n        source: /\n        target: /host\n",
        5,
        "mounts of type `bind` are refused",
    );
    let text = "services: {web: {image: a}}\nvolumes:\n  d:\n    driver_opts: {device: /}\n";
    let error = &read(text).unwrap_err()[0];
    assert_eq!(error.line, 4);
    assert_eq!(
        error.hint.as_deref(),
        Some("driver options can bind a path of the host")
    );
}

#[test]
fn ports_of_every_other_mode_than_host_are_refused() {
    refused(
        "    ports: [\"8080:80\"]\n",
        4,
        "`{target: 80, published: 8080, mode: host}`",
    );
    refused("    ports:\n      - {target: 80}\n", 5, "add `mode: host`");
    refused(
        "    ports:\n      - {target: 80, mode: ingress}\n",
        5,
        "write `mode: host`",
    );
    refused(
        "    ports:\n      - {target: 80-90, mode: host}\n",
        5,
        "ranges",
    );
    refused(
        "    ports:\n      - {target: 0, mode: host}\n",
        5,
        "from 1 to 65535",
    );
    refused(
        "    ports:\n      - {published: 80, mode: host}\n",
        5,
        "no `target`",
    );
    refused(
        "    deploy: {endpoint_mode: vip}\n",
        4,
        "no virtual addresses",
    );
    let twice = "    ports:\n      - {target: 1, published: 9, mode: host}\n      - {target: 2, published: 9, mode: host}\n";
    refused(twice, 5, "published twice");
}

#[test]
fn variables_are_refused_with_their_line() {
    refused(
        "    environment:\n      A: ${HOME}\n",
        5,
        "variables are not supported",
    );
    refused(
        "    environment:\n      - A=$HOME\n",
        5,
        "`$$` for a dollar sign",
    );
    refused(
        "    environment: [HOME]\n",
        4,
        "nothing is taken from the environment",
    );
    refused(
        "    environment:\n      HOME:\n",
        5,
        "nothing is taken from the environment",
    );
}

#[test]
fn labels_by_which_containers_are_known_are_reserved() {
    refused(
        "    labels: {com.docker.swarm.service.name: x}\n",
        4,
        "reserved",
    );
    refused("    labels: [bastide.service=x]\n", 4, "reserved");
    refused("    deploy:\n      labels: {bastide.x: y}\n", 5, "reserved");
}

#[test]
fn values_out_of_range_are_refused() {
    refused("    deploy: {replicas: -1}\n", 4, "whole number");
    refused("    deploy: {replicas: 10001}\n", 4, "whole number");
    refused("    deploy: {mode: global}\n", 4, "only mode");
    refused(
        "    deploy: {resources: {limits: {memory: 1m}}}\n",
        4,
        "from `6m`",
    );
    refused("    deploy: {resources: {limits: {cpus: 0}}}\n", 4, "0.001");
    refused(
        "    deploy: {resources: {limits: {pids: 0}}}\n",
        4,
        "from 1",
    );
    refused(
        "    deploy: {resources: {reservations: {memory: 1g}}}\n",
        4,
        "more memory is reserved",
    );
    refused(
        "    deploy: {placement: {constraints: [\"node.role = x\"]}}\n",
        4,
        "node.labels.disk",
    );
    refused("    stop_grace_period: 10\n", 4, "duration");
    refused("    healthcheck: {test: [run]}\n", 4, "CMD-SHELL");
    refused(
        "    healthcheck: {disable: true, retries: 2}\n",
        4,
        "other keys",
    );
    refused("    init: yes\n", 4, "`true` or `false`");
    refused(
        "    volumes: [\"data:/d\"]\n",
        4,
        "volume `data` is not declared",
    );
    refused("    tmpfs: [/a, /a/]\n", 4, "two mounts");
    refused("    tmpfs: ../a\n", 4, "absolute path");
    refused("    restart: sometimes\n", 4, "unless-stopped");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = "services:\n  web:\n    image: hello\n    privileged: true\n    foo: 1\n  Bad_Name:\n    image: x\n  db:\n    pid: host\nnetworks: {}\n";
    let lines: Vec<usize> = read(text)
        .unwrap_err()
        .iter()
        .map(|error| error.line)
        .collect();
    assert_eq!(lines, [4, 5, 6, 8, 9, 10]);
}

#[test]
fn a_file_of_another_shape_is_refused() {
    for text in [
        "",
        "[]",
        "x",
        "services:",
        "services: []",
        "services: {}",
        "services: {web: }",
    ] {
        assert!(read(text).is_err(), "{text:?}");
    }
    let long = format!(
        "# {}\nservices: {{web: {{image: a}}}}",
        "x".repeat(COMPOSE_BYTES_MAX)
    );
    assert!(read(&long).unwrap_err()[0].what.contains("longer than"));
    let many: Vec<String> = (0..101)
        .map(|i| format!("  s{i}: {{image: a}}\n"))
        .collect();
    let many = many.concat();
    assert!(
        read(&format!("services:\n{many}")).unwrap_err()[0]
            .what
            .contains("at most 100")
    );
    assert!(read("name: other\nservices: {web: {image: a}}").is_err());
    assert!(read("name: shop\nservices: {web: {image: a}}").is_ok());
    assert!(read("x-any: {thing: 1}\nservices: {web: {image: a, x-more: 2}}").is_ok());
}

#[test]
fn messages_quote_hostile_text_briefly_and_without_control_characters() {
    let body = format!(
        "    deploy: {{replicas: \"\\e[31m{}\"}}\n",
        "9".repeat(5_000)
    );
    let what = &errors(&body)[0].1;
    assert!(what.len() < 200, "{what}");
    assert!(!what.contains('\u{1b}'));
}

#[test]
fn no_stack_takes_the_name_under_which_nodes_are_found() {
    let errors = parse(&"node".parse().unwrap(), "services: {web: {image: a}}").unwrap_err();
    assert!(errors[0].what.contains("cannot be named `node`"));
}

#[test]
fn damaged_files_never_panic() {
    const DAMAGE: &[u8] = b"{}[]:&*!|>'\"%@`-? \n\t#,\0$";
    let whole = include_bytes!("full.yaml");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..=next(4) {
            let at = next(bytes.len().max(1));
            if bytes.is_empty() {
                break;
            }
            match next(3) {
                0 => bytes[at] = DAMAGE[next(DAMAGE.len())],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        refused += usize::from(read(&text).is_err());
    }
    assert!(
        500 < refused,
        "the damage was too small: {refused} of 3000 refused"
    );
}

#[test]
fn the_example_that_newcomers_deploy_is_read() {
    let text = include_str!("../../../../../examples/hello/compose.yaml");
    let stack = parse(&"hello".parse().unwrap(), text);
    let stack = stack.unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(!stack.services.is_empty());
}

#[test]
fn the_name_that_a_file_declares_is_found_and_no_other() {
    let check = |text, expected: Option<&str>| {
        assert_eq!(declared_name(text).as_deref(), expected, "{text}");
    };
    check("name: shop\nservices: {}", Some("shop"));
    check("services: { name: { image: x } }", None);
    check("- name", None);
    check("name: [a]", None);
    check(": :", None);
    check("", None);
}
