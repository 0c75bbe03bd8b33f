use std::sync::atomic::{AtomicUsize, Ordering};

use bastide_client::TaskGroup;
use bastide_pki::x509::pem;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::core::outside::{Form, unwrapped};
use crate::run::trust::fixture::certificate;

/// A server that gives one answer to whoever asks, and counts.
struct Place {
    url: String,
    ca_pem: String,
    asked: Arc<AtomicUsize>,
    /// What was sent, of each request.
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: TaskGroup,
}

fn clock() -> Clock {
    Clock::leading(None)
}

async fn place(name: &str, answer: Vec<u8>) -> Place {
    let (key, der) = certificate(name.parse().unwrap());
    let ca_pem = pem("CERTIFICATE", &der);
    let key = PrivateKeyDer::try_from(key.pkcs8().unwrap().expose().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_details(
        provider,
        Arc::new(bastide_client::ByClock(clock())),
    )
    .with_protocol_versions(rustls::ALL_VERSIONS)
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![CertificateDer::from(der)], key)
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/keys?a=b", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heard);
    let mut tasks = TaskGroup::new();
    tasks.spawn("place", async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            noted.lock().unwrap().push(text);
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        Ok::<_, std::convert::Infallible>(())
    });
    Place {
        url,
        ca_pem,
        asked,
        heard,
        _tasks: tasks,
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn fetch(place: &Place, age: Age) -> Fetch {
    Fetch {
        url: place.url.clone(),
        ca_pem: place.ca_pem.clone(),
        age,
        ask: Ask::Read,
    }
}

async fn got(fetcher: &Fetcher, fetch: Fetch) -> Result<String, String> {
    let result = fetcher.fetch(fetch, &clock()).await.unwrap();
    unwrapped(&result)
        .map(|body| String::from_utf8(body.to_vec()).unwrap())
        .map_err(str::to_owned)
}

#[tokio::test]
async fn a_document_is_fetched_once_for_a_while_and_anew_when_that_is_asked_for() {
    let place = place("127.0.0.1", ok("{}")).await;
    let fetcher = Fetcher::default();
    for (age, asked) in [
        (Age::Minutes, 1),
        (Age::Minutes, 1),
        (Age::Fresh, 2),
        // Something may be missing in it, but it is seconds old.
        (Age::Seconds, 2),
    ] {
        assert_eq!(got(&fetcher, fetch(&place, age)).await.as_deref(), Ok("{}"));
        assert_eq!(place.asked.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn what_is_asked_for_with_a_secret_is_for_one_request_alone() {
    let place = place("127.0.0.1", ok("{}")).await;
    let fetcher = Fetcher::default();
    let secret = |text: &str| Secret::new(text.to_owned());
    let form = |basic| Form {
        fields: vec![
            ("grant_type", secret("authorization_code")),
            ("code", secret("a b&c")),
        ],
        basic,
    };
    for (number, ask) in [
        Ask::Post(form(Some(("me:you".to_owned(), secret("a/b %"))))),
        Ask::Post(form(None)),
        Ask::Bearer(secret("access")),
        Ask::Bearer(secret("access")),
        Ask::Read,
    ]
    .into_iter()
    .enumerate()
    {
        // However old an answer may be.
        let fetch = Fetch {
            ask,
            ..fetch(&place, Age::Minutes)
        };
        assert_eq!(got(&fetcher, fetch).await.as_deref(), Ok("{}"));
        assert_eq!(place.asked.load(Ordering::SeqCst), number + 1);
    }
    let heard = place.heard.lock().unwrap().clone();
    let basic = BASE64.encode(b"me%3Ayou:a%2Fb%20%25");
    assert!(
        heard[0].starts_with("POST /keys?a=b HTTP/1.1\r\n"),
        "{}",
        heard[0]
    );
    assert!(heard[0].contains(&format!("authorization: Basic {basic}\r\n")));
    for posted in &heard[..2] {
        assert!(posted.ends_with("\r\n\r\ngrant_type=authorization_code&code=a%20b%26c"));
    }
    assert!(!heard[1].contains("authorization:"));
    assert!(heard[2].contains("authorization: Bearer access\r\n"));
    assert!(heard[4].starts_with("GET ") && !heard[4].contains("authorization:"));
    // What does not fit a header is not sent.
    let broken = Fetch {
        ask: Ask::Bearer(secret("a\r\nb")),
        ..fetch(&place, Age::Fresh)
    };
    let refused = got(&fetcher, broken).await.unwrap_err();
    assert!(refused.contains("does not fit a header"), "{refused}");
    assert_eq!(place.asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn why_a_form_is_refused_is_told_in_one_word_and_nothing_else_of_the_answer() {
    let answer = |body: &str| {
        let length = body.len();
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-length:";
        format!("{head} {length}\r\n\r\n{body}").into_bytes()
    };
    let long = format!(
        r#"{{"error":"invalid_grant","more":"{}"}}"#,
        "x".repeat(5000)
    );
    for (body, why) in [
        (
            r#"{"error":"invalid_grant","error_description":"CANARY"}"#,
            "it answered 400 (invalid_grant)",
        ),
        (r#"{"error":"CANARY"}"#, "it answered 400"),
        (r#"{"error":"a b"}"#, "it answered 400"),
        (r#"["CANARY"]"#, "it answered 400"),
        ("", "it answered 400"),
        (&long, "it answered 400"),
    ] {
        let place = place("127.0.0.1", answer(body)).await;
        let form = Form {
            fields: Vec::new(),
            basic: None,
        };
        let post = Fetch {
            ask: Ask::Post(form),
            ..fetch(&place, Age::Fresh)
        };
        assert_eq!(got(&Fetcher::default(), post).await, Err(why.to_owned()));
    }
}

#[tokio::test]
async fn the_name_of_this_host_is_this_host_and_needs_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = TaskGroup::new();
    tasks.spawn("plain", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&ok("here")).await;
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let at = |host: &str| Fetch {
        url: format!("http://{host}:{port}/"),
        ca_pem: String::new(),
        age: Age::Fresh,
        ask: Ask::Read,
    };
    let fetcher = Fetcher::default();
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(got(&fetcher, at(host)).await.as_deref(), Ok("here"));
    }
    for host in ["localhost.example", "alocalhost", "localhost."] {
        let refused = got(&fetcher, at(host)).await.unwrap_err();
        assert!(refused.contains("not `https://"), "{host}: {refused}");
    }
}

#[tokio::test]
async fn a_server_must_be_the_one_that_is_trusted_under_the_name_it_is_asked_by() {
    let fetcher = Fetcher::default();
    let place_ = place("127.0.0.1", ok("{}")).await;
    let other = place("127.0.0.1", ok("{}")).await;
    let wrong_ca = Fetch {
        ca_pem: other.ca_pem.clone(),
        ..fetch(&place_, Age::Fresh)
    };
    assert!(
        got(&fetcher, wrong_ca)
            .await
            .unwrap_err()
            .starts_with("no TLS")
    );
    let both = Fetch {
        ca_pem: format!("{}\n{}", other.ca_pem, place_.ca_pem),
        ..fetch(&place_, Age::Fresh)
    };
    assert!(got(&fetcher, both).await.is_ok());
    // It is trusted, but it is somebody else.
    let elsewhere = place("192.0.2.7", ok("{}")).await;
    let refused = got(&fetcher, fetch(&elsewhere, Age::Fresh))
        .await
        .unwrap_err();
    assert!(refused.starts_with("no TLS"), "{refused}");
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_but_a_whole_answer_of_the_right_size_counts() {
    let fetcher = Fetcher::default();
    let moved = b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    for (answer, why) in [
        (moved.to_vec(), "it answered 302"),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "it answered 404",
        ),
        (ok(&"x".repeat(ANSWER_BYTES_MAX + 1)), "could not be read"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec(),
            "could not be read",
        ),
        (b"\0\0\0\0".to_vec(), "lost"),
        (Vec::new(), "lost"),
    ] {
        let place = place("127.0.0.1", answer).await;
        let refused = got(&fetcher, fetch(&place, Age::Fresh)).await.unwrap_err();
        assert!(refused.contains(why), "{refused} does not say {why}");
    }
}

#[tokio::test]
async fn what_could_be_read_or_changed_on_the_way_is_not_asked_for() {
    let fetcher = Fetcher::default();
    for url in [
        "http://id.example/keys",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user:secret@127.0.0.1/",
        "//127.0.0.1/",
        "",
        "https://",
    ] {
        let fetch = Fetch {
            url: url.to_owned(),
            ca_pem: String::new(),
            age: Age::Fresh,
            ask: Ask::Read,
        };
        assert!(
            got(&fetcher, fetch).await.unwrap_err().contains("URL"),
            "{url}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_servers_certificate_names_no_server() {
    // Whoever logs in is told why it failed: CVE-2021-3024.
    let place = place("10.66.77.88", ok("{}")).await;
    let why = got(&Fetcher::default(), fetch(&place, Age::Fresh)).await;
    let why = why.unwrap_err();
    assert_eq!(why, "no TLS: the certificate is for another name");
}

#[test]
fn a_form_is_encoded_byte_by_byte() {
    assert_eq!(encoded("a b&c=d/é~"), "a%20b%26c%3Dd%2F%C3%A9~");
}
