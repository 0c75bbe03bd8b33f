use serde_json::json;

use crate::core::request::Operation::{List, Update};
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

fn login(trial: &mut Trial) -> String {
    let path = "auth/userpass/login/ada";
    let made = trial
        .ask(As::Nobody, Update, path, json!({ "password": "p" }))
        .unwrap();
    made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn with_user() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let user = json!({ "password": "p", "token_ttl": "100s", "token_max_ttl": "150s" });
    trial.write("auth/userpass/users/ada", user);
    trial
}

#[test]
fn a_lease_can_be_found_listed_renewed_and_revoked() {
    let mut trial = with_user();
    let token = login(&mut trial);
    let below = "sys/leases/lookup/auth/userpass/login/ada";
    let keys = trial.root(List, below, json!({})).unwrap();
    let id = format!(
        "auth/userpass/login/ada/{}",
        keys["keys"][0].as_str().unwrap()
    );
    let top = trial
        .root(List, "sys/leases/lookup/auth/userpass", json!({}))
        .unwrap();
    assert_eq!(top["keys"], json!(["login/"]));
    let shown = trial.write("sys/leases/lookup", json!({ "lease_id": id }));
    assert_eq!(
        (&shown["ttl"], &shown["last_renewal"]),
        (&json!(100), &json!(null))
    );
    trial.pass(50);
    let renew = json!({ "lease_id": id, "increment": 500 });
    let renewed = trial
        .ask(As::Root, Update, "sys/leases/renew", renew)
        .unwrap();
    assert_eq!(
        renewed.auth.unwrap()["lease_duration"],
        json!(100),
        "cut to the longest life"
    );
    trial.write("sys/leases/revoke", json!({ "lease_id": id }));
    assert!(!trial.is_good(&token));
    trial.write("sys/leases/revoke", json!({ "lease_id": id }));
    let gone = trial
        .root(Update, "sys/leases/lookup", json!({ "lease_id": id }))
        .unwrap_err();
    assert_eq!(text(gone), "invalid lease");
}

#[test]
fn leases_end_in_the_order_of_their_time() {
    let mut trial = with_user();
    let first = login(&mut trial);
    trial.pass(30);
    let second = login(&mut trial);
    trial.pass(71);
    trial.tend();
    assert!(!trial.is_good(&first) && trial.is_good(&second));
    assert_eq!(trial.count(tables::LEASES), 1);
    trial.pass(30);
    trial.tend();
    assert_eq!(trial.count(tables::LEASES), 0);
    assert_eq!(trial.count(tables::LEASE_EXPIRY), 0);
    assert_eq!(trial.count(tables::TOKENS), 1);
}

#[test]
fn a_prefix_of_leases_is_revoked_without_its_neighbours() {
    let mut trial = with_user();
    trial.write("sys/auth/userpass2", json!({ "type": "userpass" }));
    trial.write("auth/userpass2/users/ada", json!({ "password": "p" }));
    let one = login(&mut trial);
    let path = "auth/userpass2/login/ada";
    let made = trial
        .ask(As::Nobody, Update, path, json!({ "password": "p" }))
        .unwrap();
    let other = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    trial.write("sys/leases/revoke-prefix/auth/userpass", json!({}));
    assert!(!trial.is_good(&one));
    assert!(trial.is_good(&other), "`userpass2` is not below `userpass`");
    assert!(
        trial
            .root(List, "sys/leases/lookup/auth/userpass", json!({}))
            .is_err()
    );
}

#[test]
fn removing_an_auth_method_ends_its_tokens() {
    let mut trial = with_user();
    let token = login(&mut trial);
    trial
        .root(
            crate::core::request::Operation::Delete,
            "sys/auth/userpass",
            json!({}),
        )
        .unwrap();
    assert!(!trial.is_good(&token));
}

#[test]
fn a_prefix_larger_than_one_batch_is_swept_and_later_leases_live() {
    let mut trial = with_user();
    let old: Vec<String> = (0..520).map(|_| login(&mut trial)).collect();
    trial.write("sys/leases/revoke-prefix/auth/userpass", json!({}));
    assert_eq!(
        trial.count(tables::LEASE_GRAVES),
        1,
        "the test must leave something to sweep"
    );
    trial.pass(1);
    let new = login(&mut trial);
    trial.tend();
    assert!(old.iter().all(|token| !trial.is_good(token)));
    assert!(trial.is_good(&new));
    assert_eq!(trial.count(tables::LEASE_GRAVES), 0);
    assert_eq!(trial.count(tables::LEASES), 1);
}
