use super::*;

#[test]
fn a_clock_that_is_off_by_more_than_five_minutes_is_told() {
    let said = |skew| trouble(skew).unwrap_or_default();
    let secs = Duration::from_secs;
    assert_eq!(said(Skew::Ahead(secs(300))), "");
    assert_eq!(said(Skew::Behind(secs(300))), "");
    assert_eq!(
        said(Skew::Behind(secs(3600))),
        "this host's clock is 60 min behind the cluster's: `timedatectl set-ntp true`"
    );
    assert_eq!(
        said(Skew::Ahead(secs(366 * 86_400))),
        "this host's clock is 366 days ahead of the cluster's: `timedatectl set-ntp true`"
    );
}
