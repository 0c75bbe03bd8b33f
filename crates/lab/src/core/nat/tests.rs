use super::*;

#[test]
fn only_a_symmetric_nat_draws_its_ports_at_random() {
    let check = |kind: NatKind, is_random: bool| {
        let rules = ruleset(&Nat {
            kind,
            wan: "wan".parse().unwrap(),
        });
        assert_eq!(rules.contains("fully-random"), is_random, "{rules}");
        assert!(rules.contains("oifname \"wan\" masquerade"));
        assert!(rules.contains("iifname \"wan\" ct state new drop"));
        assert_eq!(rules.matches('{').count(), rules.matches('}').count());
    };
    check(NatKind::PortRestricted, false);
    check(NatKind::Symmetric, true);
}
