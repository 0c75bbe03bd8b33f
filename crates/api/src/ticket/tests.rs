use super::*;

fn ticket() -> Ticket {
    Ticket {
        cluster: ClusterId::from_bytes([7; 16]),
        controllers: vec![
            "203.0.113.10:7443".parse().unwrap(),
            "[2001:db8::1]:7443".parse().unwrap(),
        ],
        pin: CaPin([9; 32]),
        id: TicketId::from_bytes([3; 16]),
        secret: Secret::new([0x5a; 32]),
        expires: UnixTime::from_millis(1_800_000_000_000),
    }
}

#[test]
fn a_ticket_survives_printing_and_parsing() {
    let ticket = ticket();
    let again: Ticket = ticket.reveal().expose().parse().unwrap();
    assert_eq!(again.cluster, ticket.cluster);
    assert_eq!(again.controllers, ticket.controllers);
    assert_eq!(again.pin, ticket.pin);
    assert_eq!(again.id, ticket.id);
    assert_eq!(again.secret.expose(), ticket.secret.expose());
    assert_eq!(again.expires, ticket.expires);
}

#[test]
fn every_single_changed_character_is_noticed() {
    let text = ticket().reveal().expose().clone();
    for at in PREFIX.len()..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(changed.parse::<Ticket>().is_err(), "character {at}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let text = ticket().reveal().expose().clone();
    for length in 0..text.len() {
        assert!(text[..length].parse::<Ticket>().is_err(), "length {length}");
    }
}

#[test]
fn a_ticket_that_was_cut_off_is_called_incomplete_wherever_it_was() {
    let text = ticket().reveal().expose().clone();
    for length in PREFIX.len() + 1..text.len() {
        let error = text[..length].parse::<Ticket>().unwrap_err();
        assert_eq!(error, TicketError::Checksum, "length {length}");
    }
    let strange = format!("{}!", &text[..text.len() - 1]);
    assert_eq!(
        strange.parse::<Ticket>().unwrap_err(),
        TicketError::Encoding
    );
}

#[test]
fn debug_output_holds_no_secret() {
    let shown = format!("{:?}", ticket());
    assert!(!shown.contains("90") && !shown.contains("5a"), "{shown}");
}
