use std::time::Duration;

use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use super::*;
use crate::{Authority, Identity, fixture};

fn roots(authority: &Authority) -> Roots {
    Roots::from_pem(authority.certificate_pem()).unwrap()
}

fn other_cluster() -> Authority {
    Authority::create(ClusterId::from_bytes([7; 16]), fixture::now(), [3; 16])
}

#[test]
fn a_nodes_certificate_says_which_node_of_which_cluster() {
    let authority = fixture::authority();
    let issued = fixture::node_certificate(&authority);
    for claim in [Claim::NodeClient, Claim::NodeServer] {
        let peer = roots(&authority)
            .verify(&issued.der, claim, fixture::now())
            .unwrap();
        assert_eq!(peer.cluster(), fixture::cluster());
        assert_eq!(peer.node(), fixture::node());
        assert_eq!(peer.role(), Role::Node);
        assert_eq!(peer.expires(), issued.expires);
    }
}

#[test]
fn a_node_cannot_pass_for_a_controller_nor_a_controller_for_a_node() {
    let authority = fixture::authority();
    let node = fixture::node_certificate(&authority);
    let refused = roots(&authority).verify(&node.der, Claim::ControllerServer, fixture::now());
    assert!(matches!(
        refused,
        Err(PeerError::Role {
            found: Role::Node,
            ..
        })
    ));
    let key = fixture::proven(&Identity::generate());
    let controller =
        authority.sign_controller(&key, fixture::node(), &[], fixture::for_a_day(), [5; 16]);
    assert!(
        roots(&authority)
            .verify(&controller.der, Claim::ControllerServer, fixture::now())
            .is_ok()
    );
    let refused = roots(&authority).verify(&controller.der, Claim::NodeClient, fixture::now());
    assert!(
        matches!(refused, Err(PeerError::Chain { .. })),
        "it is no client: {refused:?}"
    );
    let refused = roots(&authority).verify(&controller.der, Claim::NodeServer, fixture::now());
    assert!(matches!(
        refused,
        Err(PeerError::Role {
            found: Role::Controller,
            ..
        })
    ));
}

#[test]
fn a_controllers_certificate_may_hold_addresses_and_a_nodes_may_not() {
    let authority = fixture::authority();
    let key = fixture::proven(&Identity::generate());
    let here = [[127, 0, 0, 1].into(), [100, 72, 0, 1].into()];
    let controller =
        authority.sign_controller(&key, fixture::node(), &here, fixture::for_a_day(), [5; 16]);
    let roots = roots(&authority);
    assert!(
        roots
            .verify(&controller.der, Claim::ControllerServer, fixture::now())
            .is_ok()
    );
    let good = spiffe_id(fixture::cluster(), Role::Node, fixture::node());
    let (roots, der) = odd_certificate(|params| {
        params.subject_alt_names = vec![name(&good), SanType::IpAddress([127, 0, 0, 1].into())];
    });
    assert!(
        roots
            .verify(&der, Claim::NodeClient, fixture::now())
            .is_err()
    );
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let foreign = fixture::node_certificate(&other_cluster());
    let refused =
        roots(&fixture::authority()).verify(&foreign.der, Claim::NodeClient, fixture::now());
    assert!(matches!(refused, Err(PeerError::Chain { .. })));
}

#[test]
fn a_certificate_is_refused_before_and_after_its_time() {
    let authority = fixture::authority();
    let issued = fixture::node_certificate(&authority);
    let at = |when: UnixTime| roots(&authority).verify(&issued.der, Claim::NodeClient, when);
    assert!(at(issued.expires).is_ok());
    assert!(at(issued.expires.plus(Duration::from_secs(1))).is_err());
    let begin = fixture::now().as_millis() - 65 * 60_000;
    assert!(at(UnixTime::from_millis(begin)).is_ok());
    assert!(at(UnixTime::from_millis(begin - 1000)).is_err());
}

/// Signs what an authority of ours would never sign.
fn odd_certificate(shape: impl FnOnce(&mut CertificateParams)) -> (Roots, CertificateDer<'static>) {
    let authority = fixture::authority();
    let key = KeyPair::from_pem(authority.key_pem().expose()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer
        .distinguished_name
        .push(rcgen::DnType::CommonName, fixture::cluster().to_string());
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 11, 20);
    params.not_after = rcgen::date_time_ymd(2026, 11, 22);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![name(&spiffe_id(
        fixture::cluster(),
        Role::Node,
        fixture::node(),
    ))];
    shape(&mut params);
    let leaf = KeyPair::generate().unwrap();
    let issued = params.signed_by(&leaf, &Issuer::new(issuer, &key)).unwrap();
    (roots(&authority), issued.der().clone())
}

fn name(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

#[test]
fn a_certificate_needs_exactly_one_name_spelled_as_we_print_it() {
    let good = spiffe_id(fixture::cluster(), Role::Node, fixture::node());
    let (roots, der) = odd_certificate(|_| {});
    assert!(
        roots
            .verify(&der, Claim::NodeClient, fixture::now())
            .is_ok(),
        "the control"
    );
    let elsewhere = spiffe_id(ClusterId::from_bytes([9; 16]), Role::Node, fixture::node());
    let wrong = [
        vec![],
        vec![name(&good), name(&good)],
        vec![
            name(&good),
            SanType::DnsName("a.example".try_into().unwrap()),
        ],
        vec![SanType::DnsName("a.example".try_into().unwrap())],
        vec![name(&good.to_uppercase())],
        vec![name(&good.replace("spiffe://c-0", "spiffe://c-o"))],
        vec![name(&format!("{good}/"))],
        vec![name(&format!("{good}/more"))],
        vec![name(&good.replace("/node/", "/admin/"))],
        vec![name(&elsewhere)],
    ];
    for names in wrong {
        let shown = format!("{names:?}");
        let (roots, der) = odd_certificate(|params| params.subject_alt_names = names);
        let verdict = roots.verify(&der, Claim::NodeClient, fixture::now());
        assert!(verdict.is_err(), "{shown} must be refused");
    }
}

#[test]
fn a_certificate_without_the_right_usage_is_refused() {
    for usages in [vec![], vec![ExtendedKeyUsagePurpose::ServerAuth]] {
        let (roots, der) = odd_certificate(|params| params.extended_key_usages = usages);
        assert!(
            roots
                .verify(&der, Claim::NodeClient, fixture::now())
                .is_err()
        );
    }
}

#[test]
fn an_authority_is_not_a_peer() {
    let (roots, der) = odd_certificate(|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    assert!(
        roots
            .verify(&der, Claim::NodeClient, fixture::now())
            .is_err()
    );
    let authority = fixture::authority();
    let own = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    assert!(
        roots
            .verify(&own, Claim::NodeClient, fixture::now())
            .is_err()
    );
}

#[test]
fn a_nodes_certificate_is_no_authority() {
    let issued = fixture::node_certificate(&fixture::authority());
    assert!(matches!(
        Roots::from_pem(&issued.pem),
        Err(RootsError::NotAuthority)
    ));
}

#[test]
fn only_the_pinned_authority_is_taken_from_what_a_server_shows() {
    let (ours, foreign) = (fixture::authority(), other_cluster());
    let der = |authority: &Authority| {
        CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap()
    };
    let junk = CertificateDer::from(vec![1, 2, 3]);
    let shown = [junk, der(&foreign), der(&ours)];
    let roots = Roots::pinned(&shown, ours.pin()).unwrap();
    assert_eq!(roots.cluster(), fixture::cluster());
    assert!(roots.has_pin(ours.pin()) && !roots.has_pin(foreign.pin()));
    assert!(matches!(
        Roots::pinned(&shown[..2], ours.pin()),
        Err(RootsError::Pin)
    ));
    assert!(matches!(
        Roots::pinned(&[], ours.pin()),
        Err(RootsError::Pin)
    ));
}

#[test]
fn a_leaf_that_carries_the_pinned_key_is_still_no_authority() {
    let authority = fixture::authority();
    let key = KeyPair::from_pem(authority.key_pem().expose()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name(&format!("spiffe://{}", fixture::cluster()))];
    let fake = params.self_signed(&key).unwrap();
    let shown = [fake.der().clone()];
    assert!(matches!(
        Roots::pinned(&shown, authority.pin()),
        Err(RootsError::NotAuthority)
    ));
}

#[test]
fn two_authorities_are_trusted_while_one_replaces_the_other() {
    let (old, new) = (fixture::authority(), fixture::authority());
    let both = format!("{}{}", old.certificate_pem(), new.certificate_pem());
    let roots = Roots::from_pem(&both).unwrap();
    for authority in [&old, &new] {
        let issued = fixture::node_certificate(authority);
        assert!(
            roots
                .verify(&issued.der, Claim::NodeClient, fixture::now())
                .is_ok()
        );
    }
    let mixed = format!(
        "{}{}",
        old.certificate_pem(),
        other_cluster().certificate_pem()
    );
    assert!(matches!(Roots::from_pem(&mixed), Err(RootsError::Clusters)));
    assert!(matches!(
        Roots::from_pem(&both.repeat(3)),
        Err(RootsError::Pem)
    ));
}

#[test]
fn an_authority_past_its_end_vouches_for_nobody() {
    let authority = fixture::authority();
    let issued = fixture::node_certificate(&authority);
    let late = fixture::now().plus(Duration::from_secs(11 * 365 * 86_400));
    assert!(
        roots(&authority)
            .verify(&issued.der, Claim::NodeClient, late)
            .is_err()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let der = CertificateDer::from(bytes);
        let pin = CaPin([0; 32]);
        prop_assert!(Roots::pinned(std::slice::from_ref(&der), pin).is_err());
        let verdict = roots(&fixture::authority()).verify(&der, Claim::NodeClient, fixture::now());
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn a_certificate_with_any_byte_changed_is_refused(at in any::<usize>(), by in 1_u8..=255) {
        static MADE: std::sync::OnceLock<(Roots, Vec<u8>)> = std::sync::OnceLock::new();
        let (roots, der) = MADE.get_or_init(|| {
            let authority = fixture::authority();
            (roots(&authority), fixture::node_certificate(&authority).der.to_vec())
        });
        let mut changed = der.clone();
        let at = at % changed.len();
        changed[at] ^= by;
        let verdict = roots.verify(&changed.into(), Claim::NodeClient, fixture::now());
        prop_assert!(verdict.is_err(), "byte {at} changed and still believed");
    }
}
