//! Hosts whose clocks are wrong, and clocks that jump.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bastide_linux::clock;

use crate::site::{BASTIDE, Folder};
use crate::timing::{HOUR_MS, TestClock};

/// What a development server says the time is, in seconds since 1970.
fn time_of_a_server(clock: &TestClock) -> u64 {
    let mut server = Command::new(BASTIDE)
        .args(["server", "--dev", "--listen", "127.0.0.1:0"])
        .env(TestClock::VARIABLE, clock.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("VAULT_ADDR='http://")?;
        Some(rest.trim_end_matches('\'').to_owned())
    });
    let mut stream = TcpStream::connect(address.unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let question = "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["server_time_utc"].as_u64().unwrap()
}

/// The other half of this test is a build without the feature, which nothing in the gate makes twice:
/// `cargo test -p bastide --test it variable`.
#[test]
fn the_variable_that_sets_the_clock_is_obeyed_only_by_programs_built_for_tests() {
    let folder = Folder::new();
    let clock = TestClock::new(&folder);
    clock.set_wall(HOUR_MS);
    let ahead = time_of_a_server(&clock).saturating_sub(clock::wall().as_secs());
    if cfg!(feature = "clock-shift") {
        assert!((3540..=3600).contains(&ahead), "ahead by {ahead} s");
    } else {
        assert_eq!(ahead, 0);
    }
}
