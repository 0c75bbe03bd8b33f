use bastide_api::ClusterId;
use bastide_store::{Barrier, DevSeal, RedbStore, Store};

use super::*;

#[test]
fn a_burst_that_outruns_the_second_is_recorded_and_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::in_memory().unwrap();
    let cluster = ClusterId::from_bytes([7; 16]);
    let barrier = Barrier::initialise(&store, &DevSeal::new(), cluster).unwrap();
    let open = OpenSnapshot::new(store.snapshot().unwrap(), barrier);
    let way = Way::File {
        path: folder.path().join("audit.log"),
        ahead_bytes: 0,
        mode: None,
    };
    let mut outbox = Outbox::new(DeviceId::default(), "file/".to_owned(), way);
    outbox.open(&open).unwrap();
    let record = [b'x'; 700];
    // Twice as many as may wait, in groups as large as the writer's, before a sync is due.
    for group in 0..40 {
        for request in 0..512 {
            let accepted = outbox.accepts(Need::Glance, true);
            assert!(accepted, "request {request} of group {group} was refused");
            outbox.chain([&record, &record]);
        }
        outbox.flush();
        outbox.sync_if_due(Duration::from_secs(3600));
    }
    // A device that is gone takes nothing, and then what waits is bounded.
    outbox.sink = None;
    let taken = (0..WAITING_MAX).take_while(|_| {
        let accepted = outbox.accepts(Need::Glance, true);
        outbox.chain([&record, &record]);
        accepted
    });
    assert!(taken.count() < WAITING_MAX / 2);
}
