use super::*;

fn read(line: &str) -> anyhow::Result<Plan> {
    plan(
        &line
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )
}

#[test]
fn every_peer_is_measured_unless_some_are_named() {
    assert_eq!(read("").unwrap().peers, Peer::ALL);
    let plan = read("--seconds 2 tinc bastide --rounds 5").unwrap();
    assert_eq!((plan.seconds, plan.rounds), (2, 5));
    assert_eq!(plan.peers, [Peer::Tinc, Peer::Bastide]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for line in ["carrier-pigeon", "--seconds", "--seconds x", "--rounds 0"] {
        assert!(read(line).is_err(), "{line}");
    }
}
