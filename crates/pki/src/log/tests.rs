use bastide_api::Secret;
use proptest::prelude::*;

use super::*;

struct All(Vec<Hash>);

impl Nodes for All {
    type Error = std::convert::Infallible;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let count = 1_usize << level;
        let from = usize::try_from(index).unwrap() * count;
        Ok(subtree(&self.0[from..from + count]))
    }
}

fn leaves(count: usize) -> All {
    All((0..count)
        .map(|it| leaf_hash(&line_hash(&it.to_be_bytes())))
        .collect())
}

fn signer() -> LogSigner {
    LogSigner::from_seed("bastide/trial/audit", &Secret::new([7; 32]))
}

/// The definition of RFC 6962, section 2.1, word for word.
fn slow_root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => line_hash(b""),
        1 => leaves[0],
        n => {
            let mut k = 1;
            while k * 2 < n {
                k *= 2;
            }
            subtree(&[slow_root(&leaves[..k]), slow_root(&leaves[k..])])
        }
    }
}

#[test]
fn a_tree_has_the_root_that_the_definition_gives_whatever_its_size() {
    let mut all = leaves(700);
    let (mut edge, mut full) = (Edge::default(), Vec::new());
    for size in 0..=700 {
        if size != 0 {
            edge.push(all.0[size - 1], &mut full);
        }
        if size < 300 || size % 37 == 0 {
            let expected = slow_root(&all.0[..size]);
            assert_eq!(edge.root(), expected, "{size}");
            assert_eq!(root(size as u64, &mut all).unwrap(), expected, "{size}");
        }
    }
    assert_eq!(full.len(), 2);
    assert_eq!((full[1].level, full[1].index), (0, 1));
    let parts: Vec<_> = edge.parts().collect();
    let found = |level, index, wanted: usize| {
        let part = parts
            .iter()
            .find(|it| it.level == level && it.index == index);
        assert_eq!(part.unwrap().hashes.len(), wanted);
        Ok::<_, ()>(part.map(|it| it.hashes.clone()))
    };
    assert_eq!(Edge::restore(700, found).unwrap(), Some(edge));
    // A subtree is found in the tile that holds it.
    let (level, index, at) = Tile::of(3, 33);
    let tile = &full[usize::try_from(index).unwrap()];
    assert_eq!(
        (level, tile.node(3, at)),
        (0, Some(all.node(3, 33).unwrap()))
    );
}

proptest! {
    #[test]
    fn a_proof_holds_for_the_log_that_grew_and_for_no_other(
        from in 1_usize..300, more in 0_usize..300, flip in 0_usize..300,
    ) {
        let to = from + more;
        let mut all = leaves(to);
        let proof = consistency(from as u64, to as u64, &mut all).unwrap();
        let roots = |all: &All| (slow_root(&all.0[..from]), slow_root(&all.0));
        let (before, after) = roots(&all);
        let (from, to) = (from as u64, to as u64);
        prop_assert!(is_consistent((from, &before), (to, &after), &proof));
        let mut forked = leaves(usize::try_from(to).unwrap());
        let at = flip % usize::try_from(from).unwrap();
        forked.0[at][0] ^= 1;
        let (_, other) = roots(&forked);
        let forged = consistency(from, to, &mut forked).unwrap();
        prop_assert!(!is_consistent((from, &before), (to, &other), &forged));
        prop_assert!(!is_consistent((to, &after), (from, &before), &proof) || from == to);
    }

    #[test]
    fn hostile_notes_keys_and_lines_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(Checkpoint::read(&text, &signer().key()).is_err());
        prop_assert!(text.parse::<LogKey>().is_err());
        let mut chain = Chain::new(Vec::new());
        chain.take(&bytes);
        chain.take(&bytes);
        let _ = chain.end();
    }
}

#[test]
fn a_checkpoint_is_believed_only_as_it_was_signed_and_with_its_own_key() {
    let checkpoint = Checkpoint {
        size: 12,
        root: [3; 32],
        line: Some([4; 32]),
    };
    let note = checkpoint.sign(&signer());
    let key = signer().key();
    assert_eq!(key.to_string().parse(), Ok(key.clone()));
    assert_eq!(Checkpoint::read(&note, &key), Ok(checkpoint));
    let other = LogSigner::from_seed("bastide/trial/audit", &Secret::new([8; 32])).key();
    assert_eq!(
        Checkpoint::read(&note, &other),
        Err(CheckpointError::Signature)
    );
    for (at, _) in note.char_indices() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        assert!(Checkpoint::read(&changed, &key).is_err(), "{changed}");
    }
}

fn log(count: usize) -> Vec<String> {
    let mut previous = String::new();
    (0..count)
        .map(|seq| {
            let line = format!("{{\"a\":\"x{seq}\",\"seq\":{seq},\"prev\":\"{previous}\"}}");
            previous = data_encoding::HEXLOWER.encode(&line_hash(line.as_bytes()));
            line
        })
        .collect()
}

fn checkpoint_of(lines: &[String]) -> Checkpoint {
    let mut edge = Edge::default();
    for line in lines {
        edge.push(leaf_hash(&line_hash(line.as_bytes())), &mut Vec::new());
    }
    Checkpoint {
        size: lines.len() as u64,
        root: edge.root(),
        line: lines.last().map(|line| line_hash(line.as_bytes())),
    }
}

fn judge(lines: &[String], checkpoint: &Checkpoint) -> Vec<Fault> {
    let mut chain = Chain::new(vec![checkpoint.clone()]);
    for line in lines {
        chain.take(line.as_bytes());
    }
    chain.end().into_iter().map(|found| found.fault).collect()
}

#[test]
fn a_cut_a_gap_an_edit_a_swap_and_a_roll_back_are_each_found_by_line() {
    let lines = log(20);
    let checkpoint = checkpoint_of(&lines);
    assert_eq!(judge(&lines, &checkpoint), []);
    // A part of the files is judged by the chain and the checkpoint's last line.
    assert_eq!(judge(&lines[5..], &checkpoint), []);

    assert_eq!(
        judge(&lines[..17], &checkpoint),
        [Fault::Cut {
            from: 17,
            known: 20
        }]
    );
    let mut removed = lines.clone();
    removed.remove(7);
    assert_eq!(
        judge(&removed, &checkpoint),
        [Fault::Missing { from: 7, until: 8 }]
    );
    let mut edited = lines.clone();
    edited[9] = edited[9].replace("x9", "y9");
    assert_eq!(judge(&edited, &checkpoint), [Fault::Changed { line: 9 }]);
    // Also where the edit is to the tie itself, or to the last line.
    let mut untied = lines.clone();
    untied[9] = untied[9].replace("\"prev\":\"", "\"prev\":\"0");
    assert_eq!(judge(&untied, &checkpoint), [Fault::Changed { line: 9 }]);
    let mut last = lines.clone();
    last[19] = last[19].replace("x19", "y19");
    assert_eq!(judge(&last, &checkpoint), [Fault::Forked { line: 19 }]);
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert_eq!(
        judge(&swapped, &checkpoint)[0],
        Fault::Missing { from: 3, until: 4 }
    );
    assert!(judge(&swapped, &checkpoint).contains(&Fault::Misplaced {
        found: 3,
        expected: 5
    }));
    // An older log was put back, and went on longer than the one that is known.
    let mut back = lines[..10].to_vec();
    let mut previous = line_hash(back[9].as_bytes());
    for seq in 10..30 {
        let prev = data_encoding::HEXLOWER.encode(&previous);
        let line = format!("{{\"b\":1,\"seq\":{seq},\"prev\":\"{prev}\"}}");
        previous = line_hash(line.as_bytes());
        back.push(line);
    }
    assert_eq!(judge(&back, &checkpoint), [Fault::Forked { line: 19 }]);
    // And a line rewritten with all that follow it: the chain is whole, the checkpoint differs.
    let rewritten: Vec<_> = log(20)
        .iter()
        .map(|it| it.replace("\"a\"", "\"c\""))
        .collect();
    assert!(!judge(&rewritten, &checkpoint).is_empty());
}
