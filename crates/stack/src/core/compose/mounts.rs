//! Ports, volumes and file systems in memory of a service.

use std::collections::BTreeSet;

use super::reader::{Reader, quote};
use super::{refused, units};
use crate::core::model::{Port, Protocol, Service, Tmpfs, VolumeMount};
use crate::core::yaml::{Node, Value};

/// Most ports, volumes or file systems of a service.
const LIST_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 1_024;
const HOST_PATH: &str = "a path of the host is outside of what a container may touch; use a named \
                         volume (`NAME:/path`) or put the files into the image";

pub fn ports(reader: &mut Reader, node: Option<&Node>) -> Vec<Port> {
    let ports: Vec<Port> = items(reader, node, "`ports`")
        .iter()
        .filter_map(|node| port(reader, node))
        .collect();
    let mut published = BTreeSet::new();
    for port in &ports {
        if let (Some(number), Some(node)) = (port.published, node)
            && !published.insert((number, port.protocol == Protocol::Udp))
        {
            reader.error(node.at, format!("port {number} is published twice"), None);
        }
    }
    ports
}

fn port(reader: &mut Reader, node: &Node) -> Option<Port> {
    const KEYS: &[&str] = &["target", "published", "protocol", "mode"];
    const INGRESS: &str = "a port is published on the hosts that run the task; there is no \
                           ingress that listens on every host";
    if let Value::Scalar { text, .. } = &node.value {
        let what = format!("the short form `{}` means mode `ingress`", quote(text));
        let ports = text
            .split('/')
            .next()
            .unwrap_or_default()
            .rsplit(':')
            .take(2);
        let numbers: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
        let hint = match numbers.as_slice() {
            [target, published] => format!(
                "{INGRESS}: write `{{target: {target}, published: {published}, mode: host}}`"
            ),
            _ => format!("{INGRESS}: write `{{target: 80, published: 8080, mode: host}}`"),
        };
        reader.error(node.at, what, Some(&hint));
        return None;
    }
    let fields = reader.fields(node, "a port", KEYS, refused::in_port)?;
    let mut number = |key: &str| {
        let node = fields.get(key)?;
        let expected = "a port from 1 to 65535; ranges are not supported";
        Some(reader.value(node, expected, |text| {
            text.parse().ok().filter(|port| *port != 0)
        }))
    };
    let (target, published) = (number("target"), number("published"));
    let protocol = fields.get("protocol").and_then(|node| {
        reader.value(node, "`tcp` or `udp`", |text| match text {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        })
    });
    match fields.get("mode") {
        None => {
            let what = "a port without `mode` means mode `ingress`";
            reader.error(node.at, what, Some(&format!("{INGRESS}: add `mode: host`")));
        }
        Some(mode) => {
            let text = reader.text(mode)?;
            if text != "host" {
                let what = format!("a port's mode cannot be `{}`", quote(&text));
                reader.error(
                    mode.at,
                    what,
                    Some(&format!("{INGRESS}: write `mode: host`")),
                );
            }
        }
    }
    let Some(target) = target else {
        reader.error(node.at, "a port has no `target`", None);
        return None;
    };
    Some(Port {
        target: target?,
        published: published.flatten(),
        protocol: protocol.unwrap_or_default(),
    })
}

pub fn volumes(reader: &mut Reader, node: Option<&Node>) -> Vec<VolumeMount> {
    items(reader, node, "`volumes`")
        .iter()
        .filter_map(|node| match &node.value {
            Value::Scalar { .. } => short_mount(reader, node),
            _ => long_mount(reader, node),
        })
        .collect()
}

/// `NAME:/path` or `NAME:/path:ro`.
fn short_mount(reader: &mut Reader, node: &Node) -> Option<VolumeMount> {
    let text = reader.text(node)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source, target] => (*source, *target, "rw"),
        [source, target, mode] => (*source, *target, *mode),
        _ => {
            let what = format!("`{}` is not a named volume", quote(&text));
            reader.error(node.at, what, Some("write `NAME:/path` or `NAME:/path:ro`"));
            return None;
        }
    };
    let volume = volume_name(reader, node, source)?;
    let read_only = match mode {
        "rw" => false,
        "ro" => true,
        other => {
            let what = format!("mode `{}` of a volume is not known", quote(other));
            reader.error(node.at, what, Some("write `rw` or `ro`"));
            return None;
        }
    };
    Some(VolumeMount {
        volume,
        target: check_path(reader, node, target)?,
        read_only,
    })
}

fn long_mount(reader: &mut Reader, node: &Node) -> Option<VolumeMount> {
    const KEYS: &[&str] = &["type", "source", "target", "read_only"];
    let fields = reader.fields(node, "a volume", KEYS, refused::in_mount)?;
    if let Some(kind) = fields.get("type") {
        let text = reader.text(kind)?;
        if text != "volume" {
            let hint = if text == "tmpfs" {
                "use the key `tmpfs` of the service"
            } else {
                HOST_PATH
            };
            let what = format!("mounts of type `{}` are refused", quote(&text));
            reader.error(kind.at, what, Some(hint));
            return None;
        }
    }
    let (Some(source), Some(target)) = (fields.get("source"), fields.get("target")) else {
        reader.error(node.at, "a volume needs `source` and `target`", None);
        return None;
    };
    let name = reader.text(source)?;
    Some(VolumeMount {
        volume: volume_name(reader, source, &name)?,
        target: container_path(reader, target)?,
        read_only: fields
            .get("read_only")
            .and_then(|node| reader.flag(node))
            .unwrap_or_default(),
    })
}

fn volume_name(
    reader: &mut Reader,
    node: &Node,
    text: &str,
) -> Option<crate::core::model::VolumeName> {
    let name = text.parse().ok();
    if name.is_none() {
        let is_path = text.starts_with(['/', '.', '~']) || text.contains('/');
        let (what, hint) = if is_path {
            (
                format!("the host's path `{}` is refused", quote(text)),
                HOST_PATH,
            )
        } else {
            let hint = "letters, digits, `_`, `.` and `-`, at most 64 bytes";
            (
                format!("`{}` is not the name of a volume", quote(text)),
                hint,
            )
        };
        reader.error(node.at, what, Some(hint));
    }
    name
}

pub fn tmpfs(reader: &mut Reader, node: Option<&Node>) -> Vec<Tmpfs> {
    let nodes = match node.map(|node| (node, &node.value)) {
        Some((node, Value::Scalar { .. })) => std::slice::from_ref(node),
        _ => items(reader, node, "`tmpfs`"),
    };
    nodes
        .iter()
        .filter_map(|node| {
            let text = reader.text(node)?;
            let (path, option) = match text.split_once(':') {
                Some((path, option)) => (path, Some(option)),
                None => (text.as_str(), None),
            };
            let size = match option {
                None => None,
                Some(option) => {
                    let size = option.strip_prefix("size=").and_then(units::size);
                    if size.is_none() {
                        let what = format!("option `{}` is not known", quote(option));
                        reader.error(node.at, what, Some("write `/path:size=64m`"));
                    }
                    Some(size?)
                }
            };
            let target = check_path(reader, node, path)?;
            Some(Tmpfs { target, size })
        })
        .collect()
}

/// Takes an absolute path inside the container.
pub fn container_path(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node)?;
    check_path(reader, node, &text)
}

fn check_path(reader: &mut Reader, node: &Node, path: &str) -> Option<String> {
    let plain = |word: &str| word != "." && word != "..";
    let good = path.starts_with('/')
        && path.len() <= PATH_BYTES_MAX
        && path.split('/').all(plain)
        && !path.contains([',', ':'])
        && !path.chars().any(char::is_control);
    if !good {
        let what = format!(
            "`{}` is not an absolute path without `.` and `..`",
            quote(path)
        );
        reader.error(node.at, what, None);
        return None;
    }
    Some(path.to_owned())
}

/// Two mounts at one place hide each other.
pub fn check_targets(reader: &mut Reader, node: &Node, service: &Service) {
    let mut targets = BTreeSet::new();
    let volumes = service.volumes.iter().map(|mount| &mount.target);
    for target in volumes.chain(service.tmpfs.iter().map(|tmpfs| &tmpfs.target)) {
        let canonical: Vec<&str> = target.split('/').filter(|word| !word.is_empty()).collect();
        let position = |key| super::reader::key_position(node, key);
        let at = position("tmpfs").or(position("volumes")).unwrap_or(node.at);
        if canonical.is_empty() {
            reader.error(at, "a mount cannot replace `/`", None);
        } else if !targets.insert(canonical) {
            reader.error(at, format!("two mounts have the target `{target}`"), None);
        }
    }
}

fn items<'a>(reader: &mut Reader, node: Option<&'a Node>, what: &str) -> &'a [Node] {
    let Some(node) = node.filter(|node| !node.is_null()) else {
        return &[];
    };
    let nodes = reader.list(node, what).unwrap_or_default();
    if LIST_MAX < nodes.len() {
        reader.error(
            node.at,
            format!("{what} has more than {LIST_MAX} entries"),
            None,
        );
        return &[];
    }
    nodes
}
