use serde_json::{Value, json};

use super::*;
use crate::core::refusal::Refusal;
use crate::core::request::Operation::{Read, Update};
use crate::core::trial::{As, Trial};

fn with_key(
    trial: &mut Trial,
    who: As<'_>,
    path: &str,
    data: Value,
    drawn: &str,
) -> Result<Envelope, Refusal> {
    let mut request = Trial::request(who, Update, path, data);
    request.idempotency = Some(IdempotencyKey::parse(drawn).unwrap());
    trial.send(&request)
}

#[test]
fn the_same_key_gets_the_same_answer_and_nothing_is_done_twice() {
    let mut trial = Trial::new();
    let data = json!({ "data": { "a": 1 } });
    let write = |trial: &mut Trial, drawn: &str| {
        let answer = with_key(trial, As::Root, "secret/data/x", data.clone(), drawn).unwrap();
        answer.data.unwrap()["version"].as_u64().unwrap()
    };
    assert_eq!(write(&mut trial, "one"), 1);
    assert_eq!(write(&mut trial, "one"), 1);
    assert_eq!(
        write(&mut trial, "\"one\""),
        1,
        "the draft's quotes are none of it"
    );
    assert_eq!(
        write(&mut trial, "two"),
        2,
        "another key is another request"
    );
    let found = trial.root(Read, "secret/metadata/x", json!({})).unwrap();
    assert_eq!(found["current_version"], 2);
}

#[test]
fn a_token_made_is_made_once_and_its_text_is_not_in_the_store() {
    let mut trial = Trial::new();
    let make = |trial: &mut Trial| {
        let made = with_key(trial, As::Root, "auth/token/create", json!({}), "make");
        made.unwrap().auth.unwrap()["client_token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let before = trial.count(tables::TOKENS);
    let first = make(&mut trial);
    assert_eq!(make(&mut trial), first);
    assert_eq!(trial.count(tables::TOKENS), before + 1);
    let stored = trial.values(tables::IDEMPOTENCY);
    assert_eq!(stored.len(), 1);
    let text = String::from_utf8(stored[0].clone()).unwrap();
    assert!(!text.contains(&first), "{text}");
    assert!(
        text.contains("fingerprint"),
        "the search finds what is there"
    );
}

#[test]
fn a_key_with_another_request_is_refused() {
    let mut trial = Trial::new();
    let one = json!({ "data": { "a": 1 } });
    with_key(&mut trial, As::Root, "secret/data/x", one.clone(), "k").unwrap();
    for (path, data) in [
        ("secret/data/x", json!({ "data": { "a": 2 } })),
        ("secret/data/y", one),
    ] {
        let refused = with_key(&mut trial, As::Root, path, data, "k").unwrap_err();
        assert!(matches!(refused, Refusal::KeyReused), "{refused:?}");
    }
    assert!(trial.root(Read, "secret/data/y", json!({})).is_err());
}

#[test]
fn keys_of_two_tokens_are_two_keys() {
    let mut trial = Trial::new();
    let (token, _) = trial.token(As::Root, json!({ "policies": ["root"] }));
    let data = json!({ "data": { "a": 1 } });
    for (who, version) in [(As::Root, 1), (As::Token(&token), 2), (As::Root, 1)] {
        let done = with_key(&mut trial, who, "secret/data/x", data.clone(), "k").unwrap();
        assert_eq!(done.data.unwrap()["version"], version);
    }
}

#[test]
fn a_repetition_is_allowed_what_the_first_was_and_no_more() {
    let mut trial = Trial::new();
    let policy = "path \"secret/data/*\" { capabilities = [\"create\"] }";
    trial.write("sys/policies/acl/maker", json!({ "policy": policy }));
    let (token, _) = trial.token(As::Root, json!({ "policies": ["maker"] }));
    let data = json!({ "data": { "a": 1 } });
    for _ in 0..2 {
        // It exists by now; but what is repeated is its creation.
        let done = with_key(
            &mut trial,
            As::Token(&token),
            "secret/data/x",
            data.clone(),
            "k",
        );
        assert_eq!(done.unwrap().data.unwrap()["version"], 1);
    }
    let policy = "path \"secret/data/*\" { capabilities = [\"read\"] }";
    trial.write("sys/policies/acl/maker", json!({ "policy": policy }));
    let refused = with_key(&mut trial, As::Token(&token), "secret/data/x", data, "k");
    assert!(matches!(refused, Err(Refusal::Denied)), "{refused:?}");
}

#[test]
fn what_was_refused_is_not_remembered() {
    let mut trial = Trial::new();
    let data = json!({ "options": { "cas": 7 }, "data": { "a": 1 } });
    for _ in 0..2 {
        assert!(with_key(&mut trial, As::Root, "secret/data/x", data.clone(), "k").is_err());
    }
    assert_eq!(trial.count(tables::IDEMPOTENCY), 0);
}

#[test]
fn answers_are_forgotten_after_a_day_and_beyond_a_number() {
    let mut trial = Trial::new();
    let data = json!({ "data": { "a": 1 } });
    with_key(&mut trial, As::Root, "secret/data/x", data.clone(), "k").unwrap();
    trial.pass(24 * 3600 - 1);
    trial.tend();
    assert_eq!(trial.count(tables::IDEMPOTENCY), 1);
    trial.pass(2);
    let again = with_key(&mut trial, As::Root, "secret/data/x", data, "k").unwrap();
    assert_eq!(
        again.data.unwrap()["version"],
        2,
        "too late is a new request"
    );
    assert_eq!(trial.count(tables::IDEMPOTENCY_EXPIRY), 1);
    trial.pass(24 * 3600 + 1);
    trial.tend();
    assert_eq!(trial.count(tables::IDEMPOTENCY), 0);
    assert_eq!(trial.count(tables::IDEMPOTENCY_EXPIRY), 0);
}

#[test]
fn a_key_is_short_and_visible() {
    for bad in [
        "",
        "\"\"",
        "a b",
        "a\"b",
        "a\\b",
        "\u{e4}",
        &"x".repeat(256),
    ] {
        assert_eq!(IdempotencyKey::parse(bad), Err(KeyError), "{bad}");
    }
    assert!(IdempotencyKey::parse(&"x".repeat(255)).is_ok());
}

#[test]
fn what_was_answered_in_clear_is_not_given_to_who_asks_for_it_wrapped() {
    let mut trial = Trial::new();
    let mut ask = |wrap: Option<u64>| {
        let mut request = Trial::request(As::Root, Update, "auth/token/create", json!({}));
        request.idempotency = Some(IdempotencyKey::parse("make").unwrap());
        request.wrap = wrap.map(Duration::from_secs);
        trial.send(&request)
    };
    assert!(ask(None).unwrap().auth.is_some());
    assert!(ask(None).unwrap().auth.is_some(), "the control");
    let refused = ask(Some(60));
    assert!(matches!(refused, Err(Refusal::KeyReused)), "{refused:?}");
}
