//! Requests as programs of other protocols make them: bodies as forms, a client's secret as a basic
//! authorisation (RFC 6749, section 2.3.1).

use data_encoding::BASE64;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::core::path::{ApiPath, percent_decode};
use crate::core::request::Operation;

/// Most fields of a form.
const FIELDS_MAX: usize = 256;

/// Returns whether a body is a form: it says so, and does not look like JSON. Programs such as curl
/// say of any body that it is a form.
pub fn is_form(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    kind == Some("application/x-www-form-urlencoded")
        && first.is_some_and(|first| !b"{[".contains(first))
}

/// Reads a form's fields; of repeated ones the last. `None` if it is no form.
pub fn fields(body: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut fields = Map::new();
    for pair in text.trim().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.insert(decoded(name)?, decoded(value)?.into());
        if FIELDS_MAX < fields.len() {
            return None;
        }
    }
    Some(fields)
}

fn decoded(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " ")).ok()
}

/// Puts a client's id and secret, where they come as a basic authorisation to an OIDC provider's
/// token endpoint, among the fields. Both are decoded as a form's fields are.
pub fn take_client(
    headers: &HeaderMap,
    operation: Operation,
    path: &ApiPath,
    data: &mut Map<String, Value>,
) {
    let path = path.as_str();
    let is_token_endpoint = operation == Operation::Update
        && path.starts_with("identity/oidc/provider/")
        && path.ends_with("/token");
    if !is_token_endpoint {
        return;
    }
    let shown = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let Some(shown) = shown.and_then(|shown| shown.strip_prefix("Basic ")) else {
        return;
    };
    let text = BASE64.decode(shown.trim().as_bytes()).ok();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((id, secret)) = text.as_deref().and_then(|text| text.split_once(':')) else {
        return;
    };
    if let (Some(id), Some(secret)) = (decoded(id), decoded(secret)) {
        data.insert("client_id".to_owned(), id.into());
        data.insert("client_secret".to_owned(), secret.into());
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use serde_json::json;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap();
        HeaderMap::from_iter([(name.parse().unwrap(), value)])
    }

    #[test]
    fn a_form_is_read_as_fields_and_json_that_calls_itself_a_form_is_json() {
        let form = headers(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        assert!(is_form(&form, b"a=1"));
        assert!(!is_form(&form, b" {\"a\": 1}"));
        assert!(!is_form(&form, b""));
        assert!(!is_form(
            &headers("content-type", "application/json"),
            b"a=1"
        ));
        let read = fields(b"code=a%2Bb+c&code=last&empty=&bare").unwrap();
        let expected = json!({ "code": "last", "empty": "", "bare": "" });
        assert_eq!(Value::Object(read), expected);
        assert_eq!(fields(b"a=%zz"), None);
        assert_eq!(fields(&[0xff]), None);
        let many: Vec<String> = (0..1_000).map(|n| format!("a{n}=1")).collect();
        assert_eq!(fields(many.join("&").as_bytes()), None);
    }

    #[test]
    fn a_basic_authorisation_is_a_client_at_the_token_endpoint_alone() {
        let basic = format!("Basic {}", BASE64.encode(b"my%20app:s%3Acret:x"));
        let headers = headers("authorization", &basic);
        let taken = |operation, path: &str| {
            let mut data = Map::new();
            let path = ApiPath::parse(path).unwrap();
            take_client(&headers, operation, &path, &mut data);
            Value::Object(data)
        };
        let endpoint = "identity/oidc/provider/default/token";
        let expected = json!({ "client_id": "my app", "client_secret": "s:cret:x" });
        assert_eq!(taken(Operation::Update, endpoint), expected);
        assert_eq!(taken(Operation::Read, endpoint), json!({}));
        assert_eq!(taken(Operation::Update, "secret/data/token"), json!({}));
    }
}
