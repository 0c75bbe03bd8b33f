use serde_json::{Map, Value};

use super::*;
use crate::core::request::Operation::{List, Read, Update};
use crate::core::trial::{As, Trial, text};

const SECRET: &str = "correct horse battery staple";

/// A control plane with a secret in it, and a token of the policies `default` and `reader`.
fn trial() -> (Trial, String) {
    let mut trial = Trial::new();
    trial.write("sys/mounts/kv", json!({ "type": "kv" }));
    trial.write("kv/a", json!({ "word": SECRET }));
    let policy = "path \"kv/*\" { capabilities = [\"read\", \"list\"] }";
    trial.write("sys/policies/acl/reader", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["reader"], "ttl": "1h" }));
    (trial, token)
}

fn asked(
    trial: &mut Trial,
    who: As<'_>,
    operation: Operation,
    path: &str,
    data: Value,
    secs: u64,
) -> Result<Envelope, Refusal> {
    let mut request = Trial::request(who, operation, path, data);
    request.wrap = Some(Duration::from_secs(secs));
    trial.send(&request)
}

fn info(envelope: &Envelope) -> Map<String, Value> {
    assert!(envelope.data.is_none() && envelope.auth.is_none() && envelope.lease_id.is_empty());
    match &envelope.wrap_info {
        Some(Value::Object(info)) => info.clone(),
        other => panic!("not wrapped: {other:?}"),
    }
}

/// Wraps the secret and returns the wrapping token.
fn wrapped(trial: &mut Trial, who: As<'_>, secs: u64) -> String {
    let envelope = asked(trial, who, Read, "kv/a", json!({}), secs).unwrap();
    info(&envelope)["token"].as_str().unwrap().to_owned()
}

fn opened(trial: &mut Trial, who: As<'_>, token: Option<&str>) -> Result<Envelope, Refusal> {
    let data = token.map_or(json!({}), |token| json!({ "token": token }));
    trial.ask(who, Update, "sys/wrapping/unwrap", data)
}

fn not_valid(found: Result<Envelope, Refusal>) {
    assert_eq!(text(found.unwrap_err()), NOT_VALID);
}

#[test]
fn a_wrapped_answer_is_fetched_once_by_whoever_holds_its_token() {
    let (mut trial, token) = trial();
    let envelope = asked(&mut trial, As::Token(&token), Read, "kv/a", json!({}), 120).unwrap();
    let info = info(&envelope);
    assert_eq!(info["ttl"], 120);
    assert_eq!(info["creation_path"], "kv/a");
    assert!(info.contains_key("creation_time") && !info.contains_key("wrapped_accessor"));
    assert!(!info["accessor"].as_str().unwrap().is_empty());
    let wrapping = info["token"].as_str().unwrap().to_owned();
    let found = opened(&mut trial, As::Token(&token), Some(&wrapping)).unwrap();
    assert_eq!(found.data.unwrap()["word"], SECRET);
    not_valid(opened(&mut trial, As::Token(&token), Some(&wrapping)));
    assert_eq!(trial.count(tables::WRAPPED), 0, "nothing is left of it");
}

#[test]
fn a_wrapping_token_fetches_its_own_answer_and_does_nothing_else() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    let found = opened(&mut trial, As::Token(&wrapping), None).unwrap();
    assert_eq!(found.data.unwrap()["word"], SECRET);
    not_valid(opened(&mut trial, As::Token(&wrapping), None));
    for (operation, path, data) in [
        (Read, "kv/a", json!({})),
        (Read, "auth/token/lookup-self", json!({})),
        (Update, "cubbyhole/response", json!({ "a": 1 })),
        (Read, "cubbyhole/response", json!({})),
        (Update, "auth/token/create", json!({})),
        (Update, "auth/token/renew-self", json!({})),
        (Read, "nowhere/at/all", json!({})),
    ] {
        let wrapping = wrapped(&mut trial, As::Token(&token), 60);
        let found = trial.ask(As::Token(&wrapping), operation, path, data);
        assert!(matches!(found, Err(Refusal::Denied)), "{path}: {found:?}");
        // That was its one use: it shows that somebody tried.
        not_valid(opened(&mut trial, As::Token(&wrapping), None));
    }
}

#[test]
fn the_same_token_in_header_and_body_is_spent_and_shows_nothing() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    not_valid(opened(&mut trial, As::Token(&wrapping), Some(&wrapping)));
    not_valid(opened(&mut trial, As::Token(&token), Some(&wrapping)));
}

#[test]
fn a_wrapped_answer_lies_in_the_store_so_that_the_store_alone_does_not_open_it() {
    let (mut trial, token) = trial();
    let _ = wrapped(&mut trial, As::Token(&token), 60);
    let rows = trial.values(tables::WRAPPED);
    assert_eq!(rows.len(), 1);
    let shown = String::from_utf8_lossy(&rows[0]).into_owned();
    assert!(
        shown.contains("kv/a") && !shown.contains("horse"),
        "{shown}"
    );
}

#[test]
fn of_a_hundred_that_open_at_the_same_time_one_is_let_through() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    let mut decisions = Vec::new();
    for racer in 0..100 {
        let request = if racer % 2 == 0 {
            let data = json!({ "token": wrapping });
            Trial::request(As::Token(&token), Update, "sys/wrapping/unwrap", data)
        } else {
            Trial::request(
                As::Token(&wrapping),
                Update,
                "sys/wrapping/unwrap",
                json!({}),
            )
        };
        decisions.push(trial.decide(&request));
    }
    let granted = decisions
        .iter()
        .filter(|it| it.response.outcome.is_ok())
        .count();
    assert_eq!(granted, 100, "all of them saw it there");
    let committed = decisions
        .into_iter()
        .map(|decision| trial.commit(decision))
        .filter(|committed| *committed)
        .count();
    assert_eq!(committed, 1);
    not_valid(opened(&mut trial, As::Token(&token), Some(&wrapping)));
}

#[test]
fn a_wrapped_login_names_the_accessor_of_what_is_inside() {
    let (mut trial, token) = trial();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    trial.write(
        "auth/userpass/users/ada",
        json!({ "password": "pw", "policies": "reader" }),
    );
    let path = "auth/userpass/login/ada";
    let made = asked(
        &mut trial,
        As::Nobody,
        Update,
        path,
        json!({ "password": "pw" }),
        60,
    );
    let info = info(&made.unwrap());
    let wrapping = info["token"].as_str().unwrap().to_owned();
    // Whoever handed it on can revoke what is inside without ever having seen it.
    let accessor = info["wrapped_accessor"].clone();
    let inside = opened(&mut trial, As::Token(&token), Some(&wrapping)).unwrap();
    let auth = inside.auth.unwrap();
    assert_eq!(auth["accessor"], accessor);
    let inner = auth["client_token"].as_str().unwrap().to_owned();
    assert!(trial.is_good(&inner));
    trial.write(
        "auth/token/revoke-accessor",
        json!({ "accessor": accessor }),
    );
    assert!(!trial.is_good(&inner));
}

#[test]
fn to_look_at_a_wrapping_token_needs_no_token_and_does_not_spend_it() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 90);
    for _ in 0..3 {
        let data = json!({ "token": wrapping });
        let shown = trial
            .ask(As::Nobody, Update, "sys/wrapping/lookup", data)
            .unwrap();
        let shown = shown.data.unwrap();
        assert_eq!(shown["creation_ttl"], 90);
        assert_eq!(shown["creation_path"], "kv/a");
        let own = trial.ask(As::Token(&wrapping), Read, "sys/wrapping/lookup", json!({}));
        assert_eq!(own.unwrap().data.unwrap()["creation_ttl"], 90);
    }
    let found = opened(&mut trial, As::Token(&token), Some(&wrapping)).unwrap();
    assert_eq!(found.data.unwrap()["word"], SECRET);
    let data = json!({ "token": wrapping });
    not_valid(trial.ask(As::Nobody, Update, "sys/wrapping/lookup", data));
    // In a URL it would stand in logs on the way.
    let data = json!({ "token": wrapping });
    assert!(
        trial
            .ask(As::Nobody, Read, "sys/wrapping/lookup", data)
            .is_err()
    );
}

#[test]
fn an_answer_that_is_wrapped_anew_keeps_its_length_of_life_and_its_path() {
    let (mut trial, token) = trial();
    let first = wrapped(&mut trial, As::Token(&token), 300);
    trial.pass(200);
    let again = trial
        .ask(
            As::Root,
            Update,
            "sys/wrapping/rewrap",
            json!({ "token": first }),
        )
        .unwrap();
    let info = info(&again);
    assert_eq!(
        (&info["ttl"], &info["creation_path"]),
        (&json!(300), &json!("kv/a"))
    );
    not_valid(opened(&mut trial, As::Token(&token), Some(&first)));
    trial.pass(200);
    let second = info["token"].as_str().unwrap();
    let found = opened(&mut trial, As::Token(&token), Some(second)).unwrap();
    assert_eq!(found.data.unwrap()["word"], SECRET);
}

#[test]
fn a_wrapped_answer_ends_with_its_time() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    trial.pass(60);
    not_valid(opened(&mut trial, As::Token(&token), Some(&wrapping)));
    trial.tend();
    assert_eq!(trial.count(tables::WRAPPED), 0);
}

#[test]
fn refusals_and_answers_with_nothing_in_them_are_not_wrapped() {
    let (mut trial, token) = trial();
    let found = asked(
        &mut trial,
        As::Token(&token),
        Read,
        "kv/none",
        json!({}),
        60,
    );
    assert!(matches!(found, Err(Refusal::Absent)));
    let found = asked(
        &mut trial,
        As::Token(&token),
        Update,
        "kv/a",
        json!({ "a": 1 }),
        60,
    );
    assert!(matches!(found, Err(Refusal::Denied)));
    let done = asked(&mut trial, As::Root, Update, "kv/b", json!({ "a": 1 }), 60).unwrap();
    assert!(done.is_empty());
    assert_eq!(trial.count(tables::WRAPPED), 0);
    // An empty list is something to see.
    let list = asked(
        &mut trial,
        As::Token(&token),
        List,
        "kv/none",
        json!({}),
        60,
    )
    .unwrap();
    let wrapping = info(&list)["token"].as_str().unwrap().to_owned();
    let found = opened(&mut trial, As::Token(&token), Some(&wrapping)).unwrap();
    assert_eq!(found.data, Some(Map::new()));
}

#[test]
fn no_other_token_is_taken_for_a_wrapping_token_and_none_is_spent_by_trying() {
    let (mut trial, token) = trial();
    not_valid(opened(&mut trial, As::Token(&token), Some(&token)));
    not_valid(opened(&mut trial, As::Token(&token), None));
    not_valid(opened(&mut trial, As::Token(&token), Some("hvs.unknown")));
    not_valid(opened(&mut trial, As::Nobody, None));
    not_valid(opened(&mut trial, As::Token("hvs.unknown"), None));
    assert!(trial.is_good(&token));
    // A good wrapping token does not let a stranger in.
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    let found = opened(&mut trial, As::Nobody, Some(&wrapping));
    assert!(matches!(found, Err(Refusal::Unauthenticated)));
    assert!(opened(&mut trial, As::Token(&token), Some(&wrapping)).is_ok());
}

#[test]
fn what_is_to_be_wrapped_is_wrapped_on_request_alone() {
    let (mut trial, token) = trial();
    let data = json!({ "a": { "b": [1, 2] } });
    let found = trial.ask(As::Token(&token), Update, "sys/wrapping/wrap", data.clone());
    assert_eq!(
        text(found.unwrap_err()),
        "endpoint requires response wrapping to be used"
    );
    let path = "sys/wrapping/wrap";
    let made = asked(
        &mut trial,
        As::Token(&token),
        Update,
        path,
        data.clone(),
        60,
    )
    .unwrap();
    let wrapping = info(&made)["token"].as_str().unwrap().to_owned();
    let found = opened(&mut trial, As::Token(&token), Some(&wrapping)).unwrap();
    assert_eq!(Value::Object(found.data.unwrap()), data);
}

#[test]
fn a_policy_says_for_how_long_an_answer_must_be_wrapped() {
    let (mut trial, _) = trial();
    let policy = "path \"kv/a\" { capabilities = [\"read\"] min_wrapping_ttl = \"1m\" \
                  max_wrapping_ttl = \"5m\" }";
    trial.write("sys/policies/acl/sealed", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["sealed"], "ttl": "1h" }));
    let bare = trial.ask(As::Token(&token), Read, "kv/a", json!({}));
    assert!(matches!(bare, Err(Refusal::Denied)));
    for (secs, good) in [(59, false), (60, true), (300, true), (301, false)] {
        let found = asked(&mut trial, As::Token(&token), Read, "kv/a", json!({}), secs);
        assert_eq!(found.is_ok(), good, "{secs} seconds");
    }
}

#[test]
fn a_wrapped_answer_outlives_whoever_had_it_wrapped() {
    let (mut trial, token) = trial();
    let wrapping = wrapped(&mut trial, As::Token(&token), 60);
    // The wrapping token is an orphan: it outlives whoever had it made.
    trial.write("auth/token/revoke", json!({ "token": token }));
    let found = opened(&mut trial, As::Root, Some(&wrapping)).unwrap();
    assert_eq!(found.data.unwrap()["word"], SECRET);
}
