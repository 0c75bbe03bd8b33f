//! What is fuzzed in this crate: questions, other resolvers' answers, and the host's settings.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use bastide_api::{View, ViewEntries};
use hickory_proto::op::Message;

use crate::core::message::{Transport, Verdict, examine};
use crate::{Zone, upstreams};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("dns", dns), ("resolv_conf", resolv_conf)];

/// Answers over UDP without EDNS, and with (bytes).
const UDP_BYTES_MAX: usize = 1_232;
/// What parts a question from another resolver's answer to it.
const MARK: [u8; 2] = [0xff, 0xff];

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let nodes = (1..=3).map(|number: u8| {
        let id = bastide_api::NodeId::from_bytes([number; 16]);
        let key = bastide_api::WireGuardKey::from_bytes([number; 32]);
        let node = format!(
            r#"{{"id":"{id}","name":"node-{number}","site":"home","arch":"amd64",
            "address":"100.72.0.{number}","containers":"10.128.{number}.0/24",
            "wireguard":"{key}","discovery":"{key}","expires":1790000000000}}"#
        );
        (format!("nodes/{id}"), node)
    });
    let plan = serde_json::to_string(&bastide_api::AddressPlan::default()).expect("plain JSON");
    let cluster = bastide_api::ClusterId::from_bytes([9; 16]);
    let cluster = format!(
        r#"{{"id":"{cluster}","name":"home","plan":{plan},"controllers":[],
        "swarm":{{"heartbeat_ms":5000,"rebalance_after_ms":600000}}}}"#
    );
    let stack = r#"{"name":"shop","services":{"web":{},"db":{}},"notes":[]}"#;
    let others = [
        ("cluster".to_owned(), cluster),
        ("stacks/shop".to_owned(), stack.to_owned()),
    ];
    let entries = ViewEntries {
        revision: bastide_api::Revision(7),
        entries: nodes.chain(others).collect(),
    };
    let view = View::parse(&entries).expect("the view here is valid");
    let tasks = (0..80).map(|task| {
        format!(
            r#"{{"address":"10.128.1.{}","service":["shop","web"],"healthy":true}}"#,
            task + 2
        )
    });
    let tasks: Vec<String> = tasks.collect();
    let facts = format!(r#"{{"tasks":[{}]}}"#, tasks.join(","));
    let facts = serde_json::from_str(&facts).expect("the facts here are valid");
    let node = bastide_api::NodeId::from_bytes([1; 16]);
    Zone::build(&view, &BTreeMap::from([(node, facts)]), &BTreeSet::new())
});

/// The first byte chooses the transport; after a mark comes the answer of another resolver.
fn dns(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let at = rest.windows(2).position(|pair| pair == MARK);
    let (question, answer) = match at {
        Some(at) => (&rest[..at], &rest[at + 2..]),
        None => (rest, rest),
    };
    let transport = if choice & 1 == 0 {
        Transport::Udp
    } else {
        Transport::Tcp
    };
    match examine(&ZONE, question, transport, u64::from(*choice)) {
        Verdict::Answer(answer) => {
            check_size(&answer, transport);
            let message = Message::from_vec(&answer).expect("our own answers are DNS");
            assert_eq!(&answer[..2], &question[..2], "it answers another question");
            let about_ours = |name: String| name.ends_with("internal.") || name.ends_with("arpa.");
            for record in &message.answers {
                assert!(about_ours(record.name.to_ascii().to_ascii_lowercase()));
            }
        }
        Verdict::Forward(asked) => {
            let out = asked.outgoing(0x4321);
            assert!(out.len() <= UDP_BYTES_MAX);
            let message = Message::from_vec(&out).expect("our own questions are DNS");
            assert_eq!(message.queries.len(), 1);
            assert_eq!(message.metadata.id, 0x4321);
            check_size(&asked.server_failure(), transport);
            // The question itself, turned into an answer, and whatever else came.
            let mut echo = out.clone();
            echo[2] |= 0x80;
            assert!(asked.incoming(0x4321, &echo).is_some());
            assert!(asked.incoming(0x4322, &echo).is_none());
            if let Some(incoming) = asked.incoming(0x4321, answer) {
                check_size(&incoming.bytes, transport);
                assert_eq!(&incoming.bytes[..2], &question[..2]);
            }
        }
        Verdict::Drop(_) => {}
    }
}

fn check_size(answer: &[u8], transport: Transport) {
    let most = match transport {
        Transport::Udp => UDP_BYTES_MAX,
        Transport::Tcp => usize::from(u16::MAX),
    };
    assert!(answer.len() <= most, "{} bytes", answer.len());
}

/// At most three resolvers, never ourselves, none twice.
fn resolv_conf(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let own: IpAddr = [100, 72, 0, 53].into();
    let found = upstreams(text, own);
    assert!(found.len() <= 3);
    let different: BTreeSet<_> = found.iter().collect();
    assert_eq!(different.len(), found.len());
    assert!(found.iter().all(|one| one.ip() != own && one.port() == 53));
}
