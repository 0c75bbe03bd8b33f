//! `bastide lab`: virtual networks on this machine.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use bastide_lab::run::{init_main, supervisor_main};
use bastide_lab::{Fault, Lab, Options, Plan, Which};
use bastide_linux::file;
use bastide_linux::spawn::Command;

use crate::cli::{LabPart, LabVerb};
use crate::exit::{Exit, Failure};
use crate::{output, privilege};

/// Where labs keep their state while they are up.
pub const STATE_ROOT: &str = "/run/bastide-lab";
/// Longest file of a lab, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How this program brings labs up.
pub fn options() -> anyhow::Result<Options> {
    Ok(Options {
        state_root: STATE_ROOT.into(),
        program: std::env::current_exe().context("could not find this program")?,
        before: vec!["lab-part".to_owned()],
    })
}

/// Runs a verb on a lab.
pub fn run(verb: LabVerb) -> anyhow::Result<ExitCode> {
    privilege::require_root("bastide lab")?;
    for removed in bastide_lab::sweep(Path::new(STATE_ROOT))? {
        output::note(format!("removed what an earlier lab left: {removed}"));
    }
    match verb {
        LabVerb::Up { file } => {
            let plan = read(&file)?;
            let lab = Lab::up(plan, &options()?)?;
            output::note(format!("lab `{}` is up", lab.plan().name()));
            lab.keep()?;
        }
        LabVerb::Exec {
            file,
            node,
            command,
        } => return exec(&file, &node, &command),
        LabVerb::Cut { file, link } => attach(&file)?.cut(&link)?,
        LabVerb::Heal { file, link } => attach(&file)?.heal(&link)?,
        LabVerb::Fault {
            file,
            node,
            longer_than,
            lose,
            to,
        } => attach(&file)?.fault(&node, &faults(longer_than, lose, to))?,
        LabVerb::Status { file, format } => {
            let status = attach(&file)?.status()?;
            if format.json {
                output::data(serde_json::to_string(&status).context("could not print the status")?);
                return Ok(ExitCode::SUCCESS);
            }
            for node in &status.nodes {
                let state = if node.alive { "" } else { " DEAD" };
                output::data(format!("{} ({}){state}", node.name, node.kind));
                for link in &node.links {
                    let cut = if link.cut { " CUT" } else { "" };
                    output::data(format!("  {} {}{cut}", link.link, link.addresses.join(" ")));
                }
            }
        }
        LabVerb::Down { file } => {
            let lab = attach(&file)?;
            let name = lab.plan().name().to_string();
            lab.down()?;
            output::note(format!("lab `{name}` is down"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The faults that were asked for: nothing but an address is all that goes there.
fn faults(longer_than: Option<u16>, lose: Option<u8>, to: Option<IpAddr>) -> Vec<Fault> {
    let longer = longer_than.map(Which::LongerThan);
    let mut which: Vec<Which> = longer.into_iter().chain(lose.map(Which::Percent)).collect();
    if which.is_empty() && to.is_some() {
        which.push(Which::All);
    }
    which.into_iter().map(|which| Fault { which, to }).collect()
}

/// Runs a part of a lab, which this program started itself as.
pub fn part(part: LabPart) -> ExitCode {
    match part {
        LabPart::Supervisor { arguments } => supervisor_main(&arguments),
        LabPart::Init { arguments } => init_main(&arguments),
    }
}

fn exec(file: &Path, node: &str, words: &[String]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = words.split_first().context("a command has a name")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let status = attach(file)?.exec(node, command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(Exit::Failed.into(), ExitCode::from))
}

fn attach(file: &Path) -> anyhow::Result<Lab> {
    let plan = read(file)?;
    let lab = Lab::attach(plan.name().as_str(), Path::new(STATE_ROOT));
    lab.map_err(|error| {
        let hint = format!("bastide lab up {}", file.display());
        anyhow::Error::new(error).context(
            Failure::new(
                Exit::Unreachable,
                format!("lab `{}` is not up", plan.name()),
            )
            .hint(hint),
        )
    })
}

fn read(file: &Path) -> anyhow::Result<Plan> {
    let shown = file.display();
    let bytes = file::read_bounded(file, FILE_BYTES_MAX)
        .with_context(|| format!("could not read `{shown}`"))?
        .ok_or_else(|| Failure::new(Exit::Usage, format!("no file `{shown}`")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format!("`{shown}` is not UTF-8")))?;
    Plan::parse(&text)
        .map_err(|error| Failure::new(Exit::Usage, format!("`{shown}`: {error}")).into())
}
