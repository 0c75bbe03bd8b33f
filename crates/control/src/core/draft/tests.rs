use super::*;
use crate::core::trial::Trial;

#[test]
fn a_shared_value_is_the_drafts_own_once_it_wrote_it_and_is_compared_like_any_read() {
    let trial = Trial::new();
    let snapshot = trial.snapshot();
    let seed = Secret::new([1; 32]);
    let mut draft = Draft::new(&snapshot, trial.now, Entropy::new(&seed), &[]);
    let [key, other] = ["shared", "other"].map(|name| Key::new(tables::POLICIES, name));
    let shared = |draft: &mut Draft<'_>| draft.load_shared::<u64>(&key);
    assert!(shared(&mut draft).unwrap().is_none());
    draft.save(other, &0_u64).unwrap();
    draft.save(key.clone(), &1_u64).unwrap();
    assert_eq!(shared(&mut draft).unwrap(), Some(Arc::new(1)));
    draft.put(key.clone(), b"no number".to_vec()).unwrap();
    assert!(shared(&mut draft).is_err());
    draft.delete(key.clone());
    assert!(shared(&mut draft).unwrap().is_none());
    let (batch, _) = draft.finish();
    let compared = Compare::Unchanged {
        range: KeyRange::one(&key),
        since: snapshot.revision(),
    };
    assert_eq!(batch.compares, [compared]);
}
