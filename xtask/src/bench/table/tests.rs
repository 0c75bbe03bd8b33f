use super::*;

fn sample(tcp_gbit: f64) -> Sample {
    Sample {
        tcp_gbit,
        udp_kpps: 100.0,
        rtt_ms: 0.2,
        cores: 1.5,
    }
}

#[test]
fn a_peer_is_judged_by_its_median_not_by_its_best() {
    let results = [
        (Peer::Tinc, sample(1.0)),
        (Peer::Bastide, sample(2.0)),
        (Peer::Tinc, sample(9.0)),
        (Peer::Bastide, sample(3.0)),
        (Peer::Tinc, sample(2.0)),
        (Peer::Bastide, sample(4.0)),
    ];
    assert_eq!(
        lines(&results)[1..],
        [
            "tinc               2.000     100.0    0.200   1.50  1.50 x, 1.00 x",
            "bastide            3.000     100.0    0.200   1.50"
        ]
    );
}

#[test]
fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
    assert_eq!(
        median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(),
        2.5_f64.to_bits()
    );
    assert!(median(Vec::new()).is_nan());
}
