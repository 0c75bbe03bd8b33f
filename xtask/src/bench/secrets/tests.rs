use super::*;

fn read(line: &str) -> anyhow::Result<Plan> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    plan(&words)
}

#[test]
fn all_is_measured_unless_some_is_named() {
    assert_eq!(read("").unwrap().operations, [""; 0]);
    let plan = read("--seconds 2 kv-read --clients 8 ssh-sign").unwrap();
    assert_eq!((plan.seconds, plan.clients), (2, 8));
    assert_eq!(plan.operations, ["kv-read", "ssh-sign"]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for line in [
        "kv-raed",
        "--seconds",
        "--seconds x",
        "--seconds 0",
        "--clients 1001",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}
