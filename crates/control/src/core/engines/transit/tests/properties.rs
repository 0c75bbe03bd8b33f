//! What holds for all texts, keys and contexts.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const KINDS: [&str; 3] = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"];

thread_local! {
    // Made once: what is tried is what is done with the keys, not how they are made.
    static TRIAL: RefCell<Trial> = RefCell::new({
        let mut trial = trial();
        for kind in KINDS {
            make(&mut trial, kind, json!({ "type": kind }));
            for (name, convergent) in [("d", false), ("c", true)] {
                let settings =
                    json!({ "type": kind, "derived": true, "convergent_encryption": convergent });
                make(&mut trial, &format!("{name}-{kind}"), settings);
            }
        }
        trial
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sealed_opens_again(
        kind in 0..KINDS.len(),
        mode in 0..3_usize,
        plain in proptest::collection::vec(any::<u8>(), 0..200),
        context in proptest::collection::vec(any::<u8>(), 1..40),
        associated in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let name = format!("{}{}", ["", "d-", "c-"][mode], KINDS[kind]);
        let mut data = json!({ "plaintext": b64(&plain), "associated_data": b64(&associated) });
        if mode != 0 {
            data["context"] = json!(b64(&context));
        }
        TRIAL.with_borrow_mut(|trial| {
            let path = format!("transit/encrypt/{name}");
            let sealed = trial.write(&path, data.clone());
            let again = trial.write(&path, data.clone());
            let is_same = sealed["ciphertext"] == again["ciphertext"];
            prop_assert_eq!(is_same, mode == 2);
            data["ciphertext"] = sealed["ciphertext"].clone();
            let opened = trial.write(&format!("transit/decrypt/{name}"), data);
            prop_assert_eq!(&opened["plaintext"], &json!(b64(&plain)));
            Ok(())
        })?;
    }

    #[test]
    fn a_batch_is_what_its_items_are_alone(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..12),
        broken in any::<proptest::sample::Index>(),
    ) {
        TRIAL.with_borrow_mut(|trial| {
            let context = b64(b"context");
            let mut items: Vec<Value> = texts
                .iter()
                .map(|text| json!({ "plaintext": b64(text), "context": context }))
                .collect();
            items[broken.index(texts.len())]["plaintext"] = json!("?");
            let path = "transit/encrypt/c-aes256-gcm96";
            let batch = trial.ask(As::Root, Update, path, json!({ "batch_input": items }));
            let batch = batch.unwrap().data.unwrap();
            for (item, result) in items.iter().zip(batch["batch_results"].as_array().unwrap()) {
                match trial.root(Update, path, item.clone()) {
                    Ok(alone) => prop_assert_eq!(&result["ciphertext"], &alone["ciphertext"]),
                    Err(refusal) => prop_assert_eq!(&result["error"], &json!(text(refusal))),
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_text_that_was_changed_opens(
        plain in proptest::collection::vec(any::<u8>(), 0..60),
        at in any::<proptest::sample::Index>(),
        bit in 0..8_u32,
    ) {
        TRIAL.with_borrow_mut(|trial| {
            for kind in KINDS {
                let sealed = seal(trial, kind, &plain);
                let body = &sealed["vault:v1:".len()..];
                let mut bytes = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                let opened = open(trial, kind, &format!("vault:v1:{}", b64(&bytes)));
                prop_assert!(opened.unwrap_err().ends_with("message authentication failed"));
            }
            Ok(())
        })?;
    }
}
