//! `bastide demo`: three sites, one secured cluster, on this one machine, with proof.
//!
//! ```text
//!                 "internet" 203.0.113.0/24
//!          .10         .20 NAT        .30 NAT (symmetric)
//!         atlas        home            edge
//!        (cloud)         |               |
//!                     boreas          cygnus
//! ```
//!
//! The hosts are the lab's; what runs on them is this same program, started as a user would start
//! it, and a real container engine each.

mod calls;
mod engines;
mod image;
mod leftovers;
mod proof;
mod report;
mod scene;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bastide_api::status::Status;
use bastide_api::v1::PathKind;

use crate::exit::Exit;
use crate::{cli, privilege};
use leftovers::Machine;
use report::{Report, Whose};
use scene::Scene;

/// A host of the demo.
pub(crate) struct Place {
    /// The host and node.
    pub host: &'static str,
    /// Its site.
    pub site: &'static str,
}

/// The hosts; the first is the controller.
pub(crate) const PLACES: [Place; 3] = [
    Place {
        host: "atlas",
        site: "cloud",
    },
    Place {
        host: "boreas",
        site: "home",
    },
    Place {
        host: "cygnus",
        site: "edge",
    },
];
const CONTROLLER: &str = PLACES[0].host;
const CONTROLLER_ADDRESS: &str = "203.0.113.10";
const CUT_OFF: &str = PLACES[2].host;

const CLUSTER: &str = "demo";
const STACK: &str = "hello";
const REPLICAS: usize = 3;
/// Swarm's heartbeat in the demo; its own default is 5 s.
const HEARTBEAT_MS: u64 = 2000;
/// How long a returned node must be stable in the demo; the default is ten minutes.
const REBALANCE_AFTER_S: u64 = 2;

const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(90);

/// Runs the demo. Succeeds only if every check held.
pub fn run(arguments: cli::Demo) -> anyhow::Result<ExitCode> {
    privilege::require_root("bastide demo")?;
    let mut report = Report::new(arguments.format.json);
    for removed in scene::sweep()? {
        report.note(format!("removed what an earlier run left: {removed}"));
    }
    let before = Machine::look();
    let hello = std::fs::read(&arguments.hello)
        .with_context(|| format!("could not read `{}`", arguments.hello.display()))?;
    let mut scene = None;
    let played = play(&mut report, &mut scene, &hello);
    if arguments.keep && played.is_ok() {
        if let Some(scene) = scene {
            scene.keep(&report)?;
        }
        report.finish();
        return Ok(ExitCode::SUCCESS);
    }
    if let (Err(_), Some(scene)) = (&played, &scene) {
        report.note(format!("the hosts' logs: {}", scene.save_logs()?.display()));
    }
    report.chapter(8, "Take everything down");
    report.step("everything down", Whose::Ours, |_| match scene.take() {
        Some(scene) => scene.down(),
        None => Ok(()),
    })?;
    let left = settle(&before);
    for line in &left {
        report.note(format!("left behind: {line}"));
    }
    report.check("nothing is left behind on this machine", left.is_empty());
    if let Err(error) = &played {
        crate::output::report(error);
        report.check("every step could be taken", false);
    }
    let failed = report.finish();
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        Exit::Failed.into()
    })
}

/// The kernel takes namespaces down a moment after their last process ended.
fn settle(before: &Machine) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = Machine::look().added_since(before);
        if left.is_empty() || SOON < began.elapsed() {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn play(report: &mut Report, slot: &mut Option<Scene>, hello: &[u8]) -> anyhow::Result<()> {
    report.chapter(1, "Three sites on one machine");
    let scene = slot.insert(report.step(
        "lab up: internet, two NAT routers, three hosts",
        Whose::Ours,
        |_| Scene::up(),
    )?);
    report.step(
        "container engines start on three hosts",
        Whose::Engines,
        |_| engines::start(scene),
    )?;

    report.chapter(2, "One cluster: bastide up, and bastide join - twice");
    let ticket = report.step("bastide up on atlas", Whose::Ours, |_| scene.up_first())?;
    let second = report.step("bastide ticket", Whose::Ours, |_| scene.ticket())?;
    for (place, ticket) in PLACES[1..].iter().zip([ticket, second]) {
        let name = if place.host == "boreas" {
            "bastide join - on boreas"
        } else {
            "bastide join - on cygnus"
        };
        report.step(name, Whose::Ours, |_| scene.join(place, &ticket))?;
    }

    report.chapter(3, "The mesh forms, then the Swarm over it");
    show_mesh(report, scene)?;
    report.note(format!(
        "Swarm's heartbeat is set to {HEARTBEAT_MS} ms for this demo (default 5 s)"
    ));
    report.step(
        "every engine is a ready member of the Swarm",
        Whose::Engines,
        |_| {
            until(SOON, "three members of the Swarm", || {
                let status = scene.status(CONTROLLER)?;
                Ok(status.nodes.iter().filter(|node| node.swarm).count() == PLACES.len())
            })
        },
    )?;

    report.chapter(4, "Deploy examples/hello, without a registry");
    let archive =
        image::docker_archive(hello, "hello", "1").context("the image could not be made")?;
    report.step(
        "the image is made and loaded on atlas",
        Whose::Engines,
        |_| scene.load_image(CONTROLLER, &archive),
    )?;
    report.step(
        "bastide deploy: three healthy replicas",
        Whose::Engines,
        |_| scene.deploy(CONTROLLER),
    )?;
    let status = scene.status(CONTROLLER)?;
    let on = nodes_of_tasks(&status);
    report.check(
        "the three replicas run at three sites",
        on.len() == REPLICAS,
    );

    report.chapter(5, "Call the service by name from a container on each site");
    let canary = proof::canary()?;
    let watch = proof::Watch::begin(scene, &canary)?;
    for place in &PLACES {
        let name = call_step(place.host);
        let answers = report.step(name, Whose::Engines, |_| {
            calls::until_distinct(scene, place.host, REPLICAS, &canary, SOON)
        })?;
        report.note(format!("   {}", answers.summary()));
        report.check(
            "every answer returned the whole body",
            answers.all_whole() && answers.replicas().len() == REPLICAS,
        );
    }

    report.chapter(6, "What was on each wire meanwhile");
    watch.finish()?.print(report);

    report.chapter(7, "One site is cut off, and returns");
    partition(report, scene, &canary)
}

fn call_step(host: &str) -> &'static str {
    match host {
        "atlas" => "http://web/ from a container on atlas: all replicas",
        "boreas" => "http://web/ from a container on boreas: all replicas",
        _ => "http://web/ from a container on cygnus: all replicas",
    }
}

fn show_mesh(report: &mut Report, scene: &Scene) -> anyhow::Result<()> {
    report.step("every pair of nodes has a path", Whose::Ours, |_| {
        until(SOON, "a path between every pair of nodes", || {
            for place in &PLACES {
                let status = scene.status(place.host)?;
                let is_whole = status.nodes.len() == PLACES.len()
                    && status.nodes.iter().all(|node| node.alive)
                    && scene.pings_all(place.host, &status)?;
                if !is_whole {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    })?;
    let expected = |a: &str, b: &str| a == CONTROLLER || b == CONTROLLER;
    until(SOON, "direct paths where the NATs allow them", || {
        for place in &PLACES {
            let status = scene.status(place.host)?;
            for node in status.nodes.iter().filter(|node| node.path.is_some()) {
                let is_direct = matches!(
                    node.path.as_ref().map(|path| path.kind),
                    Some(PathKind::Direct { .. })
                );
                if is_direct != expected(place.host, node.name.as_str()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
    .or_else(|error| {
        report.note(format!("{error:#}"));
        anyhow::Ok(())
    })?;
    let mut rows = vec![
        ["from", "to", "path", "latency"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut as_expected = true;
    for place in &PLACES {
        let status = scene.status(place.host)?;
        for node in &status.nodes {
            let Some(path) = &node.path else { continue };
            let shown = match path.kind {
                PathKind::None => "none".to_owned(),
                PathKind::Direct { to } => format!("direct to {to}"),
                PathKind::Relayed { via } => {
                    let relay = status.nodes.iter().find(|node| node.id == via);
                    format!(
                        "relayed by {}",
                        relay.map_or("?", |relay| relay.name.as_str())
                    )
                }
            };
            as_expected &= shown.starts_with("direct") == expected(place.host, node.name.as_str());
            let rtt = path.rtt_us.map_or("-".to_owned(), |us| {
                format!("{:.1} ms", f64::from(us) / 1000.0)
            });
            rows.push(vec![
                place.host.to_owned(),
                node.name.to_string(),
                shown,
                rtt,
            ]);
        }
    }
    report.table("mesh", &rows);
    report.check(
        "direct where the NATs allow it, relayed between boreas and cygnus",
        as_expected,
    );
    Ok(())
}

fn partition(report: &mut Report, scene: &Scene, canary: &proof::Canary) -> anyhow::Result<()> {
    let others: Vec<_> = PLACES
        .iter()
        .filter(|place| place.host != CUT_OFF)
        .collect();
    let lost = replicas_on(scene, CUT_OFF)?;
    scene.cut(CUT_OFF)?;
    report.note(format!("{CUT_OFF} is cut off"));
    for (place, name) in others.iter().zip([
        "the service answers in full from atlas",
        "the service answers in full from boreas",
    ]) {
        let answers = report.step(name, Whose::Engines, |_| {
            calls::until_full_without(scene, place.host, REPLICAS, &lost, canary, LATER)
        })?;
        report.note(format!("   {}", answers.summary()));
    }
    report.check("three replicas answer on the sites that are left", true);
    let before: BTreeSet<_> = replicas_on(scene, CUT_OFF)?;
    scene.heal(CUT_OFF)?;
    report.note(format!(
        "{CUT_OFF} is back; Swarm does not rebalance by itself: the agent does"
    ));
    let returned = report.step("a replica on cygnus answers again", Whose::Engines, |_| {
        calls::until_answer_from(scene, CONTROLLER, CUT_OFF, &before, canary, LATER)
    })?;
    report.note(format!("   {}", returned.summary()));
    report.check("the returned site serves again", true);
    Ok(())
}

/// Returns the ids of the replicas that run on a host, as its own engine tells.
fn replicas_on(scene: &Scene, host: &str) -> anyhow::Result<BTreeSet<String>> {
    engines::replicas(scene, host, STACK)
}

fn nodes_of_tasks(status: &Status) -> BTreeSet<String> {
    let tasks = status
        .stacks
        .iter()
        .flat_map(|stack| &stack.services)
        .flat_map(|service| &service.tasks)
        .filter(|task| task.healthy);
    tasks.map(|task| task.node.to_string()).collect()
}

/// Looks until `holds`, or fails after `within`.
fn until(
    within: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let outcome = holds();
        if let Ok(true) = outcome {
            return Ok(());
        }
        if within < began.elapsed() {
            outcome.with_context(|| format!("waited {} s for {what}", within.as_secs()))?;
            bail!("waited {} s for {what}", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Fails unless a command succeeded.
pub(crate) fn expect_success(what: &str, output: &scene::Output) -> anyhow::Result<()> {
    ensure!(output.success, "{what} failed: {}", output.stderr.trim());
    Ok(())
}
