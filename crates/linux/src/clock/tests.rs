use super::*;

#[test]
fn the_hosts_clocks_go_on() {
    let before = read();
    let after = read();
    assert!(before.since_boot <= after.since_boot);
    assert!(Duration::ZERO < before.since_boot);
    assert!(BUILT < before.wall, "this host's clock is wrong");
}

#[test]
fn a_clock_tells_how_far_its_host_is_off() {
    let clock = Clock::following(None);
    let hour = Duration::from_secs(3600);
    clock.learn(wall().plus(hour));
    let Skew::Behind(by) = clock.skew() else {
        panic!("{:?}", clock.skew());
    };
    assert!(hour < by + Duration::from_secs(60) && by <= hour, "{by:?}");
    let mark = clock.mark();
    assert!(mark.taught && mark.wall < mark.at);
    let next = Clock::following(Some(&mark));
    assert!(
        mark.at <= next.now(),
        "a process after this one knows it too"
    );
}

#[test]
fn the_controllers_clock_is_not_taught() {
    let clock = Clock::leading(None);
    clock.learn(wall().plus(Duration::from_secs(86_400)));
    clock.at_least(wall().plus(Duration::from_secs(86_400)));
    assert!(clock.now() <= wall());
}
