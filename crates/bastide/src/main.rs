//! `bastide`: the program. Parses arguments, composes the crates, prints, and exits with a code that
//! means something. It never decides: decisions live in the cores of the crates it composes.

#![forbid(unsafe_code)]

mod alias;
mod cli;
mod demo;
mod exit;
mod notify;
mod output;
mod paths;
mod privilege;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

// musl's own allocator is an order of magnitude slower with two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "clock-shift")]
    obey_test_clock();
    if let Some(code) = verbs::ssh::answer_prompt() {
        return code;
    }
    let cli = match alias::called() {
        None => cli::Cli::parse(),
        Some(alias::Meant::Verb(cli)) => *cli,
        Some(alias::Meant::Said(code)) => return code,
    };
    output::start_log(verbs::log_default(&cli.verb));
    if aws_lc_rs_provider().is_err() {
        // Only possible when a second provider was installed before: both are the same one.
        tracing::debug!("a TLS provider was installed already");
    }
    match verbs::run(cli) {
        Ok(code) => code,
        Err(error) => {
            let code = exit::code_of(&error);
            output::report(&error);
            code
        }
    }
}

/// A test sets the clock of this process.
#[cfg(feature = "clock-shift")]
fn obey_test_clock() {
    use bastide_linux::clock::shift;
    if let Some(file) = std::env::var_os(shift::VARIABLE) {
        shift::by_file(file.as_ref());
    }
}

fn aws_lc_rs_provider() -> Result<(), ()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| ())
}
