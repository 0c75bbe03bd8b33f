//! The text of records, written straight from request and answer into one buffer.

use std::sync::Arc;

use bastide_api::UnixTime;
use serde_json::{Map, Value};

use super::headers::{Headers, Shown, VALUE_BYTES_MAX, VALUES_MAX};
use super::{Audited, Hasher};
use crate::core::engine::Caller;
use crate::core::pipeline::Envelope;
use crate::core::reply::timestamp;
use crate::core::request::{Operation, Request};

/// Bytes that the two lines of a usual request take.
const LINES_BYTES: usize = 2048;

/// Bytes of a keyed hash in a line.
const HASHED_BYTES: usize = 80;

/// A token and its accessor as lines show them: several fields do, and they are hashed once.
struct Bearer {
    token: Option<Vec<u8>>,
    accessor: Option<Vec<u8>>,
}

/// The records of a request and of its answer, each without its last brace: number and chain are
/// still missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    text: Vec<u8>,
    /// Where the second begins.
    middle: usize,
}

impl Lines {
    /// Two lines as a test wants them.
    #[cfg(test)]
    pub(crate) fn of(asked: &[u8], answered: &[u8]) -> Self {
        Self {
            text: [asked, answered].concat(),
            middle: asked.len(),
        }
    }

    /// Returns the beginnings of both lines.
    pub fn each(&self) -> [&[u8]; 2] {
        let (asked, answered) = self.text.split_at(self.middle);
        [asked, answered]
    }
}

/// How one device records.
pub struct Recorder {
    /// Hashes what must not show.
    pub hasher: Hasher,
    /// Whether accessors are hashed as well.
    pub hides_accessors: bool,
    /// Whether the answers of lists are recorded as their lengths.
    pub elides_lists: bool,
    /// Which headers of requests it records.
    pub headers: Arc<Headers>,
}

impl Recorder {
    /// Returns what records as a device does whose options say nothing.
    pub fn usual(hasher: Hasher) -> Self {
        Self {
            hasher,
            hides_accessors: true,
            elides_lists: false,
            headers: Arc::default(),
        }
    }

    /// Records a request and its answer; `answer`: what was granted, if it was.
    pub fn lines(
        &self,
        about: &Audited,
        request: &Request,
        answer: Option<&Envelope>,
        now: UnixTime,
    ) -> Lines {
        let mut text = Vec::with_capacity(LINES_BYTES);
        let who = self.bearer(about, request);
        let time = timestamp(now);
        text.extend_from_slice(b"{\"time\":\"");
        text.extend_from_slice(time.as_bytes());
        text.extend_from_slice(b"\",\"type\":\"request\",\"auth\":");
        let shared_at = text.len();
        Self::auth(about, &who, &mut text);
        text.extend_from_slice(b",\"request\":");
        self.request(about, request, &who, &mut text);
        if let Some(error) = about.error {
            text.extend_from_slice(b",\"error\":");
            string(error, &mut text);
        }
        let middle = text.len();
        // Both lines say the same of who asked what; its hashes are made once.
        text.extend_from_slice(b"{\"time\":\"");
        text.extend_from_slice(time.as_bytes());
        text.extend_from_slice(b"\",\"type\":\"response\",\"auth\":");
        text.extend_from_within(shared_at..middle);
        if let Some(answer) = answer {
            text.extend_from_slice(b",\"response\":");
            self.answer(about, answer, &mut text);
        }
        Lines { text, middle }
    }

    /// Hashes what two fields of a line say of the token.
    fn bearer(&self, about: &Audited, request: &Request) -> Bearer {
        let token = request.token.as_ref().map(|text| {
            let mut out = Vec::with_capacity(HASHED_BYTES);
            self.hashed(text.expose(), &mut out);
            out
        });
        // Batch tokens have none.
        let accessor = about
            .caller
            .token()
            .filter(|token| !token.accessor.is_empty())
            .map(|token| {
                let mut out = Vec::with_capacity(HASHED_BYTES);
                if self.hides_accessors {
                    self.hashed(&token.accessor, &mut out);
                } else {
                    string(&token.accessor, &mut out);
                }
                out
            });
        Bearer { token, accessor }
    }

    /// Writes the keyed hash of a text.
    fn hashed(&self, text: &str, out: &mut Vec<u8>) {
        out.push(b'"');
        self.hasher.hash_into(text, out);
        out.push(b'"');
    }

    fn auth(about: &Audited, who: &Bearer, out: &mut Vec<u8>) {
        let mut fields = Object::begin(out);
        match &about.caller {
            Caller::Nobody => {}
            Caller::Program => {
                fields.text("display_name", "bastide");
                fields.texts("policies", &["root"]);
            }
            Caller::Machine(identity) => {
                fields.text("display_name", &identity.node().to_string());
                fields.text("token_type", "certificate");
            }
            Caller::Token(token) => {
                fields.raw_if("client_token", who.token.as_deref());
                fields.raw_if("accessor", who.accessor.as_deref());
                fields.text("display_name", &token.display_name);
                fields.texts("policies", &token.policies);
                fields.texts("token_policies", &token.policies);
                if let Some(meta) = &token.meta {
                    fields.plain("metadata", meta);
                }
                if !token.entity_id.is_empty() {
                    fields.text("entity_id", &token.entity_id);
                }
                fields.text("token_type", token.kind.as_str());
            }
        }
        fields.end();
    }

    fn request(&self, about: &Audited, request: &Request, who: &Bearer, out: &mut Vec<u8>) {
        let mut fields = Object::begin(out);
        fields.text("id", &request.id);
        fields.text("operation", about.operation.as_str());
        if let Some(mount) = &about.mount {
            fields.text("mount_point", mount.path.as_str());
            fields.text("mount_type", &mount.kind);
            fields.text("mount_accessor", &mount.accessor);
            fields.text(
                "mount_class",
                if mount.is_auth() { "auth" } else { "secret" },
            );
        }
        fields.raw_if("client_token", who.token.as_deref());
        fields.raw_if("client_token_accessor", who.accessor.as_deref());
        fields.raw("namespace", b"{\"id\":\"root\"}");
        fields.text("path", request.path.as_str());
        if let Some(address) = request.peer.address {
            fields.plain("remote_address", &address.ip());
            fields.plain("remote_port", &address.port());
        }
        if let Some(wrap) = request.wrap {
            fields.plain("wrap_ttl", &wrap.as_secs());
        }
        self.headers(&mut fields, request);
        if !request.data.is_empty() {
            let clear = about
                .mount
                .as_ref()
                .map(|mount| mount.config.audit_non_hmac_request_keys.as_slice());
            self.data(&mut fields, &request.data, clear.unwrap_or_default());
        }
        fields.end();
    }

    /// The headers that are to be recorded, of those that came.
    fn headers(&self, fields: &mut Object<'_>, request: &Request) {
        let each = self.headers.0.iter();
        let mut came = each
            .filter(|(name, _)| request.headers.contains_key(name.as_str()))
            .peekable();
        if came.peek().is_none() {
            return;
        }
        let mut inner = Object::begin(fields.name("headers"));
        for (name, shown) in came {
            let out = inner.name(name);
            out.push(b'[');
            let values = request.headers.get_all(name.as_str()).iter();
            for (at, value) in values.take(VALUES_MAX).enumerate() {
                if at != 0 {
                    out.push(b',');
                }
                let value = String::from_utf8_lossy(value.as_bytes());
                match shown {
                    Shown::Clear => string(cut(&value), out),
                    Shown::Hashed => self.hashed(&value, out),
                }
            }
            out.push(b']');
        }
        inner.end();
    }

    fn answer(&self, about: &Audited, answer: &Envelope, out: &mut Vec<u8>) {
        let mut fields = Object::begin(out);
        if let Some(Value::Object(auth)) = &answer.auth {
            self.granted(fields.name("auth"), auth);
        }
        if let Some(mount) = &about.mount {
            fields.text("mount_point", mount.path.as_str());
            fields.text("mount_type", &mount.kind);
            fields.text("mount_accessor", &mount.accessor);
        }
        if !answer.warnings.is_empty() {
            fields.texts("warnings", &answer.warnings);
        }
        if !answer.lease_id.is_empty() {
            let mut secret = Object::begin(fields.name("secret"));
            secret.text("lease_id", &answer.lease_id);
            secret.end();
        }
        if let Some(Value::Object(info)) = &answer.wrap_info {
            self.granted(fields.name("wrap_info"), info);
        }
        if let Some(data) = &answer.data {
            let clear = about
                .mount
                .as_ref()
                .map(|mount| mount.config.audit_non_hmac_response_keys.as_slice());
            if self.elides_lists && about.operation == Operation::List {
                elided(fields.name("data"), data);
            } else {
                self.data(&mut fields, data, clear.unwrap_or_default());
            }
        }
        fields.end();
    }

    /// The field `auth` or `wrap_info` of an answer: a token that was made.
    fn granted(&self, out: &mut Vec<u8>, auth: &Map<String, Value>) {
        let mut fields = Object::begin(out);
        for (key, value) in auth {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("client_token" | "token", value) => self.leaves(value, fields.name(key)),
                ("accessor" | "wrapped_accessor", value) if self.hides_accessors => {
                    self.leaves(value, fields.name(key));
                }
                (_, value) => fields.plain(key, value),
            }
        }
        fields.end();
    }

    fn data(&self, fields: &mut Object<'_>, data: &Map<String, Value>, clear: &[String]) {
        let mut inner = Object::begin(fields.name("data"));
        for (key, value) in data {
            if clear.contains(key) {
                inner.plain(key, value);
            } else {
                self.leaves(value, inner.name(key));
            }
        }
        inner.end();
    }

    /// Writes a value with every text in it hashed; names, numbers and truth stay.
    fn leaves(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::String(text) => self.hashed(text, out),
            Value::Array(values) => {
                out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at != 0 {
                        out.push(b',');
                    }
                    self.leaves(value, out);
                }
                out.push(b']');
            }
            Value::Object(object) => {
                let mut fields = Object::begin(out);
                for (key, value) in object {
                    self.leaves(value, fields.name(key));
                }
                fields.end();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => plain(value, out),
        }
    }
}

/// Returns what a record shows of a text that whoever asked chose.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes how many keys a list held, in their place.
fn elided(out: &mut Vec<u8>, data: &Map<String, Value>) {
    let mut fields = Object::begin(out);
    for (key, value) in data {
        let length = match value {
            Value::Array(values) => values.len(),
            Value::Object(object) => object.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        fields.plain(key, &length);
    }
    fields.end();
}

fn string(text: &str, out: &mut Vec<u8>) {
    plain(text, out);
}

fn plain(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("what is recorded is plain JSON, and memory takes it");
}

/// A JSON object in the making.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    /// Writes a field's name, and returns where its value goes.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, name: &str, text: &str) {
        string(text, self.name(name));
    }

    fn texts<T: AsRef<str>>(&mut self, name: &str, texts: &[T]) {
        let out = self.name(name);
        out.push(b'[');
        for (at, text) in texts.iter().enumerate() {
            if at != 0 {
                out.push(b',');
            }
            string(text.as_ref(), out);
        }
        out.push(b']');
    }

    fn plain(&mut self, name: &str, value: &impl serde::Serialize) {
        plain(value, self.name(name));
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        let out = self.name(name);
        out.extend_from_slice(json);
    }

    fn raw_if(&mut self, name: &str, json: Option<&[u8]>) {
        if let Some(json) = json {
            self.raw(name, json);
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }
}
