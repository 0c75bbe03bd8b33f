//! Following the audit log: what is known of it is kept, and a log that does not follow from it is not
//! believed.

use bastide_api::ViewEntries;
use bastide_api::history::{History, LOG_KEY};
use bastide_pki::log::{Checkpoint, CheckpointError, Hash, LogKey, NOTE_BYTES_MAX, is_consistent};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// From this many lines on a log's growth need not be proven: controllers keep the proof for a million
/// lines, and a little less is asked for.
const UNPROVEN_FROM: u64 = 1_000_000;
/// Most hashes of a proof: two for each of 64 levels.
const PROOF_MAX: usize = 128;

/// What is known of the audit log, to be kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLog {
    /// The key that verifies its checkpoints.
    pub key: String,
    /// The last signed checkpoint.
    pub note: String,
    /// The generation of the control plane's store that it is of.
    pub generation: u32,
}

/// Why an audit log is not the one that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The view names no key, or another than the one that is known.
    #[error("the controller's audit log has another key than the one that is known")]
    Key,
    /// The checkpoint is not signed.
    #[error("a checkpoint of the controller's audit log is not believed")]
    Note(#[from] CheckpointError),
    /// The log is shorter than it was.
    #[error(
        "the controller's audit log has {offered} lines, and {known} are known: an older store was put \
         back"
    )]
    Behind {
        /// What it has.
        offered: u64,
        /// What is known.
        known: u64,
    },
    /// The log is not the one that it was.
    #[error(
        "the controller's audit log of {offered} lines does not begin with the {known} lines that are \
         known: an older store was put back, or records were written anew"
    )]
    Forked {
        /// What it has.
        offered: u64,
        /// What is known.
        known: u64,
    },
}

/// Follows the audit log of the control plane. Pure: it stores nothing.
#[derive(Debug, Clone, Default)]
pub struct LogFollower {
    known: Option<(KnownLog, Checkpoint)>,
}

impl LogFollower {
    /// Begins with what was kept; what cannot be read any more is let go.
    pub fn new(kept: Option<KnownLog>) -> Self {
        let known = kept.and_then(|kept| {
            let key: LogKey = kept.key.parse().ok()?;
            let checkpoint = Checkpoint::read(&kept.note, &key).ok()?;
            Some((kept, checkpoint))
        });
        Self { known }
    }

    /// Returns how many lines are known.
    pub fn lines(&self) -> u64 {
        self.known.as_ref().map_or(0, |(_, known)| known.size)
    }

    /// Judges a checkpoint that came with `view`. Returns what is to be kept from now on, if it is
    /// news.
    pub fn handle(
        &mut self,
        view: &ViewEntries,
        note: &str,
        proof: &[String],
    ) -> Result<Option<KnownLog>, LogError> {
        let generation = History::of(view).map_or(0, |history| history.generation);
        let key = view.entries.get(LOG_KEY);
        let key = key.and_then(|text| serde_json::from_str::<String>(text).ok());
        // An operator accepted that the store was put back: the log begins anew with it.
        let known = self
            .known
            .as_ref()
            .filter(|(known, _)| generation <= known.generation);
        let text = match (known, key) {
            (Some((known, _)), Some(key)) if known.key != key => return Err(LogError::Key),
            (_, Some(key)) => key,
            (Some((known, _)), None) => known.key.clone(),
            (None, None) => return Err(LogError::Key),
        };
        let key: LogKey = text.parse().map_err(|_| LogError::Key)?;
        if NOTE_BYTES_MAX < note.len() {
            return Err(LogError::Note(CheckpointError::Form));
        }
        let offered = Checkpoint::read(note, &key)?;
        if let Some((_, known)) = known {
            follows(known, &offered, proof)?;
            if known.size == offered.size {
                return Ok(None);
            }
        }
        let kept = KnownLog {
            key: text,
            note: note.to_owned(),
            generation,
        };
        self.known = Some((kept.clone(), offered));
        Ok(Some(kept))
    }
}

fn follows(known: &Checkpoint, offered: &Checkpoint, proof: &[String]) -> Result<(), LogError> {
    let (of_known, of_offered) = (known.size, offered.size);
    if of_offered < of_known {
        return Err(LogError::Behind {
            offered: of_offered,
            known: of_known,
        });
    }
    let forked = LogError::Forked {
        offered: of_offered,
        known: of_known,
    };
    if proof.is_empty() && UNPROVEN_FROM <= of_offered - of_known {
        return Ok(());
    }
    let decoded: Option<Vec<Hash>> = proof
        .iter()
        .take(PROOF_MAX)
        .map(|hash| BASE64.decode(hash.as_bytes()).ok()?.try_into().ok())
        .collect();
    let proof = decoded.ok_or_else(|| forked.clone())?;
    if is_consistent((of_known, &known.root), (of_offered, &offered.root), &proof) {
        return Ok(());
    }
    Err(forked)
}

#[cfg(test)]
mod tests;
