use serde_json::{Value, json};

use super::*;
use crate::core::trial::text;

fn settings(data: &Value) -> Result<TokenSettings, Refusal> {
    let mut settings = TokenSettings::default();
    settings.update(Fields(data.as_object().unwrap()))?;
    Ok(settings)
}

#[test]
fn a_life_that_is_shorter_than_a_second_does_not_become_one_without_end() {
    // CVE-2021-32923 is of this kind: what rounds to 0 must not mean *for ever*.
    let short = settings(&json!({ "token_ttl": "300ms", "token_period": "1ms" })).unwrap();
    assert_eq!(short.shown()["token_ttl"], 1);
    assert_eq!(short.terms().period, Some(Duration::from_secs(1)));
    assert_eq!(whole_secs(Duration::from_millis(1500)), 2);
    assert_eq!(whole_secs(Duration::from_secs(2)), 2);
    assert_eq!(whole_secs(Duration::ZERO), 0);
}

#[test]
fn a_field_is_shown_under_its_old_name_if_it_was_set_so() {
    let both = settings(&json!({ "policies": "a,B", "token_ttl": 60 })).unwrap();
    let shown = both.shown();
    assert_eq!(shown["policies"], json!(["a", "b"]));
    assert_eq!(shown["token_policies"], json!(["a", "b"]));
    assert!(!shown.contains_key("ttl"));
    let mut both = both;
    let new = json!({ "token_policies": ["c"] });
    both.update(Fields(new.as_object().unwrap())).unwrap();
    assert!(!both.shown().contains_key("policies"));
    let winner = settings(&json!({ "policies": ["old"], "token_policies": ["new"] })).unwrap();
    assert_eq!(winner.shown()["policies"], json!(["new"]));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (data, why) in [
        (json!({ "token_ttl": 2, "token_max_ttl": 1 }), "greater"),
        (
            json!({ "token_type": "batch", "token_period": 1 }),
            "periodic",
        ),
        (
            json!({ "token_type": "batch", "token_num_uses": 1 }),
            "limited",
        ),
        (json!({ "token_type": "eternal" }), "token_type"),
        (json!({ "token_num_uses": -1 }), "negative"),
        (json!({ "token_ttl": -1 }), "duration"),
        (
            json!({ "token_bound_cidrs": "10.0.0.0/99" }),
            "token_bound_cidrs",
        ),
    ] {
        let refused = text(settings(&data).unwrap_err());
        assert!(refused.contains(why), "{data}: {refused}");
    }
}

#[test]
fn a_role_name_has_one_form() {
    assert_eq!(name("CI-Runner.2").as_deref(), Some("ci-runner.2"));
    for wrong in ["", "a b", "a/b", "a\n", "a,b", "*"] {
        assert_eq!(name(wrong), None, "{wrong:?}");
    }
}

#[test]
fn settings_stored_before_parse_as_they_are() {
    let old = r#"{"policies":["p"],"ttl":1,"max_ttl":2,"period":0,"explicit_max_ttl":0,"num_uses":3,
        "no_default_policy":false}"#;
    let parsed: TokenSettings = serde_json::from_str(old).unwrap();
    assert_eq!(parsed.shown()["token_num_uses"], 3);
}
