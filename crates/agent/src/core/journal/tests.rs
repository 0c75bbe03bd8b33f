use super::*;

fn forward(before: &str) -> Change {
    Change::Sysctl {
        name: "net.ipv4.ip_forward".to_owned(),
        before: before.to_owned(),
    }
}

#[test]
fn the_first_original_is_the_one_that_is_put_back() {
    let mut journal = Journal::new();
    assert!(journal.record(forward("0")));
    assert!(!journal.record(forward("1")));
    assert_eq!(journal.undo_order().collect::<Vec<_>>(), [&forward("0")]);
}

#[test]
fn undoing_goes_backwards() {
    let mut journal = Journal::new();
    journal.record(forward("0"));
    journal.record(Change::Swarm);
    journal.record(Change::DockerUserRule);
    let order: Vec<_> = journal.undo_order().cloned().collect();
    assert_eq!(order, [Change::DockerUserRule, Change::Swarm, forward("0")]);
    for change in &order {
        journal.forget(change);
    }
    assert_eq!(journal, Journal::new());
}

#[test]
fn the_stored_form_of_format_1_stays_readable() {
    let golden = r#"{"format":1,"changes":[
        {"kind":"sysctl","name":"net.ipv4.ip_forward","before":"0"},
        {"kind":"nft-table","family":"inet","name":"bastide"},
        {"kind":"docker-user-rule"},
        {"kind":"interface","name":"bst0"},
        {"kind":"swarm"}]}"#;
    let journal: Journal = serde_json::from_str(golden).unwrap();
    assert!(journal.is_known_format());
    assert_eq!(journal.undo_order().count(), 5);
    let again: Journal = serde_json::from_str(&serde_json::to_string(&journal).unwrap()).unwrap();
    assert_eq!(again, journal);
}
