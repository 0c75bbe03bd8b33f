use super::super::message::{INITIATION_LEN, Mac1Key};
use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn key(seed: u8) -> WireGuardKey {
    WireGuardKey::from_bytes([seed; 32])
}

/// An initiation to the holder of `key(1)` with its macs, by whoever holds the jar.
fn initiation(now: Instant, jar: &mut CookieJar) -> Vec<u8> {
    let mut datagram = vec![5; INITIATION_LEN];
    write_head(&mut datagram, Message::Initiation { sender: 9 });
    let mac1 = Mac1Key::new(&key(1)).sign(&mut datagram);
    jar.sign(now, &mut datagram, mac1);
    datagram
}

fn maker(now: Instant) -> CookieMaker {
    let mut maker = CookieMaker::new(&key(1));
    maker.set_secret(now, Secret::new([8; 32]));
    maker
}

#[test]
fn a_cookie_makes_the_next_message_valid_from_its_address_only() {
    let now = Instant::now();
    let (maker, mut jar) = (maker(now), CookieJar::new(&key(1)));
    let first = initiation(now, &mut jar);
    assert_eq!(
        first[INITIATION_LEN - MAC_LEN..],
        [0; MAC_LEN],
        "no cookie, no mac2"
    );
    assert!(!maker.verify(now, address(1), &first));

    let reply = maker.reply(address(1), 9, &first, &[3; 24]).unwrap();
    assert!(jar.open(now, &reply));
    let second = initiation(now, &mut jar);
    assert!(maker.verify(now, address(1), &second));
    assert!(!maker.verify(now, address(2), &second), "another port");
    let elsewhere = SocketAddr::from(([192, 0, 2, 2], 1));
    assert!(!maker.verify(now, elsewhere, &second), "another address");
}

#[test]
fn cookies_end_after_two_minutes_on_both_sides() {
    let now = Instant::now();
    let (maker, mut jar) = (maker(now), CookieJar::new(&key(1)));
    let first = initiation(now, &mut jar);
    assert!(jar.open(now, &maker.reply(address(1), 9, &first, &[3; 24]).unwrap()));
    let late = now + COOKIE_LIFE;
    let second = initiation(late, &mut jar);
    assert_eq!(second[INITIATION_LEN - MAC_LEN..], [0; MAC_LEN]);
    let second = initiation(now, &mut jar);
    assert!(maker.needs_secret(late));
    assert!(!maker.verify(late, address(1), &second));
}

#[test]
fn a_reply_counts_once_and_only_for_the_last_message() {
    let now = Instant::now();
    let (maker, mut jar) = (maker(now), CookieJar::new(&key(1)));
    let first = initiation(now, &mut jar);
    let reply = maker.reply(address(1), 9, &first, &[3; 24]).unwrap();
    let mut forged = reply;
    forged[40] ^= 1;
    assert!(!jar.open(now, &forged));
    assert!(jar.open(now, &reply));
    assert!(!jar.open(now, &reply), "a replay");
    let mut other = CookieJar::new(&key(1));
    let _ = initiation(now, &mut other);
    assert!(other.open(now, &reply), "the same message, mac1 and all");
    let mut idle = CookieJar::new(&key(1));
    assert!(!idle.open(now, &reply), "nothing was sent");
}

/// draft-irtf-cfrg-xchacha-03, A.3.1.
#[test]
fn the_published_vector_of_the_extended_cipher_comes_out() {
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
    let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
    let aad = [
        0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    ];
    let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
        tip for the future, sunscreen would be it.";
    let (cipher, short) = extended(&key, &nonce);
    let tag = cipher
        .seal_in_place_separate_tag(short, Aad::from(aad), &mut text)
        .unwrap();
    let hex = data_encoding::HEXLOWER.encode(&text);
    assert!(hex.starts_with("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"));
    let tag = data_encoding::HEXLOWER.encode(tag.as_ref());
    assert_eq!(tag, "c0875924c1c7987947deafd8780acf49");
}
