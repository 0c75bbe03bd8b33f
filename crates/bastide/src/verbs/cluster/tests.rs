use super::*;

fn plan(keeps: bool) -> RebuildPlan {
    RebuildPlan {
        keeps,
        now: "a manager without a quorum".to_owned(),
        nodes: vec!["atlas".to_owned(), "boreas".to_owned()],
        services: vec!["hello_web".to_owned()],
    }
}

#[test]
fn a_plan_says_what_stops_before_it_is_done() {
    let kept = describe(&plan(true)).join("\n");
    assert!(kept.contains("only manager") && kept.contains("on this node are started anew"));
    let anew = describe(&plan(false)).join("\n");
    assert!(anew.contains("every task is stopped"), "{anew}");
    assert!(anew.contains("2 in all (atlas, boreas)"), "{anew}");
    assert!(anew.contains("hello_web"), "{anew}");
}
