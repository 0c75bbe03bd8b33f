//! The program in the test's image, built by the test itself: it serves, asks and waits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

const BODY_BYTES: usize = 65_536;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[1].as_str() {
        "serve" => serve(arguments[2].parse().unwrap()),
        "ask" => println!("{}", ask(&arguments[2])),
        _ => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
    }
}

/// Answers each request with the container's name and how many bytes came.
fn serve(port: u16) {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for stream in TcpListener::bind(("0.0.0.0", port)).unwrap().incoming() {
        let (Ok(mut stream), name) = (stream, name.clone()) else {
            continue;
        };
        std::thread::spawn(move || {
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body);
            let _ = write!(stream, "{} {}", name.trim(), body.len());
        });
    }
}

/// Sends 64 KiB to `host:port` and returns the answer, or why there is none.
fn ask(to: &str) -> String {
    let exchange = || {
        let to: SocketAddr = to.to_socket_addrs()?.next().unwrap();
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(&vec![7; BODY_BYTES])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    exchange().map_or_else(
        |error| format!("error: {error}"),
        |answer| format!("ok {answer}"),
    )
}
