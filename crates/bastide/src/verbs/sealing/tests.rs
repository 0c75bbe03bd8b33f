use super::*;

#[test]
fn what_sealing_means_is_said_with_the_numbers_of_the_shares() {
    let text = meaning(3, 5);
    for part in [
        "Any 3 of the 5 shares",
        "more than 2 are lost",
        "24 hours",
        "at least\n12 hours",
        "new ticket",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
