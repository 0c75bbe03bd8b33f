use super::*;

fn parse(words: &[&str]) -> anyhow::Result<Wish> {
    let known = ["dns", "ticket"].map(str::to_owned).into();
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    Wish::parse(&words, &known)
}

fn wish(seconds: u64, targets: &[&str]) -> Wish {
    Wish {
        seconds,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
    }
}

#[test]
fn nothing_said_is_all_targets_for_a_minute() {
    assert_eq!(parse(&[]).unwrap(), wish(60, &["dns", "ticket"]));
    assert_eq!(
        parse(&["--seconds", "3600", "dns"]).unwrap(),
        wish(3600, &["dns"])
    );
}

#[test]
fn what_is_no_target_is_told_with_those_that_are() {
    let error = parse(&["dsn"]).unwrap_err().to_string();
    assert!(error.contains("dns, ticket"), "{error}");
    assert!(parse(&["--seconds", "long"]).is_err());
    assert!(parse(&["--seconds"]).is_err());
}
