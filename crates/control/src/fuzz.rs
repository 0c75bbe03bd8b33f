//! What is fuzzed in this crate: policies, whole requests, and what stands behind the barrier.

#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::cell::RefCell;

use bastide_api::{AddressPlan, Controller, NodeId};
use bastide_pki::x509::{KeyKind, PrivateKey, pem};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use crate::core::auth::jwt::keys::{ALGS, Alg, Key};
use crate::core::auth::jwt::provider::{Given, Provider};
use crate::core::auth::jwt::token::Unproven;
use crate::core::auth::ldap::filter::Filter;
use crate::core::auth::ldap::{message_length, names, wire};
use crate::core::engines::identity::oidc::{jwk, template};
use crate::core::engines::totp::url::{self, Wanted};
use crate::core::fields::{Fields, go_duration, parse_duration};
use crate::core::identity::EntityFacts;
use crate::core::path::{ApiPath, MountPath, PATH_BYTES_MAX, percent_decode};
use crate::core::policy::acl::{Acl, Question};
use crate::core::policy::{Capabilities, POLICY_BYTES_MAX, Policy};
use crate::core::redirect::is_registered;
use crate::core::request::Operation;
use crate::core::tables;
use crate::core::trial::{As, Trial};
use crate::run::http::reading;

/// Each target's name and what it does with bytes.
#[expect(clippy::type_complexity, reason = "a name and what it does")]
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("policy", policy),
    ("request_path", request_path),
    ("fields", fields),
    ("batch_token", batch_token),
    ("jwt", jwt),
    ("oidc", oidc),
    ("ldap", ldap),
    ("request", request),
    ("stored", stored),
    ("transit_text", transit_text),
    ("transit_backup", transit_backup),
    ("otpauth", otpauth),
    ("claims", claims),
    ("config", config),
];

/// Parts the words of an input.
const PART: char = '\u{1e}';

/// What an address of a one-time password's key says is printed and read the same.
fn otpauth(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut wanted = Wanted {
        secret: String::new(),
        issuer: String::new(),
        account: String::new(),
        hash: "SHA1".to_owned(),
        digits: 6,
        period: 30,
    };
    let mut again = wanted.clone();
    if url::read(text, &mut wanted).is_err() {
        return;
    }
    let Ok(key) = wanted.into_key(1) else {
        return;
    };
    let printed = key.url();
    if let Err(url::UrlError::Long) = url::read(&printed, &mut again) {
        return;
    }
    let again = again.into_key(1).expect("what was printed is a key");
    assert_eq!(again.url(), printed);
}

/// A template of claims, or a token that somebody brings.
fn claims(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // Nobody has signed it.
    assert!(jwk::verified(text, &[]).is_err());
    let entity = EntityFacts {
        name: "\"}}{{identity.entity.id}}".to_owned(),
        ..EntityFacts::default()
    };
    let now = bastide_api::UnixTime::from_millis(1_000);
    if let Ok(claims) = template::claims(text, &entity, now) {
        assert!(
            claims
                .keys()
                .all(|key| !template::RESERVED.contains(&key.as_str()))
        );
    }
}

/// A configuration file: what is taken can be listened on, and nothing in it lives without end.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(read) = crate::core::config::parse(&[("file".to_owned(), text.to_owned())]) else {
        return;
    };
    assert!(!read.listeners.is_empty());
    assert!(!read.ttls.default.is_zero() && read.ttls.default <= read.ttls.max);
}

/// A policy, and after a mark a path that is judged by it.
fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (text, path) = text.split_once(PART).unwrap_or((text, "secret/data/a"));
    let Ok(policy) = Policy::parse(text) else {
        return;
    };
    assert!(text.len() <= POLICY_BYTES_MAX);
    let filled = policy.fill(|name| (name == "identity.entity.name").then_some("atlas"));
    assert!(filled.rules.len() <= policy.rules.len());
    let Ok(path) = ApiPath::parse(path) else {
        return;
    };
    let acl = Acl::new([&filled]);
    let data = Map::new();
    let mut granted = false;
    for operation in OPERATIONS {
        let ask = |sudo| {
            let question = Question {
                operation,
                path: &path,
                folded: None,
                data: &data,
                wrap: None,
                sudo,
            };
            acl.authorise(&question).is_some()
        };
        // What is protected needs no less than what is not.
        assert!(ask(false) || !ask(true));
        granted |= ask(false);
    }
    let names = acl.capabilities(&path, None);
    assert!(!acl.is_root() && names.iter().all(|name| *name != "root"));
    // A text that names no capability grants nothing; `deny` beside it wins.
    let grants = |rule: &crate::core::policy::Rule| rule.capabilities.names() != ["deny"];
    assert!(!granted || filled.rules.iter().any(|(_, rule)| grants(rule)));
    let denied = Policy {
        rules: filled
            .rules
            .iter()
            .map(|(pattern, rule)| {
                let mut rule = rule.clone();
                rule.capabilities = rule.capabilities.with(Capabilities::DENY);
                (pattern.clone(), rule)
            })
            .collect(),
    };
    let nothing = Acl::new([&filled, &denied]);
    assert_eq!(nothing.capabilities(&path, None), ["deny"]);
}

const OPERATIONS: [Operation; 6] = [
    Operation::Create,
    Operation::Read,
    Operation::Update,
    Operation::Patch,
    Operation::Delete,
    Operation::List,
];

/// A path has one spelling, climbs nowhere, and lies below a mount or does not.
fn request_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(path) = ApiPath::decode(text) {
        let printed = path.to_string();
        assert!(printed.len() <= PATH_BYTES_MAX);
        assert_eq!(ApiPath::parse(&printed).ok(), Some(path.clone()));
        assert!(
            !path
                .as_str()
                .split('/')
                .any(|it| matches!(it, "" | "." | ".."))
        );
        assert!(!printed.contains(['\0', '\n', '\\']));
        let mount = MountPath::parse("secret").expect("a path");
        if let Some(below) = mount.below(&path) {
            assert_eq!(
                format!("secret/{below}"),
                format!("{}{}", path.as_str(), slash(below))
            );
        }
    }
    if let Ok(decoded) = percent_decode(text) {
        assert!(decoded.len() <= text.len());
    }
    if let Ok(fields) = reading::query(text) {
        assert!(fields.len() <= text.len());
    }
}

/// The mount itself has nothing below it, and no slash.
fn slash(below: &str) -> &'static str {
    if below.is_empty() { "/" } else { "" }
}

/// The body of a request, and each of its fields read in each way.
fn fields(bytes: &[u8]) {
    let Ok(data) = reading::read_fields(bytes) else {
        return;
    };
    let fields = Fields(&data);
    for name in data.keys() {
        let _ = fields.required(name);
        let _ = fields.int(name);
        let _ = fields.flag(name);
        let _ = fields.list(name);
        let _ = fields.object(name);
        let _ = fields.pairs(name);
        if let Ok(Some(count)) = fields.count(name) {
            assert!(i64::try_from(count).is_ok());
        }
        if let Ok(Some(duration)) = fields.duration(name) {
            let printed = go_duration(duration);
            let again = parse_duration(&printed).expect("what was printed is a duration");
            assert!(again.abs_diff(duration).as_millis() <= 1, "{printed}");
        }
    }
}

/// What names itself a ciphertext, a signature or an HMAC.
fn transit_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        crate::core::engines::transit::judge_text(text);
    }
}

/// A key's backup, before it is written in base64.
fn transit_backup(bytes: &[u8]) {
    crate::core::engines::transit::judge_backup(bytes);
}

/// A text that says it is a batch token, which nobody can make; and what one may hold that was sealed
/// here.
fn batch_token(bytes: &[u8]) {
    let mut trial = fresh();
    if let Ok(text) = std::str::from_utf8(bytes) {
        let forged = format!("hvb.{text}");
        assert!(!trial.is_good(&forged), "a forged token is good");
    }
    let place = bastide_store::Key::new(tables::BATCH_TOKENS, "batch");
    let sealed = trial.barrier().seal(&place, bytes);
    let text = format!("hvb.{}", BASE64URL_NOPAD.encode(&sealed));
    for (operation, path) in [
        (Operation::Read, "auth/token/lookup-self"),
        (Operation::Update, "auth/token/renew-self"),
    ] {
        let request = Trial::request(As::Token(&text), operation, path, json!({}));
        let _ = trial.decide(&request);
    }
    FRESH.set(Some(trial));
}

/// A token and, after a mark, keys: a set, or one in PEM. Nobody's signature holds by a key that was
/// drawn here.
fn jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (token, keys) = text.split_once(PART).unwrap_or((text, ""));
    let mut known = Key::set(keys.as_bytes()).unwrap_or_default();
    known.extend(Key::from_pem(keys));
    let all: Vec<Alg> = ALGS.iter().map(|(alg, _)| *alg).collect();
    let Ok(token) = Unproven::read(token) else {
        return;
    };
    thread_local! {
        static OURS: Vec<Key> = drawn();
    }
    OURS.with(|ours| {
        assert!(
            token.verify(ours, &all).is_err(),
            "a forged signature holds"
        );
    });
    assert!(token.verify(&known, &[]).is_err());
    if let Ok(proven) = token.verify(&known, &all) {
        for name in ["exp", "/a/b", "/", "~", ""] {
            let _ = (proven.claim(name), proven.moment(name));
        }
    }
}

/// What a provider tells of itself, what it gives for a code, or where a browser is to go back to.
fn oidc(bytes: &[u8]) {
    if let Ok(provider) = Provider::read(bytes, "https://id.example") {
        assert_eq!(provider.issuer.trim_end_matches('/'), "https://id.example");
        if let Ok(url) = provider.authorization_endpoint() {
            assert!(url.starts_with("https://") || url.starts_with("http://"));
            assert!(url.bytes().all(|it| it.is_ascii_graphic()));
        }
    }
    if let Ok(given) = Given::read(bytes) {
        assert!(!given.id_token.expose().is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let registered = ["https://app.example/cb", "http://localhost/cb"].map(str::to_owned);
    if is_registered(text, &registered) && text != registered[0] {
        let port = text.strip_prefix("http://localhost");
        let port = port.and_then(|rest| rest.strip_suffix("/cb"));
        let digits = port.map(|port| port.strip_prefix(':').unwrap_or(port));
        let is_port = digits.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(is_port, "a browser is sent to {text}");
    }
}

fn drawn() -> Vec<Key> {
    [KeyKind::P256, KeyKind::Ed25519]
        .into_iter()
        .filter_map(|kind| {
            let key = PrivateKey::generate(kind).ok()?;
            Key::from_pem(&pem("PUBLIC KEY", key.public().spki()))
        })
        .collect()
}

/// What a directory answers; a filter; a name of somebody.
fn ldap(bytes: &[u8]) {
    if let Ok(Some(length)) = message_length(bytes) {
        assert!(2 <= length);
    }
    let _ = wire::read(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(filter) = Filter::parse(text) {
        filter.write(&mut Vec::new());
    }
    let _ = names::common_name(text);
    let _ = names::filled(text, &[("Username", "x")]);
    if names::is_plain(text) {
        let itself = Filter::parse(&format!("(uid={})", names::filter_value(text)));
        let expect = Filter::Compare(0xa3, "uid".to_owned(), text.as_bytes().to_vec());
        assert_eq!(itself, Ok(expect));
        let dn = format!("cn={},dc=example", names::dn_value(text));
        assert_eq!(names::common_name(&dn).as_deref(), Some(text));
    }
}

/// A control plane with something of each kind in it.
fn begun() -> Trial {
    let mut trial = Trial::new();
    let controller = Controller {
        node: NodeId::from_bytes([0xee; 16]),
        channel: vec![([192, 0, 2, 1], 7443).into()],
    };
    let plan = AddressPlan::default();
    let create = json!({ "name": "demo", "plan": plan, "controllers": [controller] });
    let made = trial.ask(As::Program, Operation::Update, "mesh/create", create);
    assert!(made.is_ok(), "a cluster begins");
    trial.write("secret/data/a/b", json!({ "data": { "key": "value" } }));
    trial.write("secret/metadata/a/b", json!({ "max_versions": 3 }));
    trial.write("sys/mounts/old", json!({ "type": "kv" }));
    trial.write("old/c", json!({ "key": "value" }));
    trial.write("sys/mounts/transit", json!({ "type": "transit" }));
    trial.write("transit/keys/plain", json!({ "exportable": true }));
    trial.write("transit/keys/sign", json!({ "type": "ed25519" }));
    trial.write("sys/policies/acl/reader", json!({ "policy": READER }));
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    trial.write(
        "auth/userpass/users/ada",
        json!({ "password": "p", "policies": "reader" }),
    );
    trial.write(
        "auth/token/roles/robot",
        json!({ "allowed_policies": "reader" }),
    );
    trial.write("auth/join/tickets", json!({ "uses": 2, "ttl": "1h" }));
    trial.token(
        As::Root,
        json!({ "id": "reader", "policies": ["reader"], "ttl": "1h" }),
    );
    trial
}

const READER: &str = r#"path "secret/*" { capabilities = ["read", "list", "update"] }
path "auth/token/*" { capabilities = ["update"] }"#;

thread_local! {
    /// A control plane that nothing was written to since it was begun: to begin one takes a while.
    static FRESH: RefCell<Option<Trial>> = const { RefCell::new(None) };
}

fn fresh() -> Trial {
    FRESH.take().unwrap_or_else(begun)
}

/// Requests, one after the other: who asks, what for, a path, a line end, a body.
fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut trial = fresh();
    let (start, mut is_fresh) = (trial.now, true);
    for part in text.split(PART).take(8) {
        let mut letters = part.chars();
        let (who, operation) = (letters.next(), letters.next());
        let (path, body) = letters
            .as_str()
            .split_once('\n')
            .unwrap_or((letters.as_str(), ""));
        let who = match who {
            Some('r') => As::Root,
            Some('t') => As::Token("reader"),
            Some('n') => As::Machine(crate::core::request::Identity::Node(NodeId::from_bytes(
                [0xee; 16],
            ))),
            Some('w') => {
                trial.pass(path.len() as u64);
                trial.tend();
                is_fresh = false;
                continue;
            }
            _ => As::Nobody,
        };
        let operation = match operation {
            Some('g') => Operation::Read,
            Some('d') => Operation::Delete,
            Some('p') => Operation::Patch,
            Some('l') => Operation::List,
            _ => Operation::Update,
        };
        let (Ok(path), Ok(data)) = (ApiPath::decode(path), reading::read_fields(body.as_bytes()))
        else {
            continue;
        };
        let request = Trial::request(who, operation, path.as_str(), Value::Object(data));
        let was_good = trial.is_good("root");
        let decision = trial.decide(&request);
        let is_granted = decision.response.outcome.is_ok();
        if let As::Nobody = who {
            let is_open = path.as_str().starts_with("sys/")
                || path.as_str().starts_with("auth/") && path.as_str().contains("login");
            assert!(!is_granted || is_open, "{path} was granted to nobody");
        }
        is_fresh &= decision.batch.ops.is_empty() && decision.observations.is_empty();
        assert!(trial.commit(decision), "nobody else writes in a trial");
        let is_same = trial.is_good("root") == was_good;
        assert!(is_same || is_granted, "a refused request took root's token");
    }
    if is_fresh {
        trial.now = start;
        FRESH.set(Some(trial));
    }
}

/// A value behind the barrier, replaced: what reads it refuses, and never panics. The first two bytes
/// choose the value.
fn stored(bytes: &[u8]) {
    let Some(([high, low], value)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let mut trial = fresh();
    let start = trial.now;
    let number = u16::from_be_bytes([*high, *low]).into();
    let before = trial.replace(number, value);
    for (operation, path) in [
        (Operation::Read, "secret/data/a/b"),
        (Operation::Read, "secret/metadata/a/b"),
        (Operation::List, "secret/metadata"),
        (Operation::Read, "secret/config"),
        (Operation::Read, "old/c"),
        (Operation::Read, "transit/keys/plain"),
        (Operation::Read, "transit/export/signing-key/sign"),
        (Operation::Read, "sys/mounts"),
        (Operation::Read, "sys/auth"),
        (Operation::Read, "sys/policies/acl/reader"),
        (Operation::Read, "auth/userpass/users/ada"),
        (Operation::Read, "auth/token/roles/robot"),
        (Operation::List, "auth/token/accessors"),
        (Operation::Read, "auth/token/lookup-self"),
        (Operation::List, "auth/join/tickets"),
        (Operation::List, "sys/leases/lookup"),
        (Operation::List, "mesh/nodes"),
        (Operation::Read, "mesh/watch"),
    ] {
        for who in [As::Root, As::Token("reader")] {
            let request = Trial::request(who, operation, path, json!({}));
            let _ = trial.decide(&request);
        }
    }
    let login = json!({ "password": "p" });
    let request = Trial::request(
        As::Nobody,
        Operation::Update,
        "auth/userpass/login/ada",
        login,
    );
    let _ = trial.decide(&request);
    let write = json!({ "data": { "key": "other" } });
    let request = Trial::request(As::Root, Operation::Update, "secret/data/a/b", write);
    let _ = trial.decide(&request);
    trial.pass_and_try_to_tend(7200);
    trial.now = start;
    trial.replace(number, before.expose());
    FRESH.set(Some(trial));
}
