//! The service: any request is answered with its own body and the replica's name.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Message, REPLICA_HEADER, ReadError, write_before};

/// Requests under way at once; another one is told to come back.
pub const CONNECTIONS_MAX: usize = 64;
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Serves until it is killed.
pub fn run(port: u16) -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    println!("hello: replica {} listens on port {port}", host_name());
    serve(&listener, &host_name())
}

/// Serves a listener that is bound.
pub fn serve(listener: &TcpListener, replica: &str) -> io::Result<bool> {
    let replica: Arc<str> = replica.into();
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // The peer gave up, or descriptors ran out: neither ends the service.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (replica, open) = (Arc::clone(&replica), Arc::clone(&open));
        let is_full = CONNECTIONS_MAX <= open.fetch_add(1, Ordering::Relaxed);
        let connection = move || {
            let deadline = Instant::now() + REQUEST_MAX;
            let answer = if is_full {
                answer("503 Service Unavailable", &replica, b"busy\n")
            } else {
                handle(&mut stream, &replica, deadline)
            };
            // Whoever left before the answer does not want it.
            let _ = write_before(&mut stream, &answer, deadline);
            open.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().spawn(connection).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn handle(stream: &mut TcpStream, replica: &str, deadline: Instant) -> Vec<u8> {
    match Message::read(stream, deadline) {
        Ok(request) if request.body.is_empty() => {
            let text = format!("{{\"service\":\"hello\",\"replica\":\"{replica}\"}}\n");
            answer("200 OK", replica, text.as_bytes())
        }
        Ok(request) => answer("200 OK", replica, &request.body),
        Err(ReadError::TooLong) => answer("413 Content Too Large", replica, b"too long\n"),
        Err(ReadError::Malformed) => answer("400 Bad Request", replica, b"not understood\n"),
        Err(ReadError::Io(_)) => answer("408 Request Timeout", replica, b"incomplete\n"),
    }
}

fn answer(status: &str, replica: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{REPLICA_HEADER}: {replica}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Returns the host's name: in a container its id, unless it was given another.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-._".contains(*letter);
    let name: String = name.trim().chars().filter(is_plain).collect();
    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}
