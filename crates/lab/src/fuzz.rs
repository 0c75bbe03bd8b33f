//! What is fuzzed in this crate: a lab's file, and frames from a wire.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use crate::core::frame::{self, Layer, LinkKind};
use crate::core::nat::ruleset;
use crate::core::operations::operations;
use crate::core::plan::{Plan, Role};
use crate::core::tally::{Canary, Filters, Tally};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("lab_file", lab_file), ("frame", captured)];

/// What is taken can be built, and taken down in as many steps.
fn lab_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let plan = match Plan::parse(text) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(error.to_string().len() < 1024 + 8 * text.len());
            return;
        }
    };
    assert_eq!(plan.text(), text);
    let operations = operations(&plan);
    assert!(operations.len() >= plan.nodes().len());
    for operation in &operations {
        let _ = operation.inverse();
    }
    for (end, _) in plan.ends() {
        let name = format!("{}/{}", end.node, end.interface.as_str());
        assert_eq!(plan.end(&name), Some(end));
    }
    for node in plan.nodes().values() {
        if let Role::Router(Some(nat)) = &node.role {
            // Words of the file must not become words of the ruleset.
            let wan = nat.wan.as_str();
            assert!(
                wan.bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'"')
            );
            assert!(ruleset(nat).len() < 4096);
        }
    }
}

/// Whatever passes a wire is counted once, and its headers end.
fn captured(bytes: &[u8]) {
    let mut tally = Tally::new(&Filters {
        canaries: vec![Canary([b'x'; 32])],
        inner: vec!["10.0.0.0/8".parse().expect("a network")],
    });
    for kind in [LinkKind::Ethernet, LinkKind::Ip] {
        let mut layers = 0;
        let mut depth_max = 0;
        frame::read(kind, bytes, &mut |layer| {
            layers += 1;
            if let Layer::Ip { depth, .. } = layer {
                depth_max = depth_max.max(depth);
            }
        });
        assert!(layers <= 64 && depth_max <= 8, "{layers} headers");
        tally.add(kind, bytes);
    }
    let counts = tally.counts();
    assert_eq!(counts.frames, 2);
    let holds = bytes.windows(32).any(|window| window == [b'x'; 32]);
    assert_eq!(counts.canary, if holds { 2 } else { 0 });
}
