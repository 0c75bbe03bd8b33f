//! The caller: goes round all addresses of a name and prints a JSON line for each call.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Call;
use crate::http;

/// Between a failed call and the next one, so that failures do not use up all calls in a blink.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Calls as asked. Returns whether every call came back whole, from as many replicas as asked for.
pub fn run(call: &Call) -> bool {
    let mut replicas = BTreeSet::new();
    let mut all_whole = true;
    let mut round = Vec::new();
    for _ in 0..call.count {
        let began = Instant::now();
        if round.is_empty() {
            round = resolve(call, began + call.timeout);
        }
        let to = round.pop();
        let outcome = match to {
            Some(to) => once(call, to, began + call.timeout),
            None => Err(format!("`{}` has no address", call.host)),
        };
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        println!("{}", line(to, ms, &outcome));
        let Ok(replica) = outcome else {
            all_whole = false;
            thread::sleep(PAUSE_AFTER_FAILURE);
            continue;
        };
        replicas.insert(replica);
        if call
            .until_distinct
            .is_some_and(|wanted| wanted <= replicas.len())
        {
            break;
        }
    }
    all_whole && call.until_distinct.unwrap_or(1) <= replicas.len()
}

/// One call. Returns who answered, if the whole body came back.
pub fn once(call: &Call, to: SocketAddr, deadline: Instant) -> Result<String, String> {
    let method = if call.body.is_empty() { "GET" } else { "POST" };
    let answer = http::exchange(to, &call.host, method, &call.path, &call.body, deadline)?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    if !call.body.is_empty() && answer.body != call.body {
        return Err(format!("{} sent another body back", answer.replica));
    }
    Ok(answer.replica)
}

/// Returns the name's addresses, the last one first to be called; none when it has none in time.
fn resolve(call: &Call, deadline: Instant) -> Vec<SocketAddr> {
    let (sender, receiver) = mpsc::channel();
    let (host, port) = (call.host.clone(), call.port);
    // The system's resolver takes no deadline.
    thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        let found: BTreeSet<SocketAddr> = found.into_iter().flatten().collect();
        // Nobody listens any more once the deadline has passed.
        let _ = sender.send(found);
    });
    let left = deadline.saturating_duration_since(Instant::now());
    receiver
        .recv_timeout(left)
        .unwrap_or_default()
        .into_iter()
        .rev()
        .collect()
}

/// The JSON line of a call.
pub fn line(to: Option<SocketAddr>, ms: f64, outcome: &Result<String, String>) -> String {
    let to = to.map_or_else(String::new, |to| to.to_string());
    match outcome {
        Ok(replica) => format!(
            "{{\"replica\":{},\"to\":\"{to}\",\"ms\":{ms:.2},\"ok\":true}}",
            quoted(replica)
        ),
        Err(error) => format!(
            "{{\"replica\":\"\",\"to\":\"{to}\",\"ms\":{ms:.2},\"ok\":false,\"error\":{}}}",
            quoted(error)
        ),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                quoted.extend(format!("\\u{:04x}", u32::from(letter)).chars());
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
