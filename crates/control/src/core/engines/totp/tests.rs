use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::*;
use crate::core::request::Operation::{Read, Update};
use crate::core::trial::{As, Trial, text};

fn trial() -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/mounts/totp", json!({ "type": "totp" }));
    trial
}

/// RFC 6238's seeds, appendix B.
const SEED: &[u8; 64] = b"1234567890123456789012345678901234567890123456789012345678901234";

fn import(trial: &mut Trial, hash: &str, digits: u64) {
    let length = match hash {
        "SHA1" => 20,
        "SHA256" => 32,
        _ => 64,
    };
    let key = BASE32_NOPAD.encode(&SEED[..length]);
    let data = json!({ "key": key, "algorithm": hash, "digits": digits, "account_name": "a" });
    trial.write("totp/keys/k", data);
}

fn code(trial: &mut Trial) -> String {
    let shown = trial.root(Read, "totp/code/k", json!({})).unwrap();
    shown["code"].as_str().unwrap().to_owned()
}

fn judged(trial: &mut Trial, code: &str) -> Result<bool, String> {
    let told = trial.root(Update, "totp/code/k", json!({ "code": code }));
    told.map(|told| told["valid"].as_bool().unwrap())
        .map_err(text)
}

#[test]
fn codes_are_those_of_the_standard() {
    let mut trial = trial();
    for (secs, sha1, sha256, sha512) in [
        (59, "94287082", "46119246", "90693936"),
        (1_111_111_109, "07081804", "68084774", "25091201"),
        (1_234_567_890, "89005924", "91819424", "93441116"),
        (20_000_000_000, "65353130", "77737706", "47863826"),
    ] {
        trial.now = UnixTime::from_millis(secs * 1000);
        for (hash, expected) in [("SHA1", sha1), ("SHA256", sha256), ("SHA512", sha512)] {
            import(&mut trial, hash, 8);
            assert_eq!(code(&mut trial), expected, "{hash} at {secs}");
        }
    }
}

#[test]
fn oathtool_shows_the_same_codes() {
    let mut trial = trial();
    for (hash, digits) in [("SHA1", 6), ("SHA256", 8), ("SHA512", 6)] {
        let made = json!({
            "generate": true, "issuer": "Bastide & Co", "account_name": "ada@x", "digits": digits,
            "algorithm": hash, "key_size": 32,
        });
        let made = trial.write("totp/keys/k", made);
        let url = made["url"].as_str().unwrap();
        let secret = url.split("secret=").nth(1).unwrap();
        let now = format!("@{}", trial.now.as_secs());
        let shown = Command::new("oathtool")
            .arg(format!("--totp={hash}"))
            .args([
                "--base32",
                "--digits",
                &digits.to_string(),
                "--now",
                &now,
                secret,
            ])
            .output();
        let Ok(shown) = shown else {
            eprintln!("skipped: oathtool is missing");
            return;
        };
        let errors = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(shown.status.success(), "{errors}");
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(code(&mut trial), shown.trim());
        assert_eq!(judged(&mut trial, shown.trim()), Ok(true));
    }
}

#[test]
fn the_picture_holds_the_address_that_another_key_can_be_made_of() {
    let mut trial = trial();
    let made = json!({
        "generate": true, "issuer": "Bastide & Co", "account_name": "ad\u{e9} 1", "period": "60s",
    });
    let made = trial.write("totp/keys/k", made);
    let url = made["url"].as_str().unwrap().to_owned();
    assert!(
        url.starts_with("otpauth://totp/Bastide%20%26%20Co:ad%C3%A9%201?"),
        "{url}"
    );
    let first = code(&mut trial);
    let shown = trial.root(Read, "totp/keys/k", json!({})).unwrap();
    trial.write("totp/keys/k", json!({ "url": url }));
    assert_eq!(code(&mut trial), first);
    assert_eq!(trial.root(Read, "totp/keys/k", json!({})).unwrap(), shown);
    assert_eq!(shown["period"], json!(60));
    let png = BASE64
        .decode(made["barcode"].as_str().unwrap().as_bytes())
        .unwrap();
    let zbar = Command::new("zbarimg")
        .args(["--raw", "--quiet", "png:-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut zbar) = zbar else {
        eprintln!("skipped: zbarimg is missing");
        return;
    };
    zbar.stdin.take().unwrap().write_all(&png).unwrap();
    let read = zbar.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap().trim(), url);
}

#[test]
fn each_code_is_taken_once_and_none_before_it_afterwards() {
    let mut trial = trial();
    import(&mut trial, "SHA1", 6);
    let before = code(&mut trial);
    trial.pass(30);
    let current = code(&mut trial);
    // One of the period before is good, as clocks differ.
    assert_eq!(judged(&mut trial, &before), Ok(true));
    let used = Err("code already used; wait until the next time period".to_owned());
    assert_eq!(judged(&mut trial, &before), used);
    assert_eq!(judged(&mut trial, &current), Ok(true));
    assert_eq!(judged(&mut trial, &current), used);
    assert_eq!(judged(&mut trial, &before), used);
    // CVE-2025-6014: the same digits in another spelling are no other code.
    for spelling in [
        format!(" {current}"),
        format!("{current} "),
        format!("{current}\n"),
        format!("0{current}"),
        current[1..].to_owned(),
    ] {
        assert_eq!(judged(&mut trial, &spelling), Ok(false), "{spelling:?}");
        trial.pass(0);
    }
    trial.pass(90);
    assert_eq!(judged(&mut trial, &current), Ok(false), "it is too old");
    let next = code(&mut trial);
    assert_eq!(judged(&mut trial, &next), Ok(true));
}

#[test]
fn of_racers_with_one_code_one_wins() {
    let mut trial = trial();
    import(&mut trial, "SHA1", 6);
    let code = code(&mut trial);
    let request = Trial::request(As::Root, Update, "totp/code/k", json!({ "code": code }));
    let decisions: Vec<_> = (0..100).map(|_| trial.decide(&request)).collect();
    let won = decisions.into_iter().filter(|decision| {
        let outcome = decision.response.outcome.as_ref();
        outcome.is_ok_and(|it| {
            it.data
                .as_ref()
                .is_some_and(|it| it["valid"] == json!(true))
        })
    });
    let won: Vec<_> = won.collect();
    assert_eq!(won.len(), 100, "each was decided on the same state");
    let committed = won
        .into_iter()
        .filter_map(|it| trial.commit(it).then_some(()));
    assert_eq!(committed.count(), 1);
}

#[test]
fn guessing_ends_after_five_wrong_codes_and_goes_on_after_a_minute() {
    let mut trial = trial();
    import(&mut trial, "SHA1", 6);
    let right = code(&mut trial);
    let wrong = if right == "000000" {
        "000001"
    } else {
        "000000"
    };
    for _ in 0..5 {
        assert_eq!(judged(&mut trial, wrong), Ok(false));
    }
    assert!(
        judged(&mut trial, wrong)
            .unwrap_err()
            .starts_with("too many wrong codes")
    );
    assert!(judged(&mut trial, &right).is_err());
    trial.pass(60);
    let right = code(&mut trial);
    assert_eq!(judged(&mut trial, &right), Ok(true));
}

// CVE-2025-6015: a limit that could be passed by.
#[test]
fn wrong_codes_that_come_at_once_are_counted_each() {
    let mut trial = trial();
    import(&mut trial, "SHA1", 6);
    let right = code(&mut trial);
    let wrong = (0..100_u32).map(|number| format!("{number:06}"));
    let mut waiting: Vec<_> = wrong
        .filter(|code| *code != right)
        .take(40)
        .map(|code| Trial::request(As::Root, Update, "totp/code/k", json!({ "code": code })))
        .collect();
    let (mut judged, mut refused) = (0, 0);
    while !waiting.is_empty() {
        // All that wait are decided before one of them is committed, as those of many clients are.
        let decided: Vec<_> = waiting
            .iter()
            .map(|request| trial.decide(request))
            .collect();
        let mut again = Vec::new();
        for (request, decision) in waiting.into_iter().zip(decided) {
            if decision.response.outcome.is_err() {
                refused += 1;
            } else if trial.commit(decision) {
                judged += 1;
            } else {
                again.push(request);
            }
        }
        waiting = again;
    }
    assert_eq!((judged, refused), (5, 35));
}

#[test]
fn a_key_that_is_none_is_refused_and_its_text_is_not_told() {
    let mut trial = trial();
    let generated = |field: &str, value: Value| {
        let mut data = json!({ "generate": true, "issuer": "i", "account_name": "a" });
        data[field] = value;
        data
    };
    for (data, why) in [
        (json!({}), "the key value is required"),
        (
            json!({ "key": "!!!" }),
            "invalid key value: it is not base32",
        ),
        (
            generated("key", json!("GEZDGNBV")),
            "a key should not be passed if generate is true",
        ),
        (
            generated("issuer", json!("")),
            "the issuer value is required for a generated key",
        ),
        (
            generated("digits", json!(7)),
            "the digits value can only be 6 or 8",
        ),
        (generated("skew", json!(2)), "the skew value must be 0 or 1"),
        (
            generated("algorithm", json!("MD5")),
            "the algorithm value is not valid",
        ),
        (
            generated("period", json!(0)),
            "the period value must be greater than zero, and a day at most",
        ),
        (
            json!({ "url": "https://x?secret=GEZDGNBV" }),
            "the url is not of the form otpauth://totp/...",
        ),
        (
            json!({ "url": "otpauth://hotp/x?secret=GEZDGNBV" }),
            "the url is not of the form otpauth://totp/...",
        ),
        (
            json!({ "url": "otpauth://totp/%zz?secret=GEZDGNBV" }),
            "the url is not valid",
        ),
        (
            json!({ "url": "otpauth://totp/x?period=y" }),
            "a number in the url is not one",
        ),
    ] {
        let refused = text(trial.root(Update, "totp/keys/k", data.clone()).unwrap_err());
        assert_eq!(refused, why, "{data}");
    }
    // With padding, spaces and in small letters, as people copy them.
    trial.write("totp/keys/k", json!({ "key": "gezd gnbv-gy3tqojq====" }));
    let unknown = text(trial.root(Read, "totp/code/none", json!({})).unwrap_err());
    assert_eq!(unknown, "unknown key: none");
    let quiet = json!({ "generate": true, "issuer": "i", "account_name": "a", "exported": false });
    assert_eq!(trial.write("totp/keys/k", quiet), Value::Null);
}
