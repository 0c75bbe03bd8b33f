use serde_json::json;

use super::*;

#[test]
fn lost_packets_do_not_count() {
    let report = json!({"end": {"sum": {"packets": 50_000, "lost_packets": 10_000}}});
    assert_eq!(udp_kpps(&report, 2), Some(20.0));
    assert_eq!(udp_kpps(&json!({}), 2), None);
}

#[test]
fn throughput_is_what_arrived() {
    let report = json!({"end": {
        "sum_sent": {"bits_per_second": 9e9}, "sum_received": {"bits_per_second": 2.5e9}}});
    assert_eq!(tcp_gbit(&report), Some(2.5));
}

#[test]
fn the_mean_round_trip_is_read() {
    let report = "200 packets transmitted\nrtt min/avg/max/mdev = 0.034/0.125/0.3/0.01 ms\n";
    assert_eq!(mean_rtt(report), Some(0.125));
    assert_eq!(mean_rtt("100% packet loss"), None);
}
