use std::collections::BTreeMap;

use bastide_api::history::HISTORY;
use bastide_api::{Revision, Secret};
use bastide_pki::log::{Edge, LogSigner, Nodes, consistency, leaf_hash, line_hash, subtree};

use super::*;

struct Log(Vec<Hash>);

impl Nodes for Log {
    type Error = std::convert::Infallible;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let (count, index) = (1_usize << level, usize::try_from(index).unwrap());
        Ok(subtree(&self.0[index * count..(index + 1) * count]))
    }
}

fn signer(seed: u8) -> LogSigner {
    LogSigner::from_seed("bastide/trial/audit", &Secret::new([seed; 32]))
}

/// A log of which the lines from `fork` on are others.
fn log(size: usize, fork: usize) -> Log {
    let leaf = |at: usize| {
        let line = format!("{at} {}", fork <= at);
        leaf_hash(&line_hash(line.as_bytes()))
    };
    Log((0..size).map(leaf).collect())
}

fn note(log: &Log, seed: u8) -> String {
    let mut edge = Edge::default();
    for leaf in &log.0 {
        edge.push(*leaf, &mut Vec::new());
    }
    let checkpoint = Checkpoint {
        size: log.0.len() as u64,
        root: edge.root(),
        line: None,
    };
    checkpoint.sign(&signer(seed))
}

fn proof(log: &mut Log, from: u64) -> Vec<String> {
    let to = log.0.len() as u64;
    let proof = consistency(from, to, log).unwrap();
    proof.iter().map(|hash| BASE64.encode(hash)).collect()
}

fn view(generation: u32, seed: u8) -> ViewEntries {
    let key = serde_json::to_string(&signer(seed).key().to_string()).unwrap();
    let history = format!("{{\"generation\":{generation},\"runs\":[]}}");
    ViewEntries {
        revision: Revision(1),
        entries: BTreeMap::from([(LOG_KEY.to_owned(), key), (HISTORY.to_owned(), history)]),
    }
}

const NEVER: usize = usize::MAX;

fn following() -> LogFollower {
    let mut follower = LogFollower::default();
    let kept = follower.handle(&view(0, 1), &note(&log(100, NEVER), 1), &[]);
    // What is kept on disk is what is known at the next start.
    let text = serde_json::to_string(&kept.unwrap().unwrap()).unwrap();
    let follower = LogFollower::new(serde_json::from_str(&text).unwrap());
    assert_eq!(follower.lines(), 100);
    follower
}

#[test]
fn a_log_that_grows_is_followed_with_its_proof_and_not_without() {
    let mut grown = log(177, NEVER);
    let (text, proof) = (note(&grown, 1), proof(&mut grown, 100));
    let mut follower = following();
    assert!(follower.handle(&view(0, 1), &text, &[]).is_err());
    assert!(
        follower
            .handle(&view(0, 1), &text, &proof)
            .unwrap()
            .is_some()
    );
    assert_eq!(follower.lines(), 177);
    assert_eq!(follower.handle(&view(0, 1), &text, &[]), Ok(None));
}

#[test]
fn a_log_that_was_put_back_or_written_anew_is_refused_until_an_operator_accepts_it() {
    let mut follower = following();
    let behind = follower.handle(&view(0, 1), &note(&log(60, NEVER), 1), &[]);
    let (offered, known) = (60, 100);
    assert_eq!(behind, Err(LogError::Behind { offered, known }));
    // It went on past what is known, from an older state: the proof is the best that there is.
    let mut forked = log(150, 60);
    let (text, forged) = (note(&forked, 1), proof(&mut forked, 100));
    let refused = follower.handle(&view(0, 1), &text, &forged);
    let (offered, known) = (150, 100);
    assert_eq!(refused, Err(LogError::Forked { offered, known }));
    // Of the same length, with another line.
    let same = follower.handle(&view(0, 1), &note(&log(100, 99), 1), &[]);
    assert!(matches!(same, Err(LogError::Forked { .. })));
    // Claiming that it is too long ago helps only a log that is a million lines longer.
    let key = follower.handle(&view(0, 2), &note(&log(200, NEVER), 2), &[]);
    assert_eq!(key, Err(LogError::Key));
    assert_eq!(follower.lines(), 100);
    assert!(follower.handle(&view(1, 1), &text, &[]).unwrap().is_some());
    assert_eq!(follower.lines(), 150);
}

#[test]
fn what_another_key_signed_is_not_believed() {
    let mut follower = LogFollower::default();
    let text = note(&log(3, NEVER), 2);
    let refused = follower.handle(&view(0, 1), &text, &[]);
    assert!(matches!(refused, Err(LogError::Note(_))));
    let nothing = ViewEntries::default();
    assert_eq!(follower.handle(&nothing, &text, &[]), Err(LogError::Key));
}
