use super::*;

#[test]
fn over_long_time_the_rate_is_met_and_never_exceeded() {
    for rate in [1, 7, 1000, 12_500_000] {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, rate);
        assert!(bucket.take(start, rate));
        let mut taken = 0;
        for ms in 1..=10_000 {
            let now = start + Duration::from_millis(ms);
            while taken < 10 * rate && bucket.take(now, (rate / 1000).max(1)) {
                taken += (rate / 1000).max(1);
            }
            assert!(taken <= rate * ms / 1000 + 1, "{rate} at {ms} ms");
        }
        assert!(taken >= 10 * rate - rate / 100 - 1, "{rate}: {taken}");
    }
}

#[test]
fn a_rate_of_zero_lets_nothing_through() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now, 0);
    assert!(!bucket.take(now + Duration::from_secs(5), 1));
}
