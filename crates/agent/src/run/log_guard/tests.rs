use std::collections::BTreeMap;

use bastide_api::history::{HISTORY, LOG_KEY};
use bastide_api::{Revision, Secret};
use bastide_pki::log::{
    Checkpoint, Edge, Hash, LogSigner, Nodes, consistency, leaf_hash, line_hash, subtree,
};
use data_encoding::BASE64;

use super::*;

struct Log(Vec<Hash>);

impl Nodes for Log {
    type Error = std::convert::Infallible;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let (count, index) = (1_usize << level, usize::try_from(index).unwrap());
        Ok(subtree(&self.0[index * count..(index + 1) * count]))
    }
}

fn signer() -> LogSigner {
    LogSigner::from_seed("bastide/trial/audit", &Secret::new([1; 32]))
}

/// The checkpoint of a log of `to` lines, and the proof that it goes on from one of `from`.
fn checkpoint(from: u64, to: u64) -> (String, Vec<String>) {
    let leaves = (0..to).map(|at| leaf_hash(&line_hash(at.to_string().as_bytes())));
    let mut log = Log(leaves.collect());
    let mut edge = Edge::default();
    for leaf in &log.0 {
        edge.push(*leaf, &mut Vec::new());
    }
    let checkpoint = Checkpoint {
        size: to,
        root: edge.root(),
        line: None,
    };
    let proof = match from {
        0 => Vec::new(),
        from => consistency(from, to, &mut log).unwrap(),
    };
    let proof = proof.iter().map(|hash| BASE64.encode(hash)).collect();
    (checkpoint.sign(&signer()), proof)
}

#[test]
fn checkpoints_that_come_before_a_view_are_all_judged_by_it() {
    let folder = std::env::temp_dir().join(format!("log-guard-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let state = StateDir::open(&folder).unwrap();
    let key = serde_json::to_string(&signer().key().to_string()).unwrap();
    let history = "{\"generation\":0,\"runs\":[]}".to_owned();
    let view = ViewEntries {
        revision: Revision(1),
        entries: BTreeMap::from([(LOG_KEY.to_owned(), key), (HISTORY.to_owned(), history)]),
    };
    let mut guard = LogGuard::new(&state);
    for (from, to) in [(0, 100), (100, 300), (300, 720)] {
        let (note, proof) = checkpoint(from, to);
        guard.checkpoint(None, note, proof).unwrap();
    }
    assert_eq!(guard.lines(), 0, "nothing says yet whose they are");
    guard.view(&view).unwrap();
    assert_eq!(guard.lines(), 720);
    // One that does not follow from what is known is refused, early or late.
    let (note, _) = checkpoint(720, 800);
    guard.checkpoint(None, note, Vec::new()).unwrap();
    assert!(guard.view(&view).is_err());
    assert!(!guard.is_full());
    for _ in 0..PENDING_MAX {
        guard.checkpoint(None, String::new(), Vec::new()).unwrap();
    }
    assert!(guard.is_full());
    std::fs::remove_dir_all(&folder).unwrap();
}
