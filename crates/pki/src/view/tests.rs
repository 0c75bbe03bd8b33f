use bastide_api::Revision;

use super::*;
use crate::fixture;

fn signer() -> ViewSigner {
    ViewSigner::from_seed(&Secret::new([5; 32]))
}

fn entries() -> ViewEntries {
    ViewEntries {
        revision: Revision(7),
        entries: [("cluster", "{}"), ("nodes/x", "{\"a\":1}")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

#[test]
fn a_signed_view_is_verified() {
    let signature = signer().sign(&entries(), fixture::cluster());
    let key = signer().public_key();
    let verified = verify_view(entries(), fixture::cluster(), &key, &signature).unwrap();
    assert_eq!(verified.into_inner(), entries());
}

#[test]
fn a_view_is_refused_if_anything_about_it_changed() {
    let signature = signer().sign(&entries(), fixture::cluster());
    let key = signer().public_key();
    let check = |entries: ViewEntries, cluster, key: &SigningKey, signature: &str| {
        verify_view(entries, cluster, key, signature).map(Verified::into_inner)
    };
    let mut later = entries();
    later.revision = Revision(8);
    let mut dropped = entries();
    dropped.entries.remove("cluster");
    let mut changed = entries();
    changed.entries.insert("nodes/x".into(), "{\"a\":2}".into());
    let mut moved = entries();
    moved.entries.clear();
    moved
        .entries
        .insert("cluster{}nodes/x".into(), "{\"a\":1}".into());
    for wrong in [later, dropped, changed, moved] {
        let verdict = check(wrong, fixture::cluster(), &key, &signature);
        assert_eq!(verdict, Err(ViewSignatureError::Mismatch));
    }
    let other = ClusterId::from_bytes([8; 16]);
    let verdict = check(entries(), other, &key, &signature);
    assert_eq!(verdict, Err(ViewSignatureError::Mismatch));
    let other = ViewSigner::from_seed(&Secret::new([6; 32])).public_key();
    let verdict = check(entries(), fixture::cluster(), &other, &signature);
    assert_eq!(verdict, Err(ViewSignatureError::Mismatch));
    for text in ["", "AAAA", "not base64"] {
        let verdict = check(entries(), fixture::cluster(), &key, text);
        assert_eq!(verdict, Err(ViewSignatureError::Format));
    }
}

fn grant() -> Grant {
    Grant {
        id: "00".repeat(16),
        node: bastide_api::NodeId::from_bytes([3; 16]),
        stack: "shop".parse().unwrap(),
        service: "web".parse().unwrap(),
        action: session::Action::Logs {
            follow: false,
            tail: Some(10),
        },
        until: bastide_api::UnixTime::from_millis(1),
    }
}

#[test]
fn a_signed_grant_is_verified_and_read() {
    let signed = signer().sign_grant(&grant(), fixture::cluster());
    let key = signer().public_key();
    let verified = verify_grant(&signed, fixture::cluster(), &key).unwrap();
    assert_eq!(verified.into_inner(), grant());
}

#[test]
fn a_grant_is_refused_if_anything_about_it_changed() {
    let signed = signer().sign_grant(&grant(), fixture::cluster());
    let key = signer().public_key();
    let refused = |signed: &SignedGrant, cluster, key: &SigningKey| {
        assert_eq!(
            verify_grant(signed, cluster, key),
            Err(GrantError::Signature)
        );
    };
    let mut longer = signed.clone();
    longer.grant = longer.grant.replace("\"tail\":10", "\"tail\":11");
    refused(&longer, fixture::cluster(), &key);
    refused(&signed, ClusterId::from_bytes([9; 16]), &key);
    let other = ViewSigner::from_seed(&Secret::new([6; 32])).public_key();
    refused(&signed, fixture::cluster(), &other);
    let mut short = signed.clone();
    short.signature.truncate(20);
    refused(&short, fixture::cluster(), &key);
}

#[test]
fn the_signature_of_a_view_signs_no_grant() {
    let view = entries();
    let text = String::from_utf8_lossy(&view.signed_bytes(fixture::cluster())).into_owned();
    let signed = SignedGrant {
        signature: signer().sign(&view, fixture::cluster()),
        grant: text,
    };
    let key = signer().public_key();
    let refused = verify_grant(&signed, fixture::cluster(), &key);
    assert_eq!(refused, Err(GrantError::Signature));
}
