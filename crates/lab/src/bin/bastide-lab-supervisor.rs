//! The parts of a lab that are programs of their own, for tests: the supervisor and the first
//! process of a host. In the product these are hidden verbs of `bastide`.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::process::ExitCode;

use bastide_lab::{Lab, Options, Plan};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((part, rest)) if part == "supervisor" => bastide_lab::run::supervisor_main(rest),
        Some((part, rest)) if part == "init" => bastide_lab::run::init_main(rest),
        Some((part, [state, file])) if part == "hold" => hold(state, file),
        _ => ExitCode::from(2),
    }
}

/// Brings a lab up, tells its control group, and holds it until standard input ends: what a test
/// needs to kill.
fn hold(state: &str, file: &str) -> ExitCode {
    let Ok(text) = std::fs::read_to_string(file) else {
        return ExitCode::from(2);
    };
    let Ok(program) = std::env::current_exe() else {
        return ExitCode::from(2);
    };
    let options = Options {
        state_root: state.into(),
        program,
        before: Vec::new(),
    };
    let Ok(plan) = Plan::parse(&text) else {
        return ExitCode::from(2);
    };
    let Ok(lab) = Lab::up(plan, &options) else {
        return ExitCode::FAILURE;
    };
    let mut out = io::stdout();
    let told = writeln!(out, "{}", lab.control_group()).and_then(|()| out.flush());
    if told.is_err() || io::stdin().read_to_end(&mut Vec::new()).is_err() || lab.down().is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
