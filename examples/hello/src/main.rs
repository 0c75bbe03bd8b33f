//! `hello`: a web service that names its replica and sends each body back, and its own caller.
//!
//! One static program without dependencies, so that an image needs nothing beside it. It never keeps
//! anything: killing it at any moment loses nothing but the answers under way.
#![forbid(unsafe_code)]

mod args;
mod call;
mod http;
mod serve;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: hello serve [--port PORT]
       hello health [--port PORT]
       hello call URL [--count N] [--until-distinct N] [--timeout-ms MS]
                      [--body-bytes N] [--canary HEX]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[String]) -> Result<bool, String> {
    let Some((verb, rest)) = words.split_first() else {
        return Err("no verb".into());
    };
    match verb.as_str() {
        "serve" => serve::run(args::port(rest)?).map_err(|error| error.to_string()),
        "health" => Ok(is_healthy(args::port(rest)?)),
        "call" => Ok(call::run(&args::call(rest)?)),
        other => Err(format!("`{other}` is no verb")),
    }
}

fn is_healthy(port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(2);
    let address = ([127, 0, 0, 1], port).into();
    let answer = http::exchange(address, "localhost", "GET", "/health", &[], deadline);
    answer.is_ok_and(|answer| answer.status == 200)
}
