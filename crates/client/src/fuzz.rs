//! What is fuzzed in this crate: the watch, from bytes of a stream to views that are believed.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bastide_api::v1::WatchEvent;
use bastide_api::{ClusterId, Revision, Secret, SigningKey, ViewEntries};
use bastide_pki::ViewSigner;

use crate::follow::{FollowError, Followed, ViewFollower};
use crate::watch::Lines;

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("watch", watch), ("http_error", http_error)];

/// Longest line here, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// A signature in the input that stands for the right one, which no fuzzer guesses.
const RIGHT: &str = "right";

static SIGNER: LazyLock<(ViewSigner, SigningKey)> = LazyLock::new(|| {
    let signer = ViewSigner::from_seed(&Secret::new([5; 32]));
    let key = signer.public_key();
    (signer, key)
});

/// The first byte says in pieces of which length the stream arrives.
fn watch(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else {
        return;
    };
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut model = Model::new();
    for piece in stream.chunks(usize::from(*piece).max(1)) {
        lines.feed(piece);
        loop {
            match lines.next() {
                Ok(Some(line)) => {
                    assert!(line.len() <= LINE_BYTES_MAX && !line.contains(&b'\n'));
                    if let Ok(event) = serde_json::from_slice(&line) {
                        model.take_in(event);
                    }
                }
                Ok(None) => break,
                // The watch ends here.
                Err(_) => return,
            }
        }
    }
}

/// What the follower should know, kept in the plainest way.
struct Model {
    follower: ViewFollower,
    known: Option<ViewEntries>,
    building: Option<BTreeMap<String, String>>,
}

impl Model {
    fn new() -> Self {
        Self {
            follower: ViewFollower::new(ClusterId::from_bytes([1; 16]), SIGNER.1),
            known: None,
            building: None,
        }
    }

    fn take_in(&mut self, mut event: WatchEvent) {
        let cluster = ClusterId::from_bytes([1; 16]);
        let mut is_right = false;
        match &mut event {
            WatchEvent::Snapshot { value, .. } => self.building = Some(value.clone()),
            WatchEvent::Put { key, value, .. } => {
                let (key, value) = (key.clone(), value.clone());
                self.building().insert(key, value);
            }
            WatchEvent::Delete { key, .. } => {
                let key = key.clone();
                self.building().remove(&key);
            }
            WatchEvent::Sign { rev, value } => {
                let (revision, entries) = (*rev, self.building().clone());
                let entries = ViewEntries { revision, entries };
                if value == RIGHT {
                    *value = SIGNER.0.sign(&entries, cluster);
                    is_right = true;
                }
                self.building = Some(entries.entries);
            }
            WatchEvent::Fact { .. } | WatchEvent::Log { .. } | WatchEvent::Ping => {}
        }
        let before = self.follower.resume_from();
        let (is_sign, revision) = match &event {
            WatchEvent::Sign { rev, .. } => (true, *rev),
            _ => (false, Revision(0)),
        };
        match self.follower.handle(event) {
            Ok(Followed::View { view, .. }) => {
                assert!(is_sign && is_right, "a wrong signature was believed");
                let entries = self.building.take().unwrap_or_default();
                assert_eq!(view.entries, entries);
                assert!(self.known.as_ref().is_none_or(|it| it.revision <= revision));
                self.known = Some(ViewEntries { revision, entries });
                assert_eq!(self.follower.resume_from(), revision);
            }
            Ok(_) => assert!(!is_sign, "a signature was passed over"),
            Err(error) => {
                let is_older = matches!(error, FollowError::Older { .. });
                assert!(!is_right || is_older, "{error}");
                self.building = None;
                assert_eq!(self.follower.resume_from(), Revision(0));
                assert!(before >= Revision(0));
            }
        }
        let known = self.follower.view().map(|view| &view.entries);
        assert_eq!(known, self.known.as_ref().map(|known| &known.entries));
    }

    fn building(&mut self) -> &mut BTreeMap<String, String> {
        let known = self.known.as_ref();
        self.building
            .get_or_insert_with(|| known.map(|it| it.entries.clone()).unwrap_or_default())
    }
}

/// What a controller's refusal says is shown to a person: in few words.
fn http_error(bytes: &[u8]) {
    let told = crate::client::errors(bytes);
    let length: usize = told.iter().map(String::len).sum();
    assert!(length <= bytes.len().max(64) * 4);
}
