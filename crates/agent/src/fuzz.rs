//! What is fuzzed in this crate: what the agent kept on disk, and what starts it.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::journal::Journal;
use crate::run::handover::Handover;
use crate::run::state::{Membership, SignedView};

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("agent_state", agent_state), ("journal", journal)];

fn agent_state(bytes: &[u8]) {
    json::<Membership>(bytes);
    json::<SignedView>(bytes);
    json::<Handover>(bytes);
    if let Ok(Some(journal)) = Journal::read_object(bytes) {
        // Those of format 1 were never written with one thing twice, and may be damaged.
        let _ = Journal::read(&journal.bytes());
    }
}

/// Whatever the journal holds: what is read of it is written back the same, line by line or whole,
/// and undoing ends.
fn journal(bytes: &[u8]) {
    let Ok(found) = Journal::read(bytes) else {
        return;
    };
    assert!(found.whole <= bytes.len());
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(found.damaged.len() <= lines);
    let mut journal = found.journal;
    let again = Journal::read(&journal.bytes()).expect("it is of this format");
    assert!(again.journal == journal && again.damaged.is_empty());
    let (mut anew, mut appended) = (Journal::new(), Vec::new());
    let mut changes: Vec<_> = journal.undo_order().cloned().collect();
    for change in changes.iter().rev() {
        appended.extend(anew.record(change.clone()).expect("each thing stands once"));
        assert!(journal.record(change.clone()).is_none());
    }
    let read = Journal::read(&appended).expect("it is of this format");
    assert_eq!(read.journal, journal);
    while let Some(change) = changes.pop() {
        appended.extend(journal.forget(&change));
    }
    let read = Journal::read(&appended).expect("it is of this format");
    assert!(journal.is_empty() && read.journal.is_empty());
}

fn json<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let printed = serde_json::to_vec(&value).expect("what is kept is plain JSON");
    let again: T = serde_json::from_slice(&printed).expect("what was printed is read");
    let twice = serde_json::to_vec(&again).expect("what is kept is plain JSON");
    assert_eq!(printed, twice);
}
