use serde_json::json;

use super::*;

#[test]
fn durations_are_read_as_go_and_vault_write_them() {
    fn check(text: &str, expected_ms: Option<u64>) {
        assert_eq!(
            parse_duration(text),
            expected_ms.map(Duration::from_millis),
            "{text:?}"
        );
    }
    check("3600", Some(3_600_000));
    check("1h30m", Some(5_400_000));
    check("1.5s", Some(1_500));
    check("300ms", Some(300));
    check("7d", Some(7 * 86_400_000));
    check("0", Some(0));
    for wrong in [
        "",
        "h",
        "1x",
        "-5s",
        "-5",
        "1h-",
        "1e9h",
        "99999999999999999999h",
        "1..5s",
    ] {
        check(wrong, None);
    }
    for (secs, text) in [
        (0, "0s"),
        (90, "1m30s"),
        (12_319, "3h25m19s"),
        (3600, "1h0m0s"),
    ] {
        assert_eq!(go_duration(Duration::from_secs(secs)), text);
    }
}

#[test]
fn fields_are_read_weakly_and_wrong_kinds_are_refused() {
    let data = json!({
        "five": "5", "flag": "true", "one": 1, "list": "a, b,,c", "pairs": ["k=v"], "object": {},
        "huge": "9000000h", "negative": -1,
    });
    let fields = Fields(data.as_object().unwrap());
    assert_eq!(fields.int("five").unwrap(), Some(5));
    assert_eq!(fields.flag("flag").unwrap(), Some(true));
    assert_eq!(fields.flag("one").unwrap(), Some(true));
    assert_eq!(fields.list("list").unwrap().unwrap(), ["a", "b", "c"]);
    assert_eq!(fields.pairs("pairs").unwrap().unwrap()["k"], "v");
    assert_eq!(fields.text("one").unwrap().as_deref(), Some("1"));
    assert_eq!(fields.text("missing").unwrap(), None);
    assert!(fields.text("object").is_err());
    assert!(fields.int("list").is_err());
    assert!(fields.duration("huge").is_err());
    assert!(fields.duration("negative").is_err());
    assert!(fields.count("negative").is_err());
}
