use super::*;
use crate::{Claim, Identity, fixture};

#[test]
fn an_authority_read_back_signs_as_before() {
    let made = fixture::authority();
    let again = Authority::load(&made.key_pem(), made.certificate_pem()).unwrap();
    assert_eq!(again.pin(), made.pin());
    assert_eq!(again.cluster(), fixture::cluster());
    let roots = Roots::from_pem(made.certificate_pem()).unwrap();
    let issued = fixture::node_certificate(&again);
    let peer = roots
        .verify(&issued.der, Claim::NodeClient, fixture::now())
        .unwrap();
    assert_eq!(peer.node(), fixture::node());
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let (one, other) = (fixture::authority(), fixture::authority());
    let loaded = Authority::load(&one.key_pem(), other.certificate_pem());
    assert!(matches!(loaded.err(), Some(AuthorityError::Mismatch)));
}

#[test]
fn a_certificate_begins_five_minutes_ago_and_ends_when_it_says() {
    let issued = fixture::node_certificate(&fixture::authority());
    let (begins, ends) = crate::certificate_lifetime(&issued.pem).unwrap();
    assert_eq!(fixture::now().since(begins), Duration::from_secs(65 * 60));
    assert_eq!(ends, fixture::now().plus(fixture::DAY));
    assert_eq!(crate::certificate_made(&issued.pem), Some(fixture::now()));
    assert_eq!(ends, issued.expires);
}

#[test]
fn a_certificate_never_outlives_its_authority() {
    let authority = fixture::authority();
    let almost_all = AUTHORITY_LIFE.saturating_sub(Duration::from_secs(60));
    let late = fixture::now().plus(almost_all);
    let key = fixture::proven(&Identity::generate());
    let validity = Validity {
        now: late,
        life: fixture::DAY,
    };
    let issued = authority.sign_node(&key, fixture::node(), validity, [1; 16]);
    assert_eq!(issued.expires, late.plus(Duration::from_secs(60)));
}

#[test]
fn serials_are_positive_and_of_sixteen_bytes_whatever_was_drawn() {
    for drawn in [[0; 16], [0xff; 16], [0x80; 16]] {
        let authority = fixture::authority();
        let key = fixture::proven(&Identity::generate());
        let issued = authority.sign_node(&key, fixture::node(), fixture::for_a_day(), drawn);
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        let serial = parsed.raw_serial();
        assert_eq!(serial.len(), 16);
        assert!((0x40..0x80).contains(&serial[0]));
    }
}

#[test]
fn a_clock_at_the_epoch_makes_a_certificate_all_the_same() {
    let authority = Authority::create(fixture::cluster(), UnixTime::EPOCH, [3; 16]);
    let key = fixture::proven(&Identity::generate());
    let validity = Validity {
        now: UnixTime::EPOCH,
        life: fixture::DAY,
    };
    let issued = authority.sign_node(&key, fixture::node(), validity, [1; 16]);
    let (begins, _) = crate::certificate_lifetime(&issued.pem).unwrap();
    assert_eq!(begins, UnixTime::EPOCH);
}
