use super::*;

fn read(line: &str) -> anyhow::Result<Plan> {
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    plan(&words)
}

#[test]
fn ten_hosts_join_unless_told_otherwise() {
    assert_eq!(read("").unwrap().count, 10);
    let plan = read("--count 3 --program /bin/bastide").unwrap();
    assert_eq!(plan.count, 3);
    assert_eq!(plan.program, Some("/bin/bastide".into()));
    for line in ["--count 0", "--count 101", "--count", "--hosts 3", "tinc"] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn each_host_has_a_router_and_an_address_of_its_own() {
    let text = file("bench", COUNT_MAX);
    for number in 1..=COUNT_MAX {
        let outside = format!("203.0.113.{}/24", 100 + number);
        assert_eq!(text.matches(&outside).count(), 1, "{outside}");
        assert!(text.contains(&format!("\n  host-{number}:\n")));
    }
    assert_eq!(text.matches("nat: port-restricted").count(), COUNT_MAX);
}

#[test]
fn the_median_is_the_middle_one() {
    let times = vec![900.0, 100.0, 300.0];
    assert_eq!(
        summary(times),
        "median of 3: 300 ms (fastest 100 ms, slowest 900 ms)"
    );
}
