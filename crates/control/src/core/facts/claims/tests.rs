use super::*;

fn run(id: u8, after: u8) -> Instance {
    let id_of = |byte| InstanceId::from_bytes([byte; 16]);
    Instance {
        id: id_of(id),
        after: (after != 0).then(|| id_of(after)).into_iter().collect(),
        moved: false,
    }
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_millis(1_000_000 + secs * 1000)
}

fn claim() -> Claim {
    Claim::new(at(0), run(1, 0), Some([192, 0, 2, 1].into()))
}

/// Hears a run if it is accepted, as the control plane does, and returns whether it was.
fn hear(claim: &mut Claim, secs: u64, run: Instance) -> bool {
    let is_accepted = claim.would_accept(at(secs), &run);
    claim.hear(at(secs), run, Some([192, 0, 2, 9].into()));
    is_accepted
}

#[test]
fn an_agent_that_is_started_again_and_again_is_its_node_at_once() {
    let mut claim = claim();
    for id in 2..20 {
        assert!(hear(&mut claim, u64::from(id), run(id, id - 1)));
        assert!(hear(&mut claim, u64::from(id), run(id, id - 1)));
    }
    assert_eq!(claim.trouble(at(20)), None);
}

/// As [`run`], on another machine or after it was started anew.
fn moved(id: u8, after: u8) -> Instance {
    Instance {
        moved: true,
        ..run(id, after)
    }
}

#[test]
fn a_copy_on_another_machine_never_is_the_node_while_the_original_lives() {
    let mut claim = claim();
    for secs in 1..100 {
        assert!(!hear(&mut claim, secs, moved(2, 1)));
        assert_eq!(claim.trouble(at(secs)).is_some(), 10 < secs, "at {secs} s");
        if secs % 10 == 0 {
            assert!(hear(&mut claim, secs, run(1, 0)));
        }
    }
}

#[test]
fn a_machine_that_was_started_anew_is_its_node_when_the_run_before_missed_a_report() {
    let mut claim = claim();
    assert!(!hear(&mut claim, 5, moved(2, 1)));
    assert!(!hear(&mut claim, 11, moved(2, 1)));
    assert!(hear(&mut claim, 12, moved(2, 1)));
    assert_eq!(claim.trouble(at(12)), None, "nobody has to hear of it");
    assert!(hear(&mut claim, 13, moved(2, 1)));
}

#[test]
fn a_copy_on_the_same_machine_is_kept_out_once_the_original_is_heard_and_for_good() {
    let mut claim = claim();
    // The copied disk says that run 1 came before.
    let copy = run(2, 1);
    assert!(hear(&mut claim, 1, copy.clone()), "it looks like a restart");
    assert!(hear(&mut claim, 2, run(1, 0)), "the original lives");
    for secs in 3..100 {
        assert!(hear(&mut claim, secs, run(1, 0)));
        assert!(!hear(&mut claim, secs, copy.clone()));
        // The copy's agent, started again.
        assert!(!hear(&mut claim, secs, run(3, 2)));
        assert!(claim.trouble(at(secs)).is_some());
    }
    // The original, started again.
    assert!(hear(&mut claim, 100, run(4, 1)));
    assert!(!hear(&mut claim, 101, copy));
}

#[test]
fn of_two_machines_made_from_one_image_the_first_is_the_node() {
    let mut claim = Claim::new(at(0), run(7, 0), None);
    assert!(hear(&mut claim, 50, run(1, 7)));
    assert!(!hear(&mut claim, 51, run(2, 7)));
    assert!(hear(&mut claim, 52, run(1, 7)));
    let told = claim.trouble(at(52)).unwrap();
    assert!(told.contains("bastide down --forget"), "{told}");
    assert_eq!(claim.trouble(at(51 + 60)), None, "the rival went silent");
}

#[test]
fn a_server_that_forgot_who_is_the_node_gives_it_to_the_original_when_it_is_heard() {
    // After the server's restart the copy is heard first.
    let mut claim = Claim::new(at(0), run(2, 1), None);
    assert!(hear(&mut claim, 1, run(1, 0)));
    assert!(!hear(&mut claim, 2, run(2, 1)));
}

#[test]
fn when_the_holder_is_silent_for_half_a_minute_whoever_holds_the_keys_is_the_node() {
    let mut claim = claim();
    assert!(!hear(&mut claim, 29, run(5, 4)));
    assert!(hear(&mut claim, 30, run(5, 4)), "a disk from a backup");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut claim = claim();
    for id in 10..200 {
        hear(&mut claim, 1, run(id, 0));
    }
    assert_eq!(claim.rivals.len(), RIVALS_MAX);
}

#[test]
fn an_agent_that_was_killed_before_it_was_heard_is_its_node_all_the_same() {
    let mut claim = claim();
    // Runs 2 and 3 never reported; or they did, and the answer was lost.
    let mut next = run(4, 3);
    next.after
        .extend([2, 1].map(|byte| InstanceId::from_bytes([byte; 16])));
    assert!(hear(&mut claim, 1, next));
}
