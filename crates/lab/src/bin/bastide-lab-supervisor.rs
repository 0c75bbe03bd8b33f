//! The parts of a lab that are programs of their own, for tests: the supervisor and the first
//! process of a host. In the product these are hidden verbs of `bastide`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((part, rest)) if part == "supervisor" => bastide_lab::run::supervisor_main(rest),
        Some((part, rest)) if part == "init" => bastide_lab::run::init_main(rest),
        _ => ExitCode::from(2),
    }
}
