use super::*;

fn sharing(shares: u64, threshold: u64) -> Sharing {
    Sharing::new(shares, threshold).unwrap()
}

fn hex(text: &str) -> Share {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Secret::new((0..text.len()).step_by(2).map(digits).collect())
}

fn copies(shares: &[Share], which: &[usize]) -> Vec<Share> {
    which.iter().map(|&at| shares[at].duplicate()).collect()
}

#[test]
fn the_field_is_that_of_aes() {
    // FIPS 197, section 4.2: {57} times {83}, and {57} times {13}.
    assert_eq!(multiply(0x57, 0x83), 0xc1);
    assert_eq!(multiply(0x57, 0x13), 0xfe);
    // Against the multiplication of polynomials, written down without any trick.
    let slow = |a: u8, b: u8| {
        let mut product = 0u16;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= u16::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    };
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            assert_eq!(multiply(a, b), slow(a, b), "{a} times {b}");
        }
        assert_eq!(multiply(a, invert(a)), u8::from(a != 0), "{a}");
    }
}

#[test]
fn any_shares_of_the_threshold_bring_the_key_back_and_fewer_do_not() {
    let (seal, shares) = ShamirSeal::split(sharing(5, 3));
    let key = |which: &[usize]| {
        ShamirSeal::combine(seal.sharing, &copies(&shares, which)).map(|it| *it.key.expose())
    };
    let mut sets = 0;
    for a in 0..5 {
        for b in a + 1..5 {
            assert!(matches!(key(&[a, b]), Err(SealError::Shares)));
            for c in b + 1..5 {
                assert_eq!(key(&[a, b, c]).unwrap(), *seal.key.expose());
                assert_eq!(key(&[c, a, b]).unwrap(), *seal.key.expose());
                sets += 1;
            }
        }
    }
    assert_eq!(sets, 10);
    assert_eq!(key(&[0, 1, 2, 3, 4]).unwrap(), *seal.key.expose());
    // Two of three, taken for enough, combine to something else.
    let two = combine(&copies(&shares, &[0, 1])).unwrap();
    assert_ne!(two.expose(), seal.key.expose());
}

#[test]
fn the_widest_sharing_works_and_a_share_of_one_is_the_key() {
    let (seal, shares) = ShamirSeal::split(sharing(255, 255));
    let back = ShamirSeal::combine(seal.sharing, &shares).unwrap();
    assert_eq!(back.key.expose(), seal.key.expose());
    let mut places: Vec<_> = shares.iter().map(|it| it.expose()[KEY_BYTES]).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=u8::MAX).collect::<Vec<_>>());
    let (seal, shares) = ShamirSeal::split(sharing(1, 1));
    assert_eq!(shares[0].expose().as_slice(), seal.key.expose());
    let back = ShamirSeal::combine(seal.sharing, &shares).unwrap();
    assert_eq!(back.key.expose(), seal.key.expose());
}

#[test]
fn sharings_that_make_no_sense_are_refused() {
    for (shares, threshold, error) in [
        (0, 0, SharingError::NoShare),
        (256, 3, SharingError::TooMany),
        (5, 0, SharingError::NoThreshold),
        (5, 1, SharingError::EachIsAll),
        (3, 4, SharingError::Unreachable),
        (3, 1000, SharingError::Unreachable),
    ] {
        assert_eq!(
            Sharing::new(shares, threshold),
            Err(error),
            "{threshold} of {shares}"
        );
    }
    assert!(serde_json::from_str::<Sharing>(r#"{"shares":5,"threshold":3}"#).is_ok());
    assert!(serde_json::from_str::<Sharing>(r#"{"shares":5,"threshold":1}"#).is_err());
}

#[test]
fn wrong_shares_are_refused_with_one_answer_for_all() {
    let sharing = sharing(3, 2);
    let (seal, shares) = ShamirSeal::split(sharing);
    let (_, strange) = ShamirSeal::split(sharing);
    let wrapped = seal.wrap(b"context", &[7; 32]).unwrap();
    let open = |shares: &[Share]| {
        ShamirSeal::combine(sharing, shares)
            .and_then(|seal| seal.unwrap(b"context", &wrapped))
            .map(|root| *root.expose())
            .map_err(|error| error.to_string())
    };
    assert_eq!(open(&copies(&shares, &[0, 2])).unwrap(), [7; 32]);
    let mut bent = copies(&shares, &[0, 1]);
    let mut bytes = bent[1].expose().clone();
    bytes[9] ^= 1;
    bent[1] = Secret::new(bytes);
    let mut zero = shares[0].expose().clone();
    zero[KEY_BYTES] = 0;
    let sets: [Vec<Share>; 6] = [
        copies(&shares, &[0]),
        copies(&shares, &[0, 0]),
        vec![shares[0].duplicate(), strange[1].duplicate()],
        bent,
        vec![shares[1].duplicate(), Secret::new(zero)],
        vec![shares[1].duplicate(), Secret::new(vec![1; 5])],
    ];
    let said = open(&sets[0]).unwrap_err();
    for set in &sets {
        assert_eq!(open(set).unwrap_err(), said);
    }
}

/// The bytes of a share tell nothing: over many splits of one key each value is as frequent as any
/// other. With 255 degrees of freedom the statistic exceeds 400 once in 10^8 runs.
#[test]
fn one_share_of_a_known_key_is_evenly_distributed() {
    let key = Secret::new([0x5a; KEY_BYTES]);
    let chi_square = |byte_of: &dyn Fn(&[Share]) -> u8| {
        let rounds = 25_600;
        let mut seen = [0i64; 256];
        for _ in 0..rounds / KEY_BYTES {
            let shares = split(&key, sharing(2, 2));
            for at in 0..KEY_BYTES {
                let rotated: Vec<Share> = shares
                    .iter()
                    .map(|it| Secret::new(it.expose()[at..].to_vec()))
                    .collect();
                seen[usize::from(byte_of(&rotated))] += 1;
            }
        }
        seen.iter().map(|&n| (n - 100) * (n - 100)).sum::<i64>() / 100
    };
    let fair = chi_square(&|shares| shares[0].expose()[0]);
    assert!(fair < 400, "{fair}");
    // The control: a byte that is always even is seen.
    let biased = chi_square(&|shares| shares[0].expose()[0] & 0xfe);
    assert!(20_000 < biased, "{biased}");
}

/// What Vault 1.21.4 itself splits the bytes 0 to 31 into, 3 of 5.
const OF_VAULT: [&str; 5] = [
    "cbd6a68de9978576c06be26f93985ac4dd40ec67916caaae548b12de174f78e6da",
    "f3ed4731690a335cad615be44eb10fb050c2c4aa87d1e1a9a5d4c7cc350ac4fb5b",
    "bcd1972fc771d57831394f870129fa5349ef4e7b7c199e7d1f3b67b98817ab5a6a",
    "041e9ee25ecea776b4028eb9ae875bb2a10df6c775443158bd3fc851587b6b9dac",
    "aade853703be994e61624bcb7bbb0025d289f2b5240610621f0048ecdd6f74fba7",
];

#[test]
fn shares_that_vault_made_combine() {
    let shares = OF_VAULT.map(hex);
    let expected: Vec<u8> = (0..32).collect();
    for which in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
        let seal = ShamirSeal::combine(sharing(5, 3), &copies(&shares, &which)).unwrap();
        assert_eq!(seal.key.expose().as_slice(), expected);
    }
}
