//! Waiting for a browser that comes back from where a person logged in (RFC 8252, section 7.3).
//!
//! Whatever runs on this host, and every page that a browser shows, can knock here. So what comes back
//! counts only if it names the login that was begun; all else is turned away, and the waiting goes on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use bastide_control::core::path::percent_decode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

/// Where a browser comes back to, as for Vault's own program.
const PATH: &str = "/oidc/callback";
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 32 << 10;
/// How long a request may take. Browsers open connections ahead of use.
const REQUEST_WITHIN: Duration = Duration::from_secs(60);
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 32;

/// A place on loopback where a browser is waited for.
pub struct Waiting {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
}

/// A browser that came back.
pub struct Returned {
    /// What it brought.
    pub fields: BTreeMap<String, String>,
    stream: TcpStream,
}

/// What was read of a request so far.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// Not all of it.
    Part,
    /// It is for something else.
    Elsewhere,
    /// A browser comes back with this.
    Back(BTreeMap<String, String>),
}

impl Waiting {
    /// Listens; 0 is a port of the kernel's choice.
    pub async fn at(port: u16) -> anyhow::Result<Self> {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let v4 = bound.with_context(|| format!("could not listen on port {port} of loopback"))?;
        let port = v4
            .local_addr()
            .context("could not ask for the port")?
            .port();
        // A browser may know `localhost` by either address; the code is worth nothing to another.
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
        Ok(Self { v4, v6, port })
    }

    /// Returns where the browser is to go back to.
    pub fn address(&self) -> String {
        format!("http://localhost:{}{PATH}", self.port)
    }

    /// Waits for the browser of the login whose state this is.
    pub async fn wait(&self, state: &str) -> anyhow::Result<Returned> {
        let mut reading: JoinSet<Option<Returned>> = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.accept(), if reading.len() < CONNECTIONS_MAX => {
                    let stream = accepted.context("could not take the browser's connection")?;
                    let state = state.to_owned();
                    reading.spawn(async move {
                        timeout(REQUEST_WITHIN, read(stream, &state)).await.ok().flatten()
                    });
                }
                Some(done) = reading.join_next() => {
                    if let Ok(Some(returned)) = done {
                        return Ok(returned);
                    }
                }
            }
        }
    }

    async fn accept(&self) -> std::io::Result<TcpStream> {
        let second = async {
            match &self.v6 {
                Some(v6) => v6.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, _) = tokio::select! {
            accepted = self.v4.accept() => accepted?,
            accepted = second => accepted?,
        };
        Ok(stream)
    }
}

impl Returned {
    /// Returns a field that came once.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Tells the person what became of it.
    pub async fn tell(mut self, is_in: bool) {
        let (status, text) = if is_in {
            ("200 OK", "You are logged in. This window can be closed.")
        } else {
            ("403 Forbidden", "Nobody was logged in: see the terminal.")
        };
        answer(&mut self.stream, status, text).await;
    }
}

async fn read(mut stream: TcpStream, state: &str) -> Option<Returned> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Read::Part if bytes.len() < REQUEST_BYTES_MAX => {
                let mut more = [0; 4096];
                match stream.read(&mut more).await {
                    Ok(count) if count != 0 => bytes.extend_from_slice(&more[..count]),
                    _ => return None,
                }
            }
            Read::Part => {
                answer(&mut stream, "413 Content Too Large", "That is too long.").await;
                return None;
            }
            Read::Elsewhere => {
                answer(&mut stream, "404 Not Found", "There is nothing here.").await;
                return None;
            }
            // Another's login is not this one (RFC 6749, section 10.12).
            Read::Back(fields) if fields.get("state").map(String::as_str) != Some(state) => {
                let text = "This is not the login that is waited for.";
                answer(&mut stream, "400 Bad Request", text).await;
                return None;
            }
            Read::Back(fields) => return Some(Returned { fields, stream }),
        }
    }
}

/// Answers with a page that holds nothing of what was asked.
async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let body = format!("<!doctype html><title>bastide</title><p>{text}</p>\n");
    let page = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let written = async {
        stream.write_all(page.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = timeout(Duration::from_secs(5), written).await;
}

/// Reads a request: of a query, or of a form that was posted (OAuth 2.0 Form Post Response Mode).
fn parse(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Read::Part;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return Read::Elsewhere;
    };
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Read::Elsewhere;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != PATH || !version.starts_with("HTTP/1.") {
        return Read::Elsewhere;
    }
    let back = |text: &str| fields(text).map_or(Read::Elsewhere, Read::Back);
    match method {
        "GET" => back(query),
        "POST" => {
            let length = lines.find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().ok())?
            });
            let Some(length) = length.filter(|it| *it <= REQUEST_BYTES_MAX) else {
                return Read::Elsewhere;
            };
            match bytes[end + 4..].get(..length).map(std::str::from_utf8) {
                None => Read::Part,
                Some(Ok(form)) => back(form),
                Some(Err(_)) => Read::Elsewhere,
            }
        }
        _ => Read::Elsewhere,
    }
}

/// Reads the fields of a query or form; `None` if it is none, or one comes twice.
pub fn fields(text: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_decode(&text.replace('+', " ")).ok();
        if fields.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests;
