use super::*;

#[test]
fn an_id_survives_printing_and_parsing() {
    let id = NodeId::from_bytes([0xa5; 16]);
    let text = id.to_string();
    assert_eq!(text.len(), 2 + 26);
    assert_eq!(text.parse::<NodeId>(), Ok(id));
    assert_eq!(
        text.to_uppercase()
            .replacen("N-", "n-", 1)
            .parse::<NodeId>(),
        Ok(id)
    );
}

#[test]
fn an_id_of_another_kind_is_refused() {
    let ticket = TicketId::from_bytes([1; 16]).to_string();
    assert!(ticket.parse::<NodeId>().is_err());
    assert!("n-".parse::<NodeId>().is_err());
    assert!("n-0000".parse::<NodeId>().is_err());
}
