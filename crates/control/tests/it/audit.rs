//! Audit devices at work: several at once, ones that hang, ones that are gone.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use bastide_control::core::refusal::Refusal;
use bastide_control::core::request::Operation::{Delete, Read, Update};
use bastide_control::run::dev::{self, DevServer};
use bastide_control::run::plane::Plane;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::disk::chained;

async fn started() -> DevServer {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    dev::start(any, None).await.unwrap()
}

async fn write(plane: &Plane, path: &str, data: Value) -> Result<(), Refusal> {
    let Value::Object(data) = data else {
        unreachable!("it was made as an object")
    };
    plane.ask(Update, path, data).await.map(drop)
}

async fn read(plane: &Plane, path: &str) -> Result<Map<String, Value>, Refusal> {
    let found = plane.ask(Read, path, Map::new()).await?;
    Ok(found.data.unwrap_or_default())
}

fn file_device(path: &Path) -> Value {
    json!({ "type": "file", "options": { "file_path": path } })
}

/// Waits for what another thread does.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_device_has_every_request_under_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.log"), folder.path().join("b.log"));
    let dev = started().await;
    let plane = dev.server.plane().clone();
    write(&plane, "sys/audit/a", file_device(&a)).await.unwrap();
    write(&plane, "sys/audit/b", file_device(&b)).await.unwrap();
    let secret = json!({ "data": { "password": "CANARY" } });
    write(&plane, "secret/data/x", secret).await.unwrap();
    read(&plane, "secret/data/x").await.unwrap();
    read(&plane, "secret/data/absent").await.unwrap_err();
    let mut hashes = Vec::new();
    for log in [&a, &b] {
        let records = chained(std::slice::from_ref(log));
        let of = |path: &str| -> Vec<&Value> {
            let about = records.iter().filter(|it| it["request"]["path"] == path);
            about.collect()
        };
        assert_eq!(of("secret/data/x").len(), 4, "two requests, two lines each");
        let refused = of("secret/data/absent");
        assert_eq!(refused[1]["error"], "not found");
        assert!(!std::fs::read_to_string(log).unwrap().contains("CANARY"));
        hashes.push(of("secret/data/x")[0]["request"]["data"]["data"]["password"].clone());
    }
    assert_ne!(hashes[0], hashes[1]);
    let input = Map::from_iter([("input".to_owned(), json!("CANARY"))]);
    let told = plane.ask(Update, "sys/audit-hash/b", input).await.unwrap();
    assert_eq!(told.data.unwrap()["hash"], hashes[1]);
    // A device that was disabled hears no more; the others do.
    plane.ask(Delete, "sys/audit/b", Map::new()).await.unwrap();
    read(&plane, "secret/data/x").await.unwrap();
    let last = |log: &Path| chained(&[log.to_owned()]).pop().unwrap()["request"]["path"].clone();
    assert_eq!(last(&a), "secret/data/x");
    assert_ne!(last(&b), "secret/data/x");
    // Enabled again, its file goes on where it was, in one chain.
    let before = chained(std::slice::from_ref(&b)).len();
    write(&plane, "sys/audit/b", file_device(&b)).await.unwrap();
    read(&plane, "secret/data/x").await.unwrap();
    assert!(before < chained(std::slice::from_ref(&b)).len());
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_stands_in_the_record_from_the_request_on_after_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let root = bastide_api::Secret::new("headers-root".to_owned());
    let dev = dev::start(any, Some(root)).await.unwrap();
    let plane = dev.server.plane().clone();
    write(&plane, "sys/audit/a", file_device(&log))
        .await
        .unwrap();
    let ask = async || {
        let mut stream = TcpStream::connect(dev.address).await.unwrap();
        let request = "GET /v1/sys/mounts HTTP/1.1\r\nHost: x\r\nX-Vault-Token: headers-root\r\n\
                       User-Agent: judge/1\r\nX-Team: CANARY\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        let records = chained(std::slice::from_ref(&log));
        let about = |it: &&Value| it["request"]["path"] == "sys/mounts";
        records.iter().rfind(about).unwrap()["request"]["headers"].clone()
    };
    let agent = json!({ "user-agent": ["judge/1"] });
    assert_eq!(ask().await, agent);
    let path = "sys/config/auditing/request-headers/X-Team";
    write(&plane, path, json!({ "hmac": true })).await.unwrap();
    let input = Map::from_iter([("input".to_owned(), json!("CANARY"))]);
    let told = plane.ask(Update, "sys/audit-hash/a", input).await.unwrap();
    let hash = told.data.unwrap()["hash"].clone();
    assert_eq!(ask().await["x-team"], json!([hash]));
    write(&plane, path, json!({ "hmac": false })).await.unwrap();
    assert_eq!(ask().await["x-team"], json!(["CANARY"]));
    plane.ask(Delete, path, Map::new()).await.unwrap();
    assert_eq!(ask().await, agent);
    // The device was not taken for a header, nor a header for a device.
    assert_eq!(read(&plane, "sys/audit").await.unwrap().len(), 1);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("headers-root"));
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_hangs_slows_no_request_and_misses_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    let dev = started().await;
    let plane = dev.server.plane().clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let socket =
        json!({ "type": "socket", "options": { "address": address, "write_timeout": "1s" } });
    write(&plane, "sys/audit/s", socket).await.unwrap();
    write(&plane, "sys/audit/a", file_device(&log))
        .await
        .unwrap();
    // Vault's issue 5361: whoever is there accepts, and never reads.
    let (_probe, _) = listener.accept().unwrap();
    let filler = json!({ "data": { "x": vec!["y"; 500] } });
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..40 {
        let asked = Instant::now();
        write(&plane, "secret/data/x", filler.clone())
            .await
            .unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(
        slowest < Duration::from_secs(1),
        "{slowest:?} of {:?}",
        began.elapsed()
    );
    // Now it is read: all that was asked arrives, in order.
    let (stream, _) = listener.accept().unwrap();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::<u64>::new()));
    let hearing = std::sync::Arc::clone(&heard);
    std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
        {
            let record: Value = serde_json::from_str(&line).unwrap();
            hearing
                .lock()
                .unwrap()
                .push(record["seq"].as_u64().unwrap());
        }
    });
    until("all records arrive", || 82 <= heard.lock().unwrap().len()).await;
    let numbers = heard.lock().unwrap().clone();
    let first = numbers[0];
    assert!(numbers.iter().copied().eq((first..).take(numbers.len())));
    dev.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_no_device_takes_records_a_request_is_refused_before_it_has_acted() {
    let dev = started().await;
    let plane = dev.server.plane().clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let socket = json!({ "type": "socket", "options": { "address": address } });
    write(&plane, "sys/audit/s", socket).await.unwrap();
    drop(listener);
    let filler = vec!["y"; 4000];
    let mut refused = None;
    for number in 0..100 {
        let path = format!("secret/data/x{number}");
        match write(&plane, &path, json!({ "data": { "x": filler } })).await {
            Ok(()) => {}
            Err(why) => {
                refused = Some((path, why));
                break;
            }
        }
    }
    let (path, why) = refused.expect("what waits has a bound");
    assert!(matches!(why, Refusal::Unavailable(_)), "{why:?}");
    // What could not be recorded is not answered either.
    assert!(read(&plane, &path).await.is_err());
    // Whoever may can take the dead device away: then what is asked is done, and what was refused was
    // never done.
    plane.ask(Delete, "sys/audit/s", Map::new()).await.unwrap();
    let found = read(&plane, &path).await;
    assert!(matches!(found, Err(Refusal::Absent)), "{found:?}");
    dev.server.stop().await;
}
