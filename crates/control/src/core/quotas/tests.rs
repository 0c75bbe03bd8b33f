use super::*;

fn rule(name: &str, rate: f64, path: &str, role: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        rate,
        interval: 1,
        block: 0,
        path: path.to_owned(),
        role: role.to_owned(),
        inheritable: false,
    }
}

fn source(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Passes(_))
}

#[test]
fn of_the_rules_that_fit_the_most_specific_counts() {
    let rules = vec![
        rule("all", 1.0, "", ""),
        rule("mount", 1.0, "kv/", ""),
        rule("longer mount", 1.0, "kv/team/", ""),
        rule("begin", 1.0, "kv/data/a*", ""),
        rule("longer begin", 1.0, "kv/data/abc*", ""),
        rule("path", 1.0, "kv/data/abcd", ""),
        rule("role", 1.0, "auth/jwt/", "web"),
        rule("login", 1.0, "auth/jwt/login", ""),
    ];
    let settings = Settings {
        exempt: vec!["kv/free".to_owned()],
        ..Settings::default()
    };
    let rules = Rules::new(rules, settings);
    let found = |path: &str, role: Option<&str>| {
        let number = rules.find(path, role)?;
        Some(rules.rules[number].name.as_str())
    };
    for (path, role, expected) in [
        ("sys/mounts", None, Some("all")),
        ("kvx", None, Some("all")),
        ("kv", None, Some("mount")),
        ("kv/data/x", None, Some("mount")),
        ("kv/team/x", None, Some("longer mount")),
        ("kv/data/ab", None, Some("begin")),
        ("kv/data/abcx", None, Some("longer begin")),
        ("kv/data/abcd", None, Some("path")),
        ("kv/data/abcd/e", None, Some("longer begin")),
        ("auth/jwt/login", Some("web"), Some("role")),
        ("auth/jwt/login", Some("other"), Some("login")),
        ("auth/jwt/login", None, Some("login")),
        ("kv/free", None, None),
        ("kv/free/x", None, None),
        ("kv/freedom", None, Some("mount")),
        ("sys/health", None, None),
        ("mesh/renew", None, None),
    ] {
        assert_eq!(found(path, role), expected, "{path} {role:?}");
    }
    assert!(rules.wants_role("auth/jwt/login") && !rules.wants_role("kv/data/x"));
}

#[test]
fn a_bucket_lets_its_rate_through_and_then_one_after_the_other() {
    let rules = Rules::new(vec![rule("r", 5.0, "", "")], Settings::default());
    let mut limiter = Limiter::default();
    let start = Instant::now();
    for left in (0..5).rev() {
        match limiter.ask(start, &rules, 0, source(1)) {
            Verdict::Passes(told) => assert_eq!((told.limit, told.remaining), (5, left)),
            Verdict::Waits(..) => panic!("{left}"),
        }
    }
    let Verdict::Waits(told, wait) = limiter.ask(start, &rules, 0, source(1)) else {
        panic!("the sixth must wait")
    };
    assert_eq!((told.remaining, wait), (0, Duration::from_millis(200)));
    assert!(
        passes(limiter.ask(start, &rules, 0, source(2))),
        "another source"
    );
    let later = start + Duration::from_millis(200);
    assert!(passes(limiter.ask(later, &rules, 0, source(1))));
    assert!(!passes(limiter.ask(later, &rules, 0, source(1))));
    // One subscriber's addresses of IPv6 are one source.
    let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
    let passed = (0..50).filter(|n| passes(limiter.ask(start, &rules, 0, v6(*n))));
    assert_eq!(passed.count(), 5);
}

#[test]
fn over_any_time_no_more_passes_than_the_rate_and_one_bucket() {
    for (rate, interval) in [(0.25, 1), (1.0, 1), (7.5, 3), (100.0, 60), (1e6, 1)] {
        let mut rule = rule("r", rate, "", "");
        rule.interval = interval;
        let rules = Rules::new(vec![rule], Settings::default());
        let mut limiter = Limiter::default();
        let start = Instant::now();
        let mut passed = 0.0;
        // Two minutes of four requests a second, unevenly.
        for n in 0..480_u32 {
            let now = start + Duration::from_millis(u64::from(n / 4) * 1000 + u64::from(n % 4));
            if passes(limiter.ask(now, &rules, 0, source(1))) {
                passed += 1.0;
            }
        }
        let most = rate.max(1.0) + rate / Duration::from_secs(interval).as_secs_f64() * 120.0;
        assert!(
            passed <= most + 1.0,
            "{rate}/{interval}: {passed} of {most}"
        );
        assert!(
            most.min(480.0) * 0.9 - 2.0 <= passed,
            "{rate}/{interval}: {passed} of {most}"
        );
    }
}

#[test]
fn who_asked_too_often_is_blocked_for_as_long_as_the_rule_says() {
    let mut rule = rule("r", 2.0, "", "");
    rule.block = 60;
    let rules = Rules::new(vec![rule], Settings::default());
    let mut limiter = Limiter::default();
    let start = Instant::now();
    assert!(passes(limiter.ask(start, &rules, 0, source(1))));
    assert!(passes(limiter.ask(start, &rules, 0, source(1))));
    assert!(!passes(limiter.ask(start, &rules, 0, source(1))));
    let secs = |secs: u64| start + Duration::from_secs(secs);
    let Verdict::Waits(_, wait) = limiter.ask(secs(59), &rules, 0, source(1)) else {
        panic!("it is blocked")
    };
    assert_eq!(wait, Duration::from_secs(1));
    assert!(passes(limiter.ask(secs(60), &rules, 0, source(1))));
}

#[test]
fn a_flood_of_sources_takes_bounded_room_and_unblocks_nobody() {
    let mut rule = rule("r", 1.0, "", "");
    rule.block = 600;
    let rules = Rules::new(vec![rule], Settings::default());
    let mut limiter = Limiter::default();
    let start = Instant::now();
    let culprit = source(1);
    limiter.ask(start, &rules, 0, culprit);
    limiter.ask(start, &rules, 0, culprit);
    for n in 0..100_000_u32 {
        let source = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        assert!(passes(limiter.ask(start, &rules, 0, source)));
        assert!(limiter.buckets.len() <= BUCKETS_MAX);
    }
    assert!(!passes(limiter.ask(start, &rules, 0, culprit)));
}
