//! Revoking, lists, cleaning.

use bastide_pki::x509::der::{self, Reader};

use super::*;
use crate::core::pipeline::Shape;

fn fetch(trial: &mut Trial, path: &str) -> Vec<u8> {
    match trial.ask(As::Nobody, Read, path, json!({})).unwrap().shape {
        Shape::Raw(raw) => raw.body,
        other => panic!("{path} is not raw: {other:?}"),
    }
}

/// The serial numbers that a list names.
fn listed(crl: &[u8]) -> Vec<String> {
    let mut outer = Reader::new(crl);
    let mut parts = outer.nested(der::SEQUENCE).unwrap();
    let mut tbs = parts.nested(der::SEQUENCE).unwrap();
    // Version, algorithm, issuer, this update, next update.
    for _ in 0..5 {
        tbs.any().unwrap();
    }
    let mut serials = Vec::new();
    if let Some(entries) = tbs.optional(der::SEQUENCE).unwrap() {
        let mut entries = Reader::new(entries);
        while !entries.is_empty() {
            let mut entry = entries.nested(der::SEQUENCE).unwrap();
            let serial = entry.value(der::INTEGER).unwrap();
            serials.push(super::super::shown::serial(serial));
        }
    }
    serials
}

fn issue(trial: &mut Trial) -> String {
    trial.write("pki/roles/web", role());
    let made = trial.write("pki/issue/web", json!({ "common_name": "a.example.com" }));
    made["serial_number"].as_str().unwrap().to_owned()
}

fn revoke(trial: &mut Trial, serial: &str) -> Value {
    trial.write("pki/revoke", json!({ "serial_number": serial }))
}

#[test]
fn what_is_revoked_is_listed_once_time_has_passed_and_not_by_the_request() {
    let mut trial = trial();
    let serial = issue(&mut trial);
    let before = fetch(&mut trial, "pki/crl");
    assert_eq!(listed(&before), Vec::<String>::new());
    let first = revoke(&mut trial, &serial);
    assert_eq!(first["state"], "revoked");
    assert_eq!(
        fetch(&mut trial, "pki/crl"),
        before,
        "the request made no list"
    );
    trial.pass(1);
    trial.tend();
    let after = fetch(&mut trial, "pki/crl");
    assert_eq!(listed(&after), [serial.as_str()]);
    // Nothing is new: nothing is made.
    trial.pass(1);
    trial.tend();
    assert_eq!(fetch(&mut trial, "pki/crl"), after);
    // Once more, with dashes: the same answer.
    assert_eq!(revoke(&mut trial, &serial.replace(':', "-")), first);
    let revoked = trial.root(List, "pki/certs/revoked", json!({})).unwrap();
    assert_eq!(revoked["keys"], json!([serial]));
    let told = refused(
        &mut trial,
        "pki/revoke",
        json!({ "serial_number": "01:02" }),
    );
    assert_eq!(told, "certificate with serial 01:02 not found.");
}

#[test]
fn rotating_makes_a_list_at_once() {
    let mut trial = trial();
    let serial = issue(&mut trial);
    revoke(&mut trial, &serial);
    assert_eq!(
        trial.root(Read, "pki/crl/rotate", json!({})).unwrap()["success"],
        true
    );
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")), [serial]);
}

#[test]
fn a_list_is_made_anew_before_it_ends_though_nobody_is_revoked() {
    let mut trial = trial();
    let first = fetch(&mut trial, "pki/crl");
    trial.pass(35 * 3600);
    trial.tend();
    assert_eq!(fetch(&mut trial, "pki/crl"), first);
    trial.pass(2 * 3600);
    trial.tend();
    assert_ne!(fetch(&mut trial, "pki/crl"), first);
}

#[test]
fn deltas_name_what_is_new_and_refer_to_the_whole_list() {
    let mut trial = trial();
    let told = refused(
        &mut trial,
        "pki/config/crl",
        json!({ "enable_delta": true }),
    );
    assert!(
        told.contains("Delta CRLs cannot be enabled when auto rebuilding"),
        "{told}"
    );
    trial.write(
        "pki/config/crl",
        json!({
            "auto_rebuild": true, "enable_delta": true, "delta_rebuild_interval": "1m",
        }),
    );
    trial.root(Read, "pki/crl/rotate", json!({})).unwrap();
    let whole = fetch(&mut trial, "pki/crl");
    assert!(fetch(&mut trial, "pki/crl/delta").is_empty());
    let serial = issue(&mut trial);
    revoke(&mut trial, &serial);
    trial.pass(30);
    trial.tend();
    assert!(
        fetch(&mut trial, "pki/crl/delta").is_empty(),
        "it is not time yet"
    );
    trial.pass(31);
    trial.tend();
    assert_eq!(fetch(&mut trial, "pki/crl"), whole, "the whole list stays");
    let delta = fetch(&mut trial, "pki/crl/delta");
    assert_eq!(listed(&delta), [serial.as_str()]);
    // deltaCRLIndicator, critical.
    let indicator = [0x06, 3, 0x55, 0x1d, 27, 1, 1, 0xff];
    assert!(delta.windows(indicator.len()).any(|it| it == indicator));
    trial.pass(61 * 3600);
    trial.tend();
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")), [serial]);
}

#[test]
fn lists_can_be_switched_off_and_are_empty_then() {
    let mut trial = trial();
    let serial = issue(&mut trial);
    revoke(&mut trial, &serial);
    trial.tend();
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")).len(), 1);
    trial.write("pki/config/crl", json!({ "disable": true }));
    trial.pass(1);
    trial.tend();
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")).len(), 0);
}

#[test]
fn issuers_of_one_key_and_name_share_what_they_revoked() {
    let mut trial = trial();
    let serial = issue(&mut trial);
    revoke(&mut trial, &serial);
    let again = json!({ "common_name": "trial root", "key_ref": "default", "issuer_name": "twin" });
    trial.write("pki/root/generate/existing", again);
    trial.tend();
    assert_eq!(
        listed(&fetch(&mut trial, "pki/issuer/twin/crl/der")),
        [serial.as_str()]
    );
    // An issuer that goes and comes again has forgotten nothing.
    trial.root(Delete, "pki/issuer/root", json!({})).unwrap();
    trial.pass(1);
    trial.tend();
    assert_eq!(
        listed(&fetch(&mut trial, "pki/issuer/twin/crl/der")),
        [serial]
    );
}

#[test]
fn a_certificate_that_was_not_stored_is_revoked_by_whoever_brings_it() {
    let mut trial = trial();
    let mut role = role();
    role["no_store"] = json!(true);
    trial.write("pki/roles/web", role);
    let made = trial.write("pki/issue/web", json!({ "common_name": "a.example.com" }));
    let serial = made["serial_number"].as_str().unwrap();
    assert!(
        refused(&mut trial, "pki/revoke", json!({ "serial_number": serial })).contains("not found")
    );
    trial.write("pki/revoke", json!({ "certificate": made["certificate"] }));
    trial.tend();
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")), [serial]);
    // One of another authority is not.
    trial.write("sys/mounts/other", json!({ "type": "pki" }));
    let theirs = trial.write("other/root/generate/internal", root());
    let told = refused(
        &mut trial,
        "pki/revoke",
        json!({ "certificate": theirs["certificate"] }),
    );
    assert!(
        told.contains("not issued by an issuer of this mount"),
        "{told}"
    );
}

// CVE-2026-39388 and its like: what is compared is the key, not a name.
#[test]
fn whoever_holds_the_key_can_revoke_and_nobody_else() {
    let mut trial = trial();
    trial.write("pki/roles/web", role());
    let asked = json!({ "common_name": "a.example.com" });
    let mine = trial.write("pki/issue/web", asked.clone());
    let other = trial.write("pki/issue/web", asked);
    let wrong = json!({
        "serial_number": mine["serial_number"], "private_key": other["private_key"],
    });
    let told = refused(&mut trial, "pki/revoke-with-key", wrong);
    assert!(told.contains("does not match"), "{told}");
    let right = json!({
        "serial_number": mine["serial_number"], "private_key": mine["private_key"],
    });
    assert_eq!(
        trial.write("pki/revoke-with-key", right)["state"],
        "revoked"
    );
}

#[test]
fn an_issuer_is_not_put_on_its_own_list() {
    let mut trial = trial();
    let ca = trial.root(Read, "pki/issuer/root", json!({})).unwrap();
    let told = refused(
        &mut trial,
        "pki/revoke",
        json!({ "serial_number": ca["serial_number"] }),
    );
    assert!(told.contains("to its own CRL is not allowed"), "{told}");
}

#[test]
fn what_has_ended_is_not_revoked_and_this_is_told() {
    let mut trial = trial();
    let serial = issue(&mut trial);
    trial.pass(73 * 3600);
    let asked = json!({ "serial_number": serial });
    let answer = trial.ask(As::Root, Update, "pki/revoke", asked).unwrap();
    assert!(
        answer.warnings[0].contains("already expired"),
        "{:?}",
        answer.warnings
    );
}

// CVE-2021-27668: cleaning dropped what was revoked and had not ended.
#[test]
fn cleaning_leaves_what_is_revoked_and_still_good() {
    let mut trial = trial();
    let old = issue(&mut trial);
    revoke(&mut trial, &old);
    trial.pass(80 * 3600);
    let young = issue(&mut trial);
    revoke(&mut trial, &young);
    let what = json!({
        "tidy_cert_store": true, "tidy_revoked_certs": true, "safety_buffer": "1h",
    });
    let answer = trial
        .ask(As::Root, Update, "pki/tidy", what.clone())
        .unwrap();
    assert_eq!(answer.shape, Shape::Accepted);
    let again = trial.ask(As::Root, Update, "pki/tidy", what).unwrap();
    assert!(again.warnings[0].contains("already in progress"));
    trial.tend();
    let status = trial.root(Read, "pki/tidy-status", json!({})).unwrap();
    assert_eq!(status["state"], "Finished");
    assert_eq!(status["cert_store_deleted_count"], 1);
    assert_eq!(status["revoked_cert_deleted_count"], 1);
    trial.tend();
    assert_eq!(listed(&fetch(&mut trial, "pki/crl")), [young.as_str()]);
    let path = format!("pki/cert/{old}");
    assert!(trial.root(Read, &path, json!({})).is_err());
    let path = format!("pki/cert/{young}");
    assert!(trial.root(Read, &path, json!({})).is_ok());
}

#[test]
fn cleaning_goes_on_by_itself_and_can_be_cancelled() {
    let mut trial = trial();
    let told = refused(
        &mut trial,
        "pki/config/auto-tidy",
        json!({ "enabled": true }),
    );
    assert!(told.contains("no tidy operations were requested"), "{told}");
    let old = issue(&mut trial);
    trial.write(
        "pki/config/auto-tidy",
        json!({
            "enabled": true, "tidy_cert_store": true, "interval_duration": "1h",
            "safety_buffer": "1h",
        }),
    );
    trial.pass(100 * 3600);
    trial.tend();
    let path = format!("pki/cert/{old}");
    assert!(trial.root(Read, &path, json!({})).is_err());
    trial.write("pki/tidy", json!({ "tidy_cert_store": true }));
    let status = trial.write("pki/tidy-cancel", json!({}));
    assert_eq!(status["state"], "Cancelled");
}

#[test]
fn an_intermediate_that_is_revoked_stands_on_its_roots_list() {
    let mut trial = trial();
    trial.write("sys/mounts/below", json!({ "type": "pki" }));
    let asked = json!({ "common_name": "below", "key_type": "ec" });
    let csr = trial.write("below/intermediate/generate/exported", asked);
    let asked = json!({ "csr": csr["csr"], "common_name": "below" });
    let signed = trial.write("pki/root/sign-intermediate", asked);
    let both = format!(
        "{}\n{}",
        csr["private_key"].as_str().unwrap(),
        signed["certificate"].as_str().unwrap()
    );
    let set = trial.write("pki/issuers/import/bundle", json!({ "pem_bundle": both }));
    let id = set["imported_issuers"][0].as_str().unwrap();
    trial.write(&format!("pki/issuer/{id}/revoke"), json!({}));
    trial.tend();
    let serial = signed["serial_number"].as_str().unwrap();
    assert_eq!(
        listed(&fetch(&mut trial, "pki/issuer/root/crl/der")),
        [serial]
    );
}

#[test]
fn a_list_that_cannot_be_made_does_not_keep_cleaning_from_what_is_in_its_way() {
    use crate::core::engine::Engine;
    let mut trial = trial();
    let tend =
        |trial: &mut Trial| trial.within("pki/", |ctx| super::super::Pki::default().tend(ctx));
    while tend(&mut trial).unwrap() {}
    // What no list can name, as more than a list can hold would be; it ended long ago.
    trial
        .within("pki/", |ctx| {
            let group = ctx.keys("crl/")?.remove(0);
            let ended = json!({ "at": 0, "expires": 0 });
            ctx.save(&format!("rev/{group}/odd"), &ended)?;
            ctx.put(&format!("dirty/{group}"), vec![1; 16])
        })
        .unwrap();
    assert!(tend(&mut trial).is_err(), "the control");
    let tidy = json!({ "tidy_revoked_certs": true, "safety_buffer": "1s" });
    trial.write("pki/tidy", tidy);
    for _ in 0..8 {
        if !tend(&mut trial).unwrap() {
            break;
        }
    }
    let status = trial.root(Read, "pki/tidy-status", json!({})).unwrap();
    assert_eq!(status["state"], "Finished");
    assert_eq!(status["revoked_cert_deleted_count"], 1);
    tend(&mut trial).unwrap();
}
