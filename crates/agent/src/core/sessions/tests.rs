use bastide_api::session::Action;
use bastide_api::{ClusterId, Secret};
use bastide_pki::{ViewSigner, verify_grant};

use super::*;

const START: UnixTime = UnixTime::from_millis(1_800_000_000_000);

fn me() -> NodeId {
    NodeId::from_bytes([1; 16])
}

fn grant(number: usize, node: NodeId, made: UnixTime) -> Verified<Grant> {
    let grant = Grant {
        id: format!("{number:032x}"),
        node,
        stack: "shop".parse().unwrap(),
        service: "web".parse().unwrap(),
        action: Action::Logs {
            follow: false,
            tail: None,
        },
        until: made.plus(GRANT_LIFE),
    };
    let signer = ViewSigner::from_seed(&Secret::new([7; 32]));
    let cluster = ClusterId::from_bytes([2; 16]);
    let signed = signer.sign_grant(&grant, cluster);
    verify_grant(&signed, cluster, &signer.public_key()).unwrap()
}

fn later(seconds: u64) -> UnixTime {
    START.plus(std::time::Duration::from_secs(seconds))
}

#[test]
fn a_grant_is_served_once_and_only_by_the_node_that_it_names() {
    let mut desk = Desk::new(me(), START);
    let made = later(100);
    let admitted = desk.take(grant(1, me(), made), made).unwrap();
    assert_eq!(admitted.grant().service.as_str(), "web");
    let again = desk.take(grant(1, me(), made), made).unwrap_err();
    assert_eq!(again, GrantRefusal::Taken);
    let other = grant(2, NodeId::from_bytes([9; 16]), made);
    assert_eq!(desk.take(other, made).unwrap_err(), GrantRefusal::OtherNode);
}

#[test]
fn a_grant_that_ended_or_is_older_than_the_agent_is_not_served() {
    let mut desk = Desk::new(me(), START);
    let late = desk.take(grant(1, me(), later(10)), later(70));
    assert_eq!(late.unwrap_err(), GrantRefusal::Ended);
    // It may have been taken up by the agent that ran before.
    let old = desk.take(grant(2, me(), START), later(1));
    assert_eq!(old.unwrap_err(), GrantRefusal::BeforeStart);
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten_in_time() {
    let mut desk = Desk::new(me(), START);
    let made = later(100);
    for number in 0..TAKEN_MAX {
        let _admitted = desk.take(grant(number, me(), made), made).unwrap();
    }
    let more = desk.take(grant(TAKEN_MAX, me(), made), made);
    assert_eq!(more.unwrap_err(), GrantRefusal::TooMany);
    let next = later(200);
    let _admitted = desk.take(grant(TAKEN_MAX, me(), next), next).unwrap();
    assert_eq!(desk.taken.len(), 1);
}

#[test]
fn each_line_gets_its_containers_name_and_none_is_kept_for_ever() {
    let mut lines = Lines::new("web.1");
    assert_eq!(lines.push(b"a\nb"), b"web.1 | a\n");
    assert_eq!(lines.push(b"c\n\n"), b"web.1 | bc\nweb.1 | \n");
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    assert_eq!(
        lines.push(&long).len(),
        "web.1 | ".len() + LINE_BYTES_MAX + 1
    );
    assert_eq!(lines.finish(), b"web.1 | x\n");
}
