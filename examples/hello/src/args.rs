//! The arguments.

use std::time::Duration;

use crate::http::BODY_BYTES_MAX;

/// The port unless told otherwise.
pub const PORT: u16 = 8080;

/// What `hello call` is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The name or address in the URL.
    pub host: String,
    /// The port in the URL; 80 where it has none.
    pub port: u16,
    /// The path in the URL.
    pub path: String,
    /// At most so many calls.
    pub count: u32,
    /// Stop when so many replicas have answered.
    pub until_distinct: Option<usize>,
    /// How long one call may take.
    pub timeout: Duration,
    /// What is sent, and must come back.
    pub body: Vec<u8>,
}

/// Reads the arguments of `serve` and `health`.
pub fn port(words: &[String]) -> Result<u16, String> {
    let mut port = PORT;
    let mut options = Options(words.iter());
    while let Some(word) = options.next() {
        match word {
            "--port" => port = options.number(word)?,
            other => return Err(format!("`{other}` is not understood")),
        }
    }
    Ok(port)
}

/// Reads the arguments of `call`.
pub fn call(words: &[String]) -> Result<Call, String> {
    let (mut url, mut count, mut until_distinct) = (None, None, None);
    let (mut timeout_ms, mut body_bytes, mut canary) = (2000, None, Vec::new());
    let mut options = Options(words.iter());
    while let Some(word) = options.next() {
        match word {
            "--count" => count = Some(options.number(word)?),
            "--until-distinct" => until_distinct = Some(options.number(word)?),
            "--timeout-ms" => timeout_ms = options.number(word)?,
            "--body-bytes" => body_bytes = Some(options.number(word)?),
            "--canary" => canary = hex(options.value(word)?)?,
            other if other.starts_with("--") => return Err(format!("`{other}` is no option")),
            other if url.is_none() => url = Some(other.to_owned()),
            other => return Err(format!("`{other}` is too much")),
        }
    }
    let (host, port, path) = split(&url.ok_or("no URL")?)?;
    let body_bytes = body_bytes.unwrap_or(canary.len());
    if BODY_BYTES_MAX < body_bytes {
        return Err(format!("a body has at most {BODY_BYTES_MAX} bytes"));
    }
    let filler = if canary.is_empty() {
        b".".as_slice()
    } else {
        &canary
    };
    Ok(Call {
        host,
        port,
        path,
        count: count.unwrap_or(if until_distinct.is_some() { 100 } else { 1 }),
        until_distinct,
        timeout: Duration::from_millis(timeout_ms),
        // The canary throughout: whoever sees a packet of it sees it whole at least once.
        body: filler.iter().copied().cycle().take(body_bytes).collect(),
    })
}

struct Options<'a>(std::slice::Iter<'a, String>);

impl<'a> Options<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next().map(String::as_str)
    }

    fn value(&mut self, option: &str) -> Result<&'a str, String> {
        self.next()
            .ok_or_else(|| format!("`{option}` needs a value"))
    }

    fn number<T: std::str::FromStr>(&mut self, option: &str) -> Result<T, String> {
        let text = self.value(option)?;
        text.parse()
            .map_err(|_| format!("`{option} {text}`: not a number in range"))
    }
}

fn split(url: &str) -> Result<(String, u16, String), String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("a URL begins with http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (
            host,
            port.parse()
                .map_err(|_| format!("`{port}` is not a port"))?,
        ),
        None => (authority, 80),
    };
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !is_plain {
        return Err(format!("`{url}` is no URL"));
    }
    Ok((host.to_owned(), port, path.to_owned()))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let bad = || "a canary is hexadecimal, two digits a byte".to_owned();
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(bad());
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad());
    (0..text.len()).step_by(2).map(byte).collect()
}
