use super::*;

fn id(number: u32) -> TicketId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    TicketId::from_bytes(bytes)
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_millis(secs * 1000)
}

#[test]
fn eight_wrong_secrets_are_borne_and_then_one_every_four_seconds() {
    let mut guesses = Guesses::default();
    for _ in 0..8 {
        assert_eq!(guesses.wait(at(100), id(1)), Duration::ZERO);
        guesses.wrong(at(100), id(1));
    }
    assert_eq!(guesses.wait(at(100), id(1)), Duration::from_secs(4));
    assert_eq!(guesses.wait(at(103), id(1)), Duration::from_secs(1));
    assert_eq!(guesses.wait(at(104), id(1)), Duration::ZERO);
    guesses.wrong(at(104), id(1));
    assert_eq!(guesses.wait(at(104), id(1)), Duration::from_secs(4));
    assert_eq!(
        guesses.wait(at(104), id(2)),
        Duration::ZERO,
        "another ticket"
    );
}

#[test]
fn spraying_over_many_tickets_does_not_make_it_forget_the_one_that_is_guessed_at() {
    let mut guesses = Guesses::default();
    for _ in 0..9 {
        guesses.wrong(at(100), id(0));
    }
    for other in 1..=2 * u32::try_from(TICKETS_MAX).unwrap() {
        guesses.wrong(at(100), id(other));
    }
    assert_eq!(guesses.full_at.len(), TICKETS_MAX);
    assert_eq!(guesses.wait(at(100), id(0)), Duration::from_secs(8));
}
