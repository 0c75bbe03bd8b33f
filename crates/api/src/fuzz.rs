//! What is fuzzed in this crate: the words that come from others, as text and as JSON.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::status::Status;
use crate::v1::{
    JoinAnswer, JoinRequest, RenewAnswer, RenewRequest, SwarmAnswer, SwarmReport, WatchEvent,
};
use crate::{
    AddressPlan, CONTROLLERS_MAX, ClusterId, ClusterName, DiscoveryKey, EntryKey, NodeId, NodeName,
    Revision, ServiceName, SigningKey, SiteName, StackName, Ticket, TicketId, View, ViewEntries,
    WireGuardKey,
};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("ticket", ticket),
    ("words", words),
    ("wire", wire),
    ("view", view),
];

/// A ticket as text, and the bytes inside one with a checksum that fits: a fuzzer cannot guess it.
fn ticket(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_ticket(text);
    }
    check_ticket(&crate::ticket::text_of(bytes));
}

fn check_ticket(text: &str) {
    let Ok(ticket) = text.parse::<Ticket>() else {
        return;
    };
    assert!((1..=CONTROLLERS_MAX).contains(&ticket.controllers.len()));
    let printed = ticket.reveal();
    // Upper case and look-alikes are read too; there is one way to print.
    let again: Ticket = printed
        .expose()
        .parse()
        .expect("what was printed is a ticket");
    assert_eq!(again.reveal().expose(), printed.expose());
    assert!(again.id == ticket.id && again.pin == ticket.pin && again.expires == ticket.expires);
    let shown = format!("{ticket:?}");
    let secret = data_encoding::HEXLOWER.encode(ticket.secret.expose());
    assert!(!shown.contains(&secret) && shown.len() < 100);
}

/// Ids, keys and names: what is taken is printed as it was read, or in the one spelling.
fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    word::<ClusterId>(text);
    word::<NodeId>(text);
    word::<TicketId>(text);
    word::<WireGuardKey>(text);
    word::<DiscoveryKey>(text);
    word::<SigningKey>(text);
    word::<NodeName>(text);
    word::<SiteName>(text);
    word::<ClusterName>(text);
    word::<StackName>(text);
    word::<ServiceName>(text);
    if let Some(key) = EntryKey::parse(text) {
        assert_eq!(EntryKey::parse(&key.to_string()), Some(key));
    }
    if let Ok(plan) = serde_json::from_str::<AddressPlan>(text)
        && plan.check().is_ok()
    {
        check_plan(&plan);
    }
}

fn word<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(word) => {
            let printed = word.to_string();
            assert!(printed.len() <= text.len(), "a spelling grows");
            assert!(!printed.contains(['/', '\0', '\n', ' ']) || printed.len() == 44);
            assert_eq!(printed.parse::<T>().ok(), Some(word));
        }
        // What is wrong is told in a few words, however long the text was.
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

/// No two slots share an address, and none leaves its range.
fn check_plan(plan: &AddressPlan) {
    let last = plan.nodes_max() - 1;
    let mut seen = BTreeMap::new();
    for slot in (0..last.min(300)).chain([last]) {
        let (address, subnet): (_, Ipv4Net) = plan.slot(slot).expect("below the number of nodes");
        assert!(plan.mesh.contains(&address) && plan.containers.contains(&subnet));
        assert!(address != plan.dns && address != plan.mesh.network());
        assert!(address != plan.mesh.broadcast());
        let before = seen.insert((address, subnet), slot);
        assert!(before.is_none_or(|before| before == slot));
    }
    assert_eq!(plan.slot(last + 1), None);
}

/// Bodies and lines of the node channel, and what the agent's socket answers.
fn wire(bytes: &[u8]) {
    json::<JoinRequest>(bytes);
    json::<JoinAnswer>(bytes);
    json::<RenewRequest>(bytes);
    json::<RenewAnswer>(bytes);
    json::<WatchEvent>(bytes);
    json::<SwarmAnswer>(bytes);
    json::<SwarmReport>(bytes);
    json::<Status>(bytes);
}

fn json<T: for<'de> Deserialize<'de> + Serialize>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let printed = serde_json::to_vec(&value).expect("words are plain JSON");
    let again: T = serde_json::from_slice(&printed).expect("what was printed is read");
    let twice = serde_json::to_vec(&again).expect("words are plain JSON");
    assert_eq!(printed, twice);
}

/// A view's entries: a JSON object of texts.
fn view(bytes: &[u8]) {
    let Ok(entries) = serde_json::from_slice(bytes) else {
        return;
    };
    let entries = ViewEntries {
        revision: Revision(7),
        entries,
    };
    let cluster = ClusterId::from_bytes([1; 16]);
    let signed = entries.signed_bytes(cluster);
    // Whatever is moved from one entry to the next, the signed bytes differ.
    let mut other = entries.clone();
    if let Some((key, value)) = other.entries.pop_first() {
        other.entries.insert(key.clone() + &value, String::new());
        assert!(value.is_empty() || other.signed_bytes(cluster) != signed);
    }
    if let Ok(view) = View::parse(&entries) {
        assert!(view.nodes.len() + view.stacks.len() < entries.entries.len());
        assert_eq!(view.revision, entries.revision);
    }
}
