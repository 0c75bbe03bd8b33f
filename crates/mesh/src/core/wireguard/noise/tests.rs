use data_encoding::HEXLOWER as HEX;
use snow::types::Hash as _;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    HEX.decode(text.as_bytes()).unwrap()
}

fn key(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

/// The published vector of this pattern (cacophony, as snow carries it), with its own prologue and
/// payloads: it judges primitives and resolver.
#[test]
fn the_published_vector_comes_out() {
    let builder = |ephemeral: &str| {
        let ephemeral = Secret::new(key(ephemeral));
        Builder::with_resolver(PARAMS.clone(), Box::new(Primitives { ephemeral }))
            .prologue(b"John Galt")
            .unwrap()
    };
    let psk = key("54686973206973206d7920417573747269616e20706572737065637469766521");
    let remote = key("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
    let mut initiator = builder("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
        .local_private_key(&key(
            "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        ))
        .unwrap()
        .remote_public_key(&remote)
        .unwrap()
        .psk(2, &psk)
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut responder = builder("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
        .local_private_key(&key(
            "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        ))
        .unwrap()
        .psk(2, &psk)
        .unwrap()
        .build_responder()
        .unwrap();

    let (mut message, mut payload) = ([0; 200], [0; 200]);
    let len = initiator
        .write_message(b"Ludwig von Mises", &mut message)
        .unwrap();
    assert_eq!(
        HEX.encode(&message[..len]),
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57\
         527207feb56253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f\
         2441eba616548e832985464cf17e51ee93109008399a21f7e13f"
    );
    let read = responder
        .read_message(&message[..len], &mut payload)
        .unwrap();
    assert_eq!(&payload[..read], b"Ludwig von Mises");

    let len = responder
        .write_message(b"Murray Rothbard", &mut message)
        .unwrap();
    assert_eq!(
        HEX.encode(&message[..len]),
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f0075\
         72dab0322217755c0632f365717edbf34d33e87a"
    );
    initiator
        .read_message(&message[..len], &mut payload)
        .unwrap();
    assert_eq!(
        HEX.encode(initiator.get_handshake_hash()),
        "f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5"
    );

    // The first transport message of the vector judges the raw split.
    let (send, _) = initiator.dangerously_get_raw_split();
    let mut sealed = b"F. A. Hayek".to_vec();
    let tag = aead_key(&send)
        .seal_in_place_separate_tag(nonce(0), Aad::empty(), &mut sealed)
        .unwrap();
    sealed.extend_from_slice(tag.as_ref());
    assert_eq!(
        HEX.encode(&sealed),
        "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"
    );
}

/// Expected values by Python's `hmac` over its `hashlib.blake2s`.
#[test]
fn keys_are_derived_by_hmac_over_blake2s() {
    let check = |key: &[u8], input: &[u8], expected: [&str; 3]| {
        let mut out = [[0; 32]; 3];
        let [one, two, three] = &mut out;
        Blake2s::default().hkdf(key, input, 3, one, two, three);
        assert_eq!(out.map(|key| HEX.encode(&key)), expected);
    };
    check(
        b"bastide",
        b"wireguard",
        [
            "0688b6ea65b1bf5a099848df1a950747d0335a7f4d1f242c918e1d7770fa309c",
            "0bb8177874140f8d9b00f5ce5b84cec395d4373e5f9b0b2128492538e007b7cb",
            "a3e084cc4fcbc6fa8d2e14938faad63324fece18b58b92b2a86f738cd9ac68cc",
        ],
    );
    check(
        &[0xff; 32],
        b"",
        [
            "2242fd0f7a754a7597f2b500c91e28b9ccdad38b7b341d867eaeaf1e5f0768ec",
            "6b767b8871518e98ddb3bac72e12e89d5b7f3a42b289a82ad66551c4b893b6b5",
            "e9e562cb794059bcfdbf8abf3c3669b42c8d9cc47134773311ff467e00619339",
        ],
    );
    check(
        b"",
        &[7; 100],
        [
            "8bd29c32038141918aeacc9f2f176034e5405eaaf5ceaacc0a5c073dd85ea298",
            "3d81323caafb7ec7d7c336cbd37f9e3e481570de46e7c1d2d7f1bb431891613a",
            "1817a9abe6b5211b3b47187f587abf8fd557ee2f7b22958689c0e25511198214",
        ],
    );
}

fn handshake(preshared: [u8; 2]) -> Result<(SessionKeys, SessionKeys), Failed> {
    let (ours, theirs) = (
        StaticKey::new(Secret::new([1; 32])),
        StaticKey::new(Secret::new([2; 32])),
    );
    let stamp = Tai64N::from_bytes([9; 12]);
    let mut initiation = [0; INITIATION_LEN];
    let mut begun = Initiated::new(
        &ours,
        theirs.public(),
        Secret::new([3; 32]),
        stamp,
        77,
        &mut initiation,
    )?;
    let consumed = Consumed::new(&theirs, Secret::new([4; 32]), &initiation)?;
    assert_eq!((&consumed.peer, consumed.timestamp), (ours.public(), stamp));
    let mut response = [0; RESPONSE_LEN];
    let [mine, its] = preshared.map(|byte| Secret::new([byte; 32]));
    let responder = consumed.answer(&its, 88, 77, &mut response)?;
    let initiator = begun.finish(&mine, &response)?;
    Ok((initiator, responder))
}

#[test]
fn both_sides_derive_the_same_keys_crosswise() {
    let (initiator, responder) = handshake([5, 5]).map_err(|_| ()).unwrap();
    assert_eq!(initiator.send.expose(), responder.receive.expose());
    assert_eq!(initiator.receive.expose(), responder.send.expose());
    assert_ne!(initiator.send.expose(), initiator.receive.expose());
    assert!(handshake([5, 6]).is_err(), "preshared keys differ");
}

#[test]
fn a_changed_byte_anywhere_in_a_handshake_ends_it() {
    let (ours, theirs) = (
        StaticKey::new(Secret::new([1; 32])),
        StaticKey::new(Secret::new([2; 32])),
    );
    let mut initiation = [0; INITIATION_LEN];
    let begun = Initiated::new(
        &ours,
        theirs.public(),
        Secret::new([3; 32]),
        Tai64N::ZERO,
        77,
        &mut initiation,
    );
    assert!(begun.is_ok());
    for at in 8..INITIATION_LEN - 2 * MAC_LEN {
        let mut forged = initiation;
        forged[at] ^= 1;
        assert!(
            Consumed::new(&theirs, Secret::new([4; 32]), &forged).is_err(),
            "byte {at}"
        );
    }
}

#[test]
fn keys_of_low_order_are_refused() {
    let ours = StaticKey::new(Secret::new([1; 32]));
    let zero = WireGuardKey::from_bytes([0; 32]);
    let mut initiation = [0; INITIATION_LEN];
    let begun = Initiated::new(
        &ours,
        &zero,
        Secret::new([3; 32]),
        Tai64N::ZERO,
        1,
        &mut initiation,
    );
    assert!(begun.is_err());
}

#[test]
fn the_ephemeral_is_given_out_once() {
    let mut once = Once(Some(Secret::new([7; 32])));
    let mut bytes = [0; 32];
    assert!(once.try_fill_bytes(&mut bytes).is_ok());
    assert_eq!(bytes, [7; 32]);
    assert!(once.try_fill_bytes(&mut bytes).is_err());
}
