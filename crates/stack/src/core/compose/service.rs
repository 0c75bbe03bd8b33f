//! One service of the file.

use std::collections::BTreeMap;

use bastide_api::ServiceName;

use super::reader::{Reader, quote};
use super::{deploy, mounts, refused, units};
use crate::core::model::{Healthcheck, ProbeCommand, Restart, RestartCondition, Service};
use crate::core::yaml::{Entry, Node, Value};

const KEYS: &[&str] = &[
    "cap_drop",
    "command",
    "deploy",
    "entrypoint",
    "environment",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "ports",
    "read_only",
    "restart",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "user",
    "volumes",
    "working_dir",
];

/// Prefixes of labels by which the engine and the cluster know their containers.
const RESERVED_LABELS: &[&str] = &[
    "bastide.",
    "com.docker.",
    "io.docker.",
    "org.dockerproject.",
];

/// Reads the service `name`; `None` if it has no image.
pub fn read(reader: &mut Reader, name: &ServiceName, entry: &Entry) -> Option<Service> {
    let context = format!("service `{name}`");
    let fields = reader.fields(&entry.value, &context, KEYS, refused::in_service)?;
    let Some(image) = fields.get("image") else {
        let hint = "write `image: NAME`";
        if !matches!(&entry.value.value, Value::Map(entries)
            if entries.iter().any(|entry| entry.key == "build"))
        {
            reader.error(entry.at, format!("{context} has no `image`"), Some(hint));
        }
        return None;
    };
    let image = reader.text(image).and_then(|text| match text.parse() {
        Ok(image) => Some(image),
        Err(error) => {
            let what = format!("`{}` is not an image: {error}", quote(&text));
            reader.error(image.at, what, None);
            None
        }
    });
    let deploy = deploy::read(reader, name, fields.get("deploy"));
    let restart = match (fields.get("restart"), deploy.restart) {
        (Some(node), Some(_)) => {
            let what = "`restart` and `deploy.restart_policy` say the same thing twice";
            reader.error(node.at, what, Some("delete one of them"));
            Restart::default()
        }
        (Some(node), None) => restart(reader, node),
        (None, policy) => policy.unwrap_or_default(),
    };
    let word = |reader: &mut Reader, key: &str, expected: &str, extra: &[u8]| {
        let node = fields.get(key)?;
        reader.value(node, expected, |text| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
            let fits = !text.is_empty() && text.len() <= 128 && text.bytes().all(good);
            fits.then(|| text.to_owned())
        })
    };
    let service = Service {
        image: image?,
        entrypoint: fields
            .get("entrypoint")
            .and_then(|node| command(reader, node)),
        command: fields.get("command").and_then(|node| command(reader, node)),
        environment: fields
            .get("environment")
            .map(|node| environment(reader, node))
            .unwrap_or_default(),
        ports: mounts::ports(reader, fields.get("ports")),
        healthcheck: fields
            .get("healthcheck")
            .and_then(|node| healthcheck(reader, node)),
        replicas: deploy.replicas,
        placement: deploy.placement,
        resources: deploy.resources,
        update: deploy.update,
        rollback: deploy.rollback,
        restart,
        volumes: mounts::volumes(reader, fields.get("volumes")),
        tmpfs: mounts::tmpfs(reader, fields.get("tmpfs")),
        labels: fields
            .get("labels")
            .map(|node| labels(reader, node))
            .unwrap_or_default(),
        service_labels: deploy.labels,
        user: word(
            reader,
            "user",
            "a user: `name`, `uid` or `uid:gid`",
            b"_.-:",
        ),
        working_dir: fields
            .get("working_dir")
            .and_then(|node| mounts::container_path(reader, node)),
        hostname: word(reader, "hostname", "a host name", b"-"),
        read_only: fields
            .get("read_only")
            .and_then(|node| reader.flag(node))
            .unwrap_or_default(),
        init: fields.get("init").and_then(|node| reader.flag(node)),
        cap_drop: fields
            .get("cap_drop")
            .map(|node| capabilities(reader, node))
            .unwrap_or_default(),
        stop_signal: word(reader, "stop_signal", "a signal such as `SIGTERM`", b"+-"),
        stop_grace_period: fields
            .get("stop_grace_period")
            .and_then(|node| reader.value(node, "a duration such as `10s`", units::duration)),
    };
    mounts::check_targets(reader, &entry.value, &service);
    Some(service)
}

fn restart(reader: &mut Reader, node: &Node) -> Restart {
    let expected = "`no`, `on-failure`, `always` or `unless-stopped`";
    let condition = reader.value(node, expected, |text| match text {
        "no" => Some(RestartCondition::None),
        "on-failure" => Some(RestartCondition::OnFailure),
        "always" | "unless-stopped" => Some(RestartCondition::Any),
        _ => None,
    });
    Restart {
        condition: condition.unwrap_or(RestartCondition::Any),
        ..Restart::default()
    }
}

/// A command: a list of words, or a line that is split as a shell would. Nothing written means
/// that the image's own is kept.
fn command(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    if node.is_null() {
        return None;
    }
    if let Value::List(nodes) = &node.value {
        return nodes.iter().map(|node| reader.text(node)).collect();
    }
    reader.value(node, "a command: a quote is left open", units::words)
}

fn environment(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let missing = "write the value: nothing is taken from the environment of the command";
    pairs(
        reader,
        node,
        "`environment`",
        missing,
        |reader, node, name| {
            let good = !name.is_empty() && !name.contains(['=', '\0']);
            if !good {
                let what = format!("`{}` is not the name of a variable", quote(name));
                reader.error(node.at, what, None);
            }
            good
        },
    )
}

/// Reads labels, from a map or from a list of `name=value`.
pub fn labels(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let missing = "write `\"\"` for an empty value";
    pairs(reader, node, "`labels`", missing, |reader, node, name| {
        let reserved = RESERVED_LABELS
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if reserved {
            let what = format!("label `{}` is reserved", quote(name));
            let hint = "the engine and the cluster know their containers by such labels";
            reader.error(node.at, what, Some(hint));
        } else if name.is_empty() {
            reader.error(node.at, "a label has no name", None);
        }
        !reserved && !name.is_empty()
    })
}

fn pairs(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    hint_if_missing: &str,
    check: fn(&mut Reader, &Node, &str) -> bool,
) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    match &node.value {
        _ if node.is_null() => {}
        Value::Map(entries) => {
            for entry in entries {
                if entry.value.is_null() {
                    let what = format!("`{}` has no value", quote(&entry.key));
                    reader.error(entry.at, what, Some(hint_if_missing));
                } else if let Some(value) = reader.text(&entry.value)
                    && check(reader, &entry.value, &entry.key)
                {
                    pairs.insert(entry.key.clone(), value);
                }
            }
        }
        Value::List(nodes) => {
            for node in nodes {
                let Some(text) = reader.text(node) else {
                    continue;
                };
                let Some((name, value)) = text.split_once('=') else {
                    let what = format!("`{}` has no value", quote(&text));
                    reader.error(node.at, what, Some(hint_if_missing));
                    continue;
                };
                if check(reader, node, name)
                    && pairs.insert(name.to_owned(), value.to_owned()).is_some()
                {
                    reader.error(node.at, format!("`{}` is given twice", quote(name)), None);
                }
            }
        }
        Value::Scalar { .. } => {
            let what = format!("{what} takes a map or a list of `name=value`");
            reader.error(node.at, what, None);
        }
    }
    pairs
}

fn capabilities(reader: &mut Reader, node: &Node) -> Vec<String> {
    let nodes = reader.list(node, "`cap_drop`").unwrap_or_default();
    let expected = "a capability such as `NET_RAW`, or `ALL`";
    nodes
        .iter()
        .filter_map(|node| {
            reader.value(node, expected, |text| {
                let name = text.strip_prefix("CAP_").unwrap_or(text);
                let good = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
                let fits = !name.is_empty() && name.len() <= 32 && name.bytes().all(good);
                fits.then(|| name.to_owned())
            })
        })
        .collect()
}

fn healthcheck(reader: &mut Reader, node: &Node) -> Option<Healthcheck> {
    const KEYS: &[&str] = &[
        "test",
        "interval",
        "timeout",
        "retries",
        "start_period",
        "disable",
    ];
    let refused = |key: &str| {
        (key == "start_interval").then_some("engines before 25 do not know it; use `start_period`")
    };
    let fields = reader.fields(node, "`healthcheck`", KEYS, refused)?;
    let disable = fields.get("disable").and_then(|node| reader.flag(node));
    let mut time = |key: &str| {
        let node = fields.get(key)?;
        reader.value(node, "a duration such as `10s`", units::duration)
    };
    let (interval, timeout) = (time("interval"), time("timeout"));
    let start_period = time("start_period");
    let retries = fields
        .get("retries")
        .and_then(|node| reader.number(node, 1_000));
    let test = fields.get("test").map(|node| probe(reader, node));
    let others = interval.is_some() || timeout.is_some() || retries.is_some();
    if disable == Some(true) {
        if others || test.is_some() || start_period.is_some() {
            let hint = "delete the other keys, or `disable`";
            reader.error(
                node.at,
                "a disabled `healthcheck` has other keys",
                Some(hint),
            );
        }
        return Some(Healthcheck::Disabled);
    }
    let test = match test {
        Some(Probe::None) => return Some(Healthcheck::Disabled),
        Some(Probe::Wrong) => return None,
        Some(Probe::Command(command)) => Some(command),
        None => None,
    };
    Some(Healthcheck::Probe {
        test,
        interval,
        timeout,
        retries,
        start_period,
    })
}

enum Probe {
    Command(ProbeCommand),
    None,
    Wrong,
}

fn probe(reader: &mut Reader, node: &Node) -> Probe {
    let Value::List(nodes) = &node.value else {
        return match reader.text(node) {
            Some(line) if !line.trim().is_empty() => Probe::Command(ProbeCommand::Shell(line)),
            Some(_) => {
                reader.error(node.at, "`test` is empty", None);
                Probe::Wrong
            }
            None => Probe::Wrong,
        };
    };
    let Some(words) = nodes
        .iter()
        .map(|node| reader.text(node))
        .collect::<Option<Vec<_>>>()
    else {
        return Probe::Wrong;
    };
    match words.split_first() {
        Some((kind, [])) if kind == "NONE" => Probe::None,
        Some((kind, words)) if kind == "CMD" && !words.is_empty() => {
            Probe::Command(ProbeCommand::Exec(words.to_vec()))
        }
        Some((kind, [line])) if kind == "CMD-SHELL" => {
            Probe::Command(ProbeCommand::Shell(line.clone()))
        }
        _ => {
            let hint = "write `[CMD, program, argument]`, `[CMD-SHELL, \"line\"]` or `[NONE]`";
            reader.error(node.at, "`test` is not a health check", Some(hint));
            Probe::Wrong
        }
    }
}
