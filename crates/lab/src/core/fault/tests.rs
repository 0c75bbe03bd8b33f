use super::*;

#[test]
fn each_fault_is_a_rule_for_what_is_forwarded_and_for_what_is_sent() {
    let to = Some("203.0.113.40".parse().unwrap());
    let faults = [
        Fault {
            which: Which::LongerThan(1280),
            to: None,
        },
        Fault {
            which: Which::Percent(30),
            to,
        },
        Fault {
            which: Which::All,
            to: Some("2001:db8::1".parse().unwrap()),
        },
    ];
    let rules = "\t\tmeta length > 1280 counter drop
\t\tip daddr 203.0.113.40 numgen random mod 100 < 30 counter drop
\t\tip6 daddr 2001:db8::1 counter drop
";
    assert_eq!(
        ruleset(&faults),
        format!(
            "table inet bastide-fault
delete table inet bastide-fault
table inet bastide-fault {{
\tchain forward {{
\t\ttype filter hook forward priority filter - 100;
{rules}\t}}
\tchain output {{
\t\ttype filter hook output priority filter - 100;
{rules}\t}}
}}
"
        )
    );
    assert!(!ruleset(&[]).contains('{'));
}

#[test]
fn drops_of_all_rules_are_counted() {
    let listing = "meta length > 1280 counter packets 3 bytes 4200 drop\n\
                   ip daddr 203.0.113.40 counter packets 4 bytes 400 drop";
    assert_eq!(dropped(listing), 7);
    assert_eq!(dropped(""), 0);
}
