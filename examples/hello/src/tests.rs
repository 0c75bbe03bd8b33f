//! A service and its caller over the loopback interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::{args, call, http, serve};

fn started(replica: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve::serve(&listener, replica));
    address
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Sends raw bytes and returns the first line of the answer.
fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A refused body may end in a reset once the answer was read.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer)
        .unwrap()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_body_of_64_kib_comes_back_whole_and_names_the_replica() {
    let to = started("web-1");
    let canary = "00ff".repeat(16);
    let asked = args::call(&words(&format!(
        "http://x/ --body-bytes 65536 --canary {canary}"
    )));
    let asked = asked.unwrap();
    assert_eq!(asked.body.len(), 65536);
    assert_eq!(asked.body[..4], [0, 255, 0, 255]);
    assert_eq!(call::once(&asked, to, soon()), Ok("web-1".to_owned()));
}

#[test]
fn a_body_that_comes_back_changed_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        http::Message::read(&mut stream, soon()).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nX-Replica: liar\r\nContent-Length: 2\r\n\r\nno")
            .unwrap();
    });
    let asked = args::call(&words("http://x/ --canary 0102")).unwrap();
    assert_eq!(
        call::once(&asked, to, soon()),
        Err("liar sent another body back".to_owned())
    );
}

#[test]
fn the_caller_stops_when_enough_replicas_answered_and_says_when_they_did_not() {
    let port = started("only").port();
    let enough = format!("http://127.0.0.1:{port}/ --until-distinct 1 --count 3");
    assert!(call::run(&args::call(&words(&enough)).unwrap()));
    let too_few = format!("http://127.0.0.1:{port}/ --until-distinct 2 --count 3");
    assert!(!call::run(&args::call(&words(&too_few)).unwrap()));
}

#[test]
fn requests_that_are_too_long_or_no_http_are_refused() {
    let to = started("web");
    let too_long = format!(
        "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
        1024 * 1024 + 1
    );
    assert_eq!(
        raw(to, too_long.as_bytes()),
        "HTTP/1.1 413 Content Too Large"
    );
    let endless_head = vec![b'a'; http::HEAD_BYTES_MAX + 1];
    assert_eq!(raw(to, &endless_head), "HTTP/1.1 413 Content Too Large");
    assert_eq!(
        raw(to, b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        "HTTP/1.1 400 Bad Request"
    );
    let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(raw(to, chunked), "HTTP/1.1 400 Bad Request");
    assert_eq!(raw(to, b"GET /health HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn a_service_that_does_not_answer_costs_no_more_than_the_timeout() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let asked = args::call(&words("http://x/ --timeout-ms 50")).unwrap();
    let began = Instant::now();
    assert!(call::once(&asked, to, began + asked.timeout).is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for line in [
        "https://web/",
        "http://",
        "http://web:99999/",
        "http://web/ --count x",
        "http://web/ --canary 0",
        "http://web/ --canary zz",
        "http://web/ --body-bytes 1048577",
        "http://web/ --nonsense 1",
        "http://web/ http://web/",
    ] {
        assert!(args::call(&words(line)).is_err(), "{line}");
    }
    assert_eq!(args::port(&words("--port 80")), Ok(80));
    assert!(args::port(&words("--port 65536")).is_err());
}

#[test]
fn a_line_is_json_whatever_the_error_says() {
    let to = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
    assert_eq!(
        call::line(to, 1.5, &Err("a \"b\"\n".to_owned())),
        r#"{"replica":"","to":"10.0.0.1:80","ms":1.50,"ok":false,"error":"a \"b\"\u000a"}"#
    );
    assert_eq!(
        call::line(to, 1.5, &Ok("web".to_owned())),
        r#"{"replica":"web","to":"10.0.0.1:80","ms":1.50,"ok":true}"#
    );
}
