use std::time::Duration;

use bastide_api::UnixTime;
use bastide_store::EpochStatus;

use super::{OPERATIONS_MAX, Rotation};

#[test]
fn a_key_is_changed_before_its_nonces_may_collide() {
    let began = UnixTime::from_millis(1_000_000_000_000);
    let status = |sealed| EpochStatus {
        epoch: 3,
        installed: began,
        sealed,
    };
    let mut rotation = Rotation::default();
    let year = began.plus(Duration::from_secs(365 * 24 * 3600));
    assert!(!rotation.is_due(year, status(OPERATIONS_MAX - 1)));
    assert!(rotation.is_due(began, status(OPERATIONS_MAX)));
    // The bound of random nonces.
    const { assert!(OPERATIONS_MAX < 1 << 32) };
    rotation.interval_secs = 24 * 3600;
    let day = |secs| began.plus(Duration::from_secs(secs));
    assert!(!rotation.is_due(day(24 * 3600 - 1), status(0)));
    assert!(rotation.is_due(day(24 * 3600), status(0)));
    // Since when an epoch of an earlier version is, is not known.
    let unknown = EpochStatus {
        installed: UnixTime::EPOCH,
        ..status(0)
    };
    assert!(!rotation.is_due(year, unknown));
    rotation.enabled = false;
    assert!(!rotation.is_due(year, status(OPERATIONS_MAX)));
}
