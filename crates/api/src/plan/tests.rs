use super::*;

#[test]
fn the_default_plan_passes_its_own_check() {
    assert_eq!(AddressPlan::default().check(), Ok(()));
    assert_eq!(AddressPlan::default().nodes_max(), 4096);
}

#[test]
fn slots_skip_the_resolver_and_never_repeat() {
    let plan = AddressPlan::default();
    let slots: Vec<_> = (0..plan.nodes_max())
        .map(|slot| plan.slot(slot).unwrap())
        .collect();
    assert_eq!(slots[0].0, Ipv4Addr::new(100, 72, 0, 1));
    assert_eq!(slots[0].1, "10.128.0.0/24".parse().unwrap());
    assert!(slots.iter().all(|(address, _)| *address != plan.dns));
    let unique: std::collections::BTreeSet<_> = slots.iter().collect();
    assert_eq!(unique.len(), slots.len());
    assert!(
        slots
            .iter()
            .all(|(a, s)| plan.mesh.contains(a) && plan.containers.contains(s))
    );
    assert_eq!(plan.slot(plan.nodes_max()), None);
}

#[test]
fn overlapping_ranges_are_refused() {
    let plan = AddressPlan {
        swarm_pool: "10.128.4.0/22".parse().unwrap(),
        ..AddressPlan::default()
    };
    assert!(matches!(plan.check(), Err(PlanError::Overlap(..))));
}
