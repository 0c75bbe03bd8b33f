use super::*;

fn view(revision: u64, history: Option<&History>) -> ViewEntries {
    let text = |history| (HISTORY.to_owned(), serde_json::to_string(history).unwrap());
    ViewEntries {
        revision: Revision(revision),
        entries: history.map(text).into_iter().collect::<BTreeMap<_, _>>(),
    }
}

fn history(runs: &[(&str, u64)]) -> History {
    let mut history = History::default();
    for (id, from) in runs {
        history.begin((*id).to_owned(), Revision(*from));
    }
    history
}

fn check(held: (u64, &History), offered: (u64, &History), expect: Result<(), Departure>) {
    let (held, offered) = (view(held.0, Some(held.1)), view(offered.0, Some(offered.1)));
    assert_eq!(
        follows(&held, &offered),
        expect,
        "{held:?} then {offered:?}"
    );
}

#[test]
fn what_goes_on_is_followed() {
    let one = history(&[("a", 0)]);
    let two = history(&[("a", 0), ("b", 20)]);
    check((10, &one), (10, &one), Ok(()));
    check((10, &one), (15, &one), Ok(()));
    check((20, &one), (21, &two), Ok(()));
    check(
        (10, &one),
        (90, &history(&[("a", 0), ("b", 20), ("c", 80)])),
        Ok(()),
    );
}

#[test]
fn an_older_store_is_found_out_though_it_went_on() {
    let seen = history(&[("a", 0), ("b", 20)]);
    // Put back from before run b, and as it was.
    let back = history(&[("a", 0)]);
    check((30, &seen), (15, &back), Err(Departure::Older));
    // Started again, and gone on past what is held.
    let on = history(&[("a", 0), ("c", 15)]);
    check((30, &seen), (15, &on), Err(Departure::Older));
    check((30, &seen), (99, &on), Err(Departure::Apart));
    // Copied while run b was at work, and put back later.
    let copied = history(&[("a", 0), ("b", 20), ("c", 25)]);
    check((30, &seen), (99, &copied), Err(Departure::Apart));
    check((25, &seen), (99, &copied), Ok(()));
}

#[test]
fn a_new_generation_is_followed_from_wherever_it_begins_and_the_old_one_no_more() {
    let seen = history(&[("a", 0), ("b", 20)]);
    let mut accepted = history(&[("a", 0)]);
    accepted.begin_anew("c".to_owned(), Revision(15));
    check((30, &seen), (16, &accepted), Ok(()));
    check((16, &accepted), (17, &accepted), Ok(()));
    check((16, &accepted), (99, &seen), Err(Departure::Apart));
    check((16, &accepted), (15, &accepted), Err(Departure::Older));
}

#[test]
fn a_controller_that_tells_nothing_is_judged_by_revision_until_one_does() {
    let seen = history(&[("a", 0)]);
    assert_eq!(follows(&view(5, None), &view(5, None)), Ok(()));
    assert_eq!(
        follows(&view(5, None), &view(4, None)),
        Err(Departure::Older)
    );
    assert_eq!(follows(&view(5, None), &view(6, Some(&seen))), Ok(()));
    assert_eq!(
        follows(&view(5, Some(&seen)), &view(6, None)),
        Err(Departure::Apart)
    );
}

#[test]
fn a_node_that_was_away_for_more_runs_than_are_told_follows() {
    let mut long = History::default();
    for run in 0..200_u64 {
        long.begin(format!("run-{run}"), Revision(run * 10));
    }
    assert_eq!(long.runs.len(), RUNS_MAX);
    let old = history(&[("run-3", 30)]);
    check((35, &old), (5000, &long), Ok(()));
    // But not with a state that would be among those that are told.
    let apart = history(&[("other", 1900)]);
    check((1950, &apart), (5000, &long), Err(Departure::Apart));
}
