//! Where a browser may be sent back to after a login (RFC 6749, section 3.1.2; RFC 8252, section 7.3).

/// Names of this host's loopback in an address.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Returns whether a program may be called back there: an address that is registered for it, to the
/// letter; on loopback with any port (RFC 8252, section 7.3).
pub fn is_registered(asked: &str, registered: &[String]) -> bool {
    let bare = |uri: &str| -> Option<String> {
        let rest = uri.strip_prefix("http://")?;
        let host = LOOPBACK.into_iter().find(|host| rest.starts_with(host))?;
        let rest = &rest[host.len()..];
        let path = match rest.strip_prefix(':') {
            Some(port) => port.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        (path.is_empty() || path.starts_with('/')).then(|| format!("{host}{path}"))
    };
    registered
        .iter()
        .any(|uri| uri == asked || (bare(asked).is_some() && bare(uri) == bare(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_called_back_where_it_said_and_on_loopback_at_any_port() {
        let registered = [
            "https://app.test/cb".to_owned(),
            "http://127.0.0.1/cb".to_owned(),
            "http://[::1]:8080/".to_owned(),
        ];
        for good in [
            "https://app.test/cb",
            "http://127.0.0.1:4711/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9/",
        ] {
            assert!(is_registered(good, &registered), "{good}");
        }
        for wrong in [
            "https://app.test/cb?x=1",
            "https://app.test/cb#x",
            "https://app.test/cb/",
            "https://app.test/CB",
            "https://app.test/%63b",
            "https://app.test:8443/cb",
            "https://app.test.evil.test/cb",
            "http://127.0.0.1.evil.test/cb",
            "http://127.0.0.1:80@evil.test/cb",
            "http://127.0.0.1:4711/other",
            "http://127.0.0.1:4711/cb?x=1",
            "https://127.0.0.1/cb",
            "http://localhost/cb",
            "",
        ] {
            assert!(!is_registered(wrong, &registered), "{wrong}");
        }
    }
}
