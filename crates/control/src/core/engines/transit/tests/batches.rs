//! Many items in one request.

use super::*;
use crate::core::pipeline::Shape;

fn ask(trial: &mut Trial, path: &str, data: Value) -> (Shape, Value) {
    let envelope = trial.ask(As::Root, Update, path, data).unwrap();
    let data = envelope.data.unwrap();
    (envelope.shape, data["batch_results"].clone())
}

#[test]
fn each_item_has_its_result_and_its_reference_in_order() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let items = json!([
        { "plaintext": b64(b"one"), "reference": "first" },
        { "plaintext": b64(b"two") },
    ]);
    let (shape, sealed) = ask(
        &mut trial,
        "transit/encrypt/k",
        json!({ "batch_input": items }),
    );
    assert_eq!(shape, Shape::Plain);
    assert_eq!(sealed[0]["reference"], json!("first"));
    assert_eq!(sealed[1]["reference"], json!(""));
    assert_eq!(sealed[1]["key_version"], json!(1));
    let (shape, opened) = ask(
        &mut trial,
        "transit/decrypt/k",
        json!({ "batch_input": sealed }),
    );
    assert_eq!(shape, Shape::Plain);
    assert_eq!(
        opened[0],
        json!({ "plaintext": b64(b"one"), "reference": "first" })
    );
    assert_eq!(opened[1]["plaintext"], json!(b64(b"two")));
}

#[test]
fn a_batch_of_which_some_failed_is_answered_with_status_400_or_what_was_asked() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let items = json!([{ "plaintext": b64(b"one") }, { "plaintext": "?" }]);
    let mut data = json!({ "batch_input": items });
    let (shape, results) = ask(&mut trial, "transit/encrypt/k", data.clone());
    assert_eq!(shape, Shape::Status(400));
    assert!(results[0]["ciphertext"].is_string());
    assert_eq!(
        results[1],
        json!({ "error": "illegal base64 data at input byte 0", "reference": "" })
    );
    data["partial_failure_response_code"] = json!(202);
    let (shape, _) = ask(&mut trial, "transit/encrypt/k", data.clone());
    assert_eq!(shape, Shape::Status(202));
    // If nothing succeeded it stays 400.
    let mut failing = data.clone();
    failing["batch_input"] = json!([{ "plaintext": "?" }]);
    let (shape, _) = ask(&mut trial, "transit/encrypt/k", failing);
    assert_eq!(shape, Shape::Status(400));
    data["partial_failure_response_code"] = json!(600);
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/k", data),
        "invalid HTTP response code override from partial_failure_response_code"
    );
    let (shape, results) = ask(
        &mut trial,
        "transit/decrypt/k",
        json!({ "batch_input": [{ "ciphertext": "vault:v1:AAAA" }] }),
    );
    assert_eq!(shape, Shape::Status(400));
    assert_eq!(results[0]["error"], json!("invalid ciphertext length"));
}

#[test]
fn a_batch_that_makes_no_sense_is_refused_as_a_whole() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    for (items, why) in [
        (json!([]), "missing batch input to process"),
        (json!("x"), "failed to parse batch input: it is not a list"),
        (
            json!([7]),
            "failed to parse batch input: [0] expected a map",
        ),
        (json!([{}]), "missing plaintext to encrypt"),
        (
            json!([{ "plaintext": 7 }]),
            "failed to parse batch input: '[0].plaintext' expected type 'string'",
        ),
        (
            json!([{ "plaintext": "" }, { "plaintext": "", "context": "YQ==" }]),
            "context should be set either in all the request blocks or in none",
        ),
    ] {
        let data = json!({ "batch_input": items });
        assert_eq!(refused(&mut trial, Update, "transit/encrypt/k", data), why);
    }
    let many = json!({ "batch_input": vec![json!({ "plaintext": "" }); 10_001] });
    assert_eq!(
        refused(&mut trial, Update, "transit/encrypt/k", many),
        "a batch has at most 10000 items"
    );
    make(&mut trial, "rsa", json!({ "type": "rsa-2048" }));
    let many = json!({ "batch_input": vec![json!({ "input": "" }); 257] });
    assert_eq!(
        refused(&mut trial, Update, "transit/sign/rsa", many),
        "a batch for an RSA key has at most 256 items"
    );
}

#[test]
fn signing_tells_failures_in_the_items_alone() {
    let mut trial = trial();
    make(&mut trial, "e", json!({ "type": "ed25519" }));
    let items = json!([{ "input": b64(b"text"), "reference": "a" }, { "input": "?" }, {}]);
    let (shape, results) = ask(
        &mut trial,
        "transit/sign/e",
        json!({ "batch_input": items }),
    );
    assert_eq!(shape, Shape::Plain);
    assert!(results[0]["signature"].is_string());
    assert_eq!(
        results[1]["error"],
        json!("unable to decode input as base64: illegal base64 data at input byte 0")
    );
    assert_eq!(results[2]["error"], json!("missing input"));
    let items = json!([
        { "input": b64(b"text"), "signature": results[0]["signature"] },
        { "input": b64(b"other"), "signature": results[0]["signature"], "reference": "b" },
    ]);
    let (_, results) = ask(
        &mut trial,
        "transit/verify/e",
        json!({ "batch_input": items }),
    );
    assert_eq!(results[0]["valid"], json!(true));
    assert_eq!(results[1], json!({ "valid": false, "reference": "b" }));
}

#[test]
fn signatures_and_hmacs_are_not_verified_in_one_batch() {
    let mut trial = trial();
    make(&mut trial, "e", json!({ "type": "ed25519" }));
    let (s, h, n) = (json!({ "signature": "" }), json!({ "hmac": "" }), json!({}));
    for (items, why) in [
        (
            vec![&s, &h],
            "elements of batch_input must all provide 'signature' or all provide 'hmac'",
        ),
        (
            vec![&s, &n],
            "some elements of batch_input are missing 'signature'",
        ),
        (
            vec![&h, &n],
            "some elements of batch_input are missing 'hmac'",
        ),
        (
            vec![&n],
            "no batch_input elements have 'signature' or 'hmac'",
        ),
    ] {
        let data = json!({ "batch_input": items });
        assert_eq!(refused(&mut trial, Update, "transit/verify/e", data), why);
    }
    for (data, why) in [
        (
            json!({}),
            "neither a 'signature' nor an 'hmac' were given to verify",
        ),
        (
            json!({ "signature": "", "hmac": "" }),
            "provide one of 'signature' or 'hmac'",
        ),
    ] {
        assert_eq!(refused(&mut trial, Update, "transit/verify/e", data), why);
    }
}

#[test]
fn hmacs_are_made_and_verified_in_batches() {
    let mut trial = trial();
    make(&mut trial, "k", json!({}));
    let items = json!([{ "input": b64(b"one") }, { "input": b64(b"two") }]);
    let (_, made) = ask(
        &mut trial,
        "transit/hmac/k/sha2-512",
        json!({ "batch_input": items }),
    );
    let one = trial.write("transit/hmac/k/sha2-512", json!({ "input": b64(b"one") }));
    assert_eq!(one["hmac"], made[0]["hmac"]);
    let items = json!([
        { "input": b64(b"one"), "hmac": made[0]["hmac"] },
        { "input": b64(b"one"), "hmac": made[1]["hmac"] },
        { "input": b64(b"one"), "hmac": "text" },
    ]);
    let data = json!({ "batch_input": items, "algorithm": "sha2-512" });
    let (shape, results) = ask(&mut trial, "transit/verify/k", data);
    assert_eq!(shape, Shape::Plain);
    assert_eq!(results[0]["valid"], json!(true));
    assert_eq!(results[1]["valid"], json!(false));
    assert_eq!(
        results[2]["error"],
        json!("invalid HMAC to verify: no prefix")
    );
}
