//! How long it takes to judge a path by a token's policies: merged for each request, and from a set
//! that was compiled once.
#![expect(clippy::print_stdout, reason = "an example shows what it measures")]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bastide_control::core::path::ApiPath;
use bastide_control::core::policy::Policy;
use bastide_control::core::policy::acl::{Acl, Question};
use bastide_control::core::policy::compiled::{Compiled, Set};
use bastide_control::core::request::Operation;
use serde_json::Map;

const ROUNDS: u32 = 5_000;

fn main() -> anyhow::Result<()> {
    let texts = (0..6).map(|policy| {
        let rules = (0..20).map(|rule| match rule % 4 {
            0 => format!("path \"mount{policy}/data/app{rule}\" {{ capabilities = [\"read\"] }}"),
            1 => format!("path \"mount{policy}/data/app{rule}/*\" {{ capabilities = [\"read\"] }}"),
            2 => format!("path \"mount{policy}/+/team{rule}/*\" {{ capabilities = [\"list\"] }}"),
            _ => format!("path \"mount{policy}/metadata/x{rule}*\" {{ policy = \"write\" }}"),
        });
        rules.collect::<Vec<_>>().join("\n")
    });
    let policies = texts
        .map(|text| Policy::parse(&text).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let path = ApiPath::parse("mount3/data/app13/database/password")?;
    let data = Map::new();
    let question = Question {
        operation: Operation::Read,
        path: &path,
        folded: None,
        data: &data,
        wrap: None,
        sudo: false,
    };
    let judged = |what: &str, judge: &dyn Fn() -> bool| {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            assert!(black_box(judge()), "it is allowed");
        }
        println!(
            "{what}: {} ns",
            began.elapsed().as_nanos() / u128::from(ROUNDS)
        );
    };
    judged("merged for each request", &|| {
        let filled: Vec<_> = policies.iter().map(|it| it.fill(|_| None)).collect();
        Acl::new(&filled).authorise(&question).is_some()
    });
    let names: Vec<String> = (0..6).map(|policy| format!("policy{policy}")).collect();
    let compiled = Compiled::default();
    judged("from the compiled set", &|| {
        let make = || Ok::<_, Infallible>(Set::new(policies.clone()));
        let Ok(set) = compiled.get(1, names.iter(), make);
        set.acl(|_| None).authorise(&question).is_some()
    });
    Ok(())
}
