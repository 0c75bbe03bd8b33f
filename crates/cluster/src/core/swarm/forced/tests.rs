use super::*;
use crate::core::state::ServiceId;

const WORDS: &str = "cannot create a swarm scoped network when swarm is not active";

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_millis(1_800_000_000_000 + seconds * 1000)
}

fn own() -> MemberId {
    MemberId("own".to_owned())
}

fn task(id: u64, member: &MemberId, trouble: Option<&str>) -> SwarmTask {
    SwarmTask {
        id: TaskId(id.to_string()),
        service: ServiceId("web".to_owned()),
        member: Some(member.clone()),
        wanted: trouble.is_none(),
        running: trouble.is_none(),
        trouble: trouble.map(str::to_owned),
    }
}

/// Looks each second, with a new task refused every `every` seconds; returns when it
/// is told of.
fn told_at(every: u64, words: &str, member: &MemberId, seconds: u64) -> Vec<u64> {
    let mut forced = Forced::just_now();
    let mut tasks = Vec::new();
    let mut times = Vec::new();
    for second in 0..seconds {
        if second % every == 0 {
            tasks.push(task(second, member, Some(words)));
        }
        if forced.is_deaf(&tasks, Some(&own()), at(second)) {
            times.push(second);
        }
    }
    times
}

#[test]
fn an_engine_that_goes_on_refusing_is_told_of_from_then_on() {
    let times = told_at(5, WORDS, &own(), 200);
    assert_eq!(times.first(), Some(&10));
    assert_eq!(times.len(), 190);
}

#[test]
fn refusals_of_another_kind_or_of_another_engine_change_nothing() {
    assert!(told_at(5, "no such image", &own(), 60).is_empty());
    assert!(told_at(5, WORDS, &MemberId("other".to_owned()), 60).is_empty());
}

#[test]
fn one_early_refusal_that_is_only_remembered_changes_nothing() {
    let mut forced = Forced::just_now();
    let early = [task(1, &own(), Some(WORDS))];
    assert!((0..60).all(|second| !forced.is_deaf(&early, Some(&own()), at(second))));
}

#[test]
fn an_engine_whose_tasks_run_is_left_alone() {
    let mut forced = Forced::just_now();
    for second in 0..60 {
        let tasks = [task(second, &own(), Some(WORDS)), task(1000, &own(), None)];
        assert!(!forced.is_deaf(&tasks, Some(&own()), at(second)));
    }
}

#[test]
fn tasks_of_members_that_are_gone_do_not_count_as_running() {
    let mut forced = Forced::just_now();
    let gone = MemberId("gone".to_owned());
    let is_deaf = (0..20).any(|second| {
        let tasks = [task(second, &own(), Some(WORDS)), task(1000, &gone, None)];
        forced.is_deaf(&tasks, Some(&own()), at(second))
    });
    assert!(is_deaf);
}
