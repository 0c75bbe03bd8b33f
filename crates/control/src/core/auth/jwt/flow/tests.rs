use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::SHA256;
use serde_json::Map;

use super::*;
use crate::core::auth::jwt::tests::{Issuer, es256};
use crate::core::need::Need;
use crate::core::outside::{Ask, answered, failed as unanswered};
use crate::core::path::percent_decode;
use crate::core::pipeline::Envelope;
use crate::core::refusal::Work;
use crate::core::request::Operation::{Read, Update};
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

const ISSUER: &str = "https://id.example";
const BACK: &str = "http://localhost:8250/oidc/callback";
const SECRET: &str = "canary secret";

/// A provider as tests want it.
struct Play {
    issuer: Issuer,
    now: u64,
    /// What it tells of itself, besides the usual.
    about: Value,
    /// The challenge of the login that its code `good` is of.
    challenge: String,
    /// What its ID token says besides, or in place of, the usual; null takes away.
    said: Value,
    more: Option<Value>,
    /// What it was asked: places, and forms.
    asked: Vec<String>,
    forms: Vec<Vec<(&'static str, String)>>,
    basic: Option<(String, String)>,
}

impl Play {
    fn document(&self, path: &str) -> Option<Value> {
        match path {
            "/.well-known/openid-configuration" => Some(with(
                json!({
                    "issuer": ISSUER,
                    "jwks_uri": "https://id.example/keys",
                    "authorization_endpoint": "https://id.example/authorize",
                    "token_endpoint": "https://id.example/token",
                    "userinfo_endpoint": "https://id.example/me",
                }),
                &self.about,
            )),
            "/keys" => Some(json!({ "keys": [self.issuer.jwk("1")] })),
            "/me" => self.more.clone(),
            _ => None,
        }
    }

    fn answer(&mut self, work: Work) -> Secret<Vec<u8>> {
        let Work::Fetch(fetch) = work else {
            return unanswered("nothing else is asked for");
        };
        let path = fetch.url.strip_prefix(ISSUER).unwrap_or("").to_owned();
        self.asked.push(path.clone());
        let document = match fetch.ask {
            Ask::Post(form) => {
                let fields = form.fields.into_iter();
                let fields: Vec<_> = fields
                    .map(|(name, it)| (name, it.expose().clone()))
                    .collect();
                self.basic = form.basic.map(|(user, it)| (user, it.expose().clone()));
                self.forms.push(fields);
                self.redeemed()
            }
            Ask::Bearer(token) if token.expose() != "access" => None,
            Ask::Bearer(_) | Ask::Read => self.document(&path),
        };
        match document {
            Some(document) => answered(document.to_string().as_bytes()),
            None => unanswered("it answered 400 (invalid_grant)"),
        }
    }

    /// Judges a code as a provider does that knows PKCE.
    fn redeemed(&self) -> Option<Value> {
        let form = self.forms.last()?;
        let field = |name: &str| {
            let found = form.iter().find(|(known, _)| *known == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let shown = digest(&SHA256, field("code_verifier").as_bytes());
        let is_right = field("grant_type") == "authorization_code"
            && field("code") == "good"
            && field("redirect_uri") == BACK
            && BASE64URL_NOPAD.encode(shown.as_ref()) == self.challenge;
        let usual = json!({
            "iss": ISSUER, "aud": "bastide", "sub": "ada", "iat": self.now, "exp": self.now + 60,
        });
        let token = self.issuer.sign(&es256(), &with(usual, &self.said));
        is_right.then(|| json!({ "id_token": token, "access_token": "access" }))
    }
}

fn with(mut usual: Value, more: &Value) -> Value {
    let fields = usual.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.retain(|_, value| !value.is_null());
    usual
}

struct Scene {
    trial: Trial,
    play: Arc<Mutex<Play>>,
}

/// An address at the provider, taken apart.
struct Way {
    url: String,
    query: Map<String, Value>,
}

impl Way {
    fn part(&self, name: &str) -> &str {
        self.query[name].as_str().unwrap()
    }
}

impl Scene {
    fn new(role: Value) -> Self {
        let mut trial = Trial::new();
        let play = Arc::new(Mutex::new(Play {
            issuer: Issuer::new(),
            now: trial.now.as_secs(),
            about: json!({}),
            challenge: String::new(),
            said: json!({}),
            more: None,
            asked: Vec::new(),
            forms: Vec::new(),
            basic: None,
        }));
        let answers = Arc::clone(&play);
        trial.outside = Box::new(move |work| answers.lock().unwrap().answer(work));
        let mut scene = Self { trial, play };
        for mount in ["oidc", "other"] {
            scene
                .trial
                .write(&format!("sys/auth/{mount}"), json!({ "type": "oidc" }));
            scene.configure(mount, json!({}));
            let usual = json!({
                "user_claim": "sub", "allowed_redirect_uris": [BACK, "https://ui.example/cb"],
            });
            let role = with(usual, &role);
            scene
                .trial
                .write(&format!("auth/{mount}/role/people"), role);
        }
        scene.play().asked.clear();
        scene
    }

    fn configure(&mut self, mount: &str, more: Value) {
        let usual = json!({
            "oidc_discovery_url": ISSUER, "oidc_client_id": "bastide", "oidc_client_secret": SECRET,
            "jwt_supported_algs": "ES256", "default_role": "people",
        });
        self.trial
            .write(&format!("auth/{mount}/config"), with(usual, &more));
    }

    fn play(&self) -> MutexGuard<'_, Play> {
        self.play.lock().unwrap()
    }

    /// Begins a login, at which the provider then gives out the code `good`.
    fn begin(&mut self, fields: Value) -> Way {
        let fields = with(json!({ "redirect_uri": BACK }), &fields);
        let path = "auth/oidc/oidc/auth_url";
        let answer = self.trial.ask(As::Nobody, Update, path, fields).unwrap();
        let url = answer.data.unwrap()["auth_url"]
            .as_str()
            .unwrap()
            .to_owned();
        let (_, query) = url.split_once('?').unwrap();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let query: Map<String, Value> = pairs
            .map(|(name, value)| (name.to_owned(), percent_decode(value).unwrap().into()))
            .collect();
        let way = Way { url, query };
        self.play().challenge = way.part("code_challenge").to_owned();
        let nonce = way.part("nonce").to_owned();
        self.play().said["nonce"] = nonce.into();
        way
    }

    fn end(&mut self, way: &Way, more: Value) -> Result<Envelope, Refusal> {
        let usual = json!({ "state": way.part("state"), "code": "good" });
        let path = "auth/oidc/oidc/callback";
        self.trial.ask(As::Nobody, Read, path, with(usual, &more))
    }

    #[track_caller]
    fn refuses(&mut self, way: &Way, more: Value, why: &str) {
        let said = text(self.end(way, more).unwrap_err());
        assert!(said.contains(why), "{said} does not say {why}");
    }
}

#[test]
fn a_person_logs_in_at_a_provider_and_gets_what_the_role_says() {
    let mut scene = Scene::new(json!({
        "token_policies": "people", "oidc_scopes": "openid,groups", "groups_claim": "groups",
        "claim_mappings": { "mail": "mail" }, "max_age": "1h", "verbose_oidc_logging": true,
    }));
    let way = scene.begin(json!({ "client_nonce": "mine" }));
    assert!(
        way.url
            .starts_with("https://id.example/authorize?client_id=bastide&code_challenge=")
    );
    for (name, value) in [
        ("code_challenge_method", "S256"),
        ("max_age", "3600"),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("scope", "openid groups"),
    ] {
        assert_eq!(way.part(name), value);
    }
    let now = scene.play().now;
    scene.play().said["auth_time"] = (now - 3600).into();
    scene.play().more = Some(json!({
        "sub": "ada", "groups": ["dev"], "mail": "ada@id.example", "iss": "https://other.example",
    }));
    let auth = scene.end(&way, json!({ "client_nonce": "mine", "iss": ISSUER }));
    let auth = auth.unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "people"]));
    let metadata = json!({ "role": "people", "mail": "ada@id.example" });
    assert_eq!(auth["metadata"], metadata);
    // The provider saw who asked, and what only who began the login can show.
    let asked = [
        "/.well-known/openid-configuration",
        "/token",
        "/keys",
        "/me",
    ];
    let heard = scene.play().asked.clone();
    assert!(asked.iter().all(|it| heard.iter().any(|heard| heard == it)));
    assert_eq!(heard.iter().filter(|it| *it == "/token").count(), 1);
    assert_eq!(
        scene.play().basic,
        Some(("bastide".to_owned(), SECRET.to_owned()))
    );
    // Neither the configuration nor an address shows the secret or the proof.
    let shown = scene
        .trial
        .root(Read, "auth/oidc/config", json!({}))
        .unwrap();
    assert_eq!(shown["oidc_client_id"], json!("bastide"));
    let form = scene.play().forms[0].clone();
    let proof = &form
        .iter()
        .find(|(name, _)| *name == "code_verifier")
        .unwrap()
        .1;
    for text in [shown.to_string(), way.url.clone()] {
        assert!(
            !text.contains("canary") && !text.contains(proof.as_str()),
            "{text}"
        );
    }
}

#[test]
fn a_state_makes_one_token_though_many_try_and_none_after_ten_minutes() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({}));
    // A wrong code does not end a login that is another's.
    scene.refuses(
        &way,
        json!({ "code": "wrong" }),
        "it answered 400 (invalid_grant)",
    );
    scene.refuses(
        &way,
        json!({ "code": null, "error": "denied" }),
        "has not logged anybody in",
    );
    scene.refuses(
        &way,
        json!({ "code": null }),
        "No code or id_token received.",
    );
    let fields = json!({ "state": way.part("state"), "code": "good" });
    let request = Trial::request(As::Nobody, Update, "auth/oidc/oidc/callback", fields);
    let decisions: Vec<_> = (0..20).map(|_| scene.trial.decide(&request)).collect();
    assert!(decisions.iter().all(|it| it.response.outcome.is_ok()));
    let won = decisions.into_iter().map(|it| scene.trial.commit(it));
    assert_eq!(won.filter(|won| *won).count(), 1);
    scene.play().asked.clear();
    scene.refuses(&way, json!({}), "Expired or missing OAuth state.");
    assert!(
        scene.play().asked.is_empty(),
        "nobody is asked about a state that is spent"
    );
    let late = scene.begin(json!({}));
    let rows = scene.trial.count(tables::ENGINE);
    scene.trial.pass(600);
    scene.refuses(&late, json!({}), "Expired or missing OAuth state.");
    scene.refuses(&way, json!({}), "Expired or missing OAuth state.");
    scene.trial.tend();
    assert_eq!(
        scene.trial.count(tables::ENGINE),
        rows - 1,
        "a login that is over is forgotten"
    );
}

#[test]
fn whoever_begins_logins_takes_no_room() {
    let mut scene = Scene::new(json!({}));
    let all = |trial: &mut Trial| -> usize {
        let tables = (1..=u8::MAX).map(bastide_store::Table);
        tables.map(|table| trial.count(table)).sum()
    };
    let before = all(&mut scene.trial);
    let fields = json!({ "redirect_uri": BACK, "client_nonce": "n".repeat(1024) });
    let request = Trial::request(As::Nobody, Update, "auth/oidc/oidc/auth_url", fields);
    for _ in 0..200 {
        let decision = scene.trial.decide(&request);
        assert!(decision.batch.ops.is_empty() && decision.observations.is_empty());
        assert!(scene.trial.commit(decision));
    }
    let way = scene.begin(json!({ "client_nonce": "n".repeat(1024) }));
    scene.refuses(&way, json!({ "code": "wrong" }), "invalid client_nonce");
    assert_eq!(all(&mut scene.trial), before);
    // What they send is bounded.
    for (path, wrong) in [
        (
            "auth_url",
            json!({ "redirect_uri": "x".repeat(URL_BYTES_MAX + 1) }),
        ),
        (
            "auth_url",
            json!({ "redirect_uri": BACK, "client_nonce": "n".repeat(1025) }),
        ),
        (
            "auth_url",
            json!({ "redirect_uri": BACK, "role": "r".repeat(URL_BYTES_MAX + 1) }),
        ),
        (
            "callback",
            json!({ "state": "A".repeat(STATE_BYTES_MAX + 1) }),
        ),
        (
            "callback",
            json!({ "state": way.part("state"), "client_nonce": "n".repeat(1025) }),
        ),
        (
            "callback",
            json!({
                "state": way.part("state"), "client_nonce": "n".repeat(1024),
                "code": "c".repeat(CODE_BYTES_MAX + 1),
            }),
        ),
    ] {
        let path = format!("auth/oidc/oidc/{path}");
        let refused = scene.trial.ask(As::Nobody, Update, &path, wrong);
        assert!(text(refused.unwrap_err()).contains("too long"));
    }
}

// Login CSRF (RFC 6749, section 10.12): somebody's browser ends a login that another began.
#[test]
fn a_login_is_ended_by_whoever_began_it_at_the_same_mount_and_provider() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({ "client_nonce": "mine" }));
    scene.play().asked.clear();
    for nonce in [json!("another's"), json!(""), Value::Null] {
        scene.refuses(
            &way,
            json!({ "client_nonce": nonce }),
            "invalid client_nonce",
        );
    }
    let mine = json!({ "client_nonce": "mine" });
    let state = way.part("state").to_owned();
    let path = "auth/other/oidc/callback";
    let elsewhere = json!({ "state": state, "code": "good", "client_nonce": "mine" });
    let elsewhere = scene.trial.ask(As::Nobody, Read, path, elsewhere);
    assert!(text(elsewhere.unwrap_err()).contains("Expired or missing OAuth state."));
    // Not one bit of it is another's to choose.
    for at in 0..state.len() {
        let mut forged = state.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let more = with(mine.clone(), &json!({ "state": forged }));
        scene.refuses(&way, more, "Expired or missing OAuth state.");
    }
    for forged in ["", "A", "\u{0}", "hvs.AAAA"] {
        let more = with(mine.clone(), &json!({ "state": forged }));
        scene.refuses(&way, more, "Expired or missing OAuth state.");
    }
    assert!(
        scene.play().asked.is_empty(),
        "nobody is asked about a state that is none"
    );
    // Another registration at the provider, or another provider, has begun no login.
    scene.configure("oidc", json!({ "oidc_client_id": "changed" }));
    scene.refuses(&way, mine.clone(), "Expired or missing OAuth state.");
    scene.configure("oidc", json!({}));
    assert!(scene.end(&way, mine).is_ok());
}

// Code injection (RFC 9700, section 4.5): a code of another's login is put into one's own.
#[test]
fn a_code_counts_for_the_login_it_was_given_at_alone() {
    let mut scene = Scene::new(json!({}));
    let mine = scene.begin(json!({}));
    // The code `good` is of the second login, and the provider knows PKCE.
    let theirs = scene.begin(json!({}));
    assert_ne!(mine.part("code_challenge"), theirs.part("code_challenge"));
    scene.refuses(&mine, json!({}), "invalid_grant");
    // One that does not: its token still repeats what the second login was begun with.
    let challenge = mine.part("code_challenge").to_owned();
    scene.play().challenge = challenge;
    scene.refuses(&mine, json!({}), "invalid nonce (nonce) claim");
    let challenge = theirs.part("code_challenge").to_owned();
    scene.play().challenge = challenge;
    assert!(scene.end(&theirs, json!({})).is_ok());
}

// Mix-up (RFC 9207): a code of an honest provider is sent to another one.
#[test]
fn a_code_that_comes_from_another_provider_is_given_to_nobody() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({}));
    scene.refuses(
        &way,
        json!({ "iss": "https://honest.example" }),
        "of another provider",
    );
    assert!(scene.play().forms.is_empty(), "the code was not sent");
    assert!(scene.end(&way, json!({ "iss": ISSUER })).is_ok());
}

#[test]
fn a_browser_goes_back_only_where_the_role_says_then_and_now() {
    let mut scene = Scene::new(json!({}));
    for wrong in [
        "https://evil.example/cb",
        "https://ui.example/cb/",
        "https://ui.example/cb?x",
        "https://ui.example:8443/cb",
        "http://localhost:8250/other",
        "http://localhost.evil.example:8250/oidc/callback",
        "http://127.0.0.1:8250/oidc/callback",
    ] {
        let fields = json!({ "redirect_uri": wrong });
        let path = "auth/oidc/oidc/auth_url";
        let answer = scene.trial.ask(As::Nobody, Update, path, fields).unwrap();
        assert_eq!(answer.data.unwrap()["auth_url"], json!(""), "{wrong}");
        assert!(answer.warnings[0].contains("allowed_redirect_uris"));
    }
    // Any port of loopback, where a program listens that cannot choose.
    let way = scene.begin(json!({ "redirect_uri": "http://localhost:41234/oidc/callback" }));
    assert_eq!(
        way.part("redirect_uri"),
        "http://localhost:41234/oidc/callback"
    );
    scene.begin(json!({ "redirect_uri": "https://ui.example/cb" }));
    let way = scene.begin(json!({}));
    let fewer = json!({ "allowed_redirect_uris": "https://ui.example/cb" });
    scene.trial.write("auth/oidc/role/people", fewer);
    scene.refuses(&way, json!({}), "does not allow the redirect_uri any more");
    scene
        .trial
        .root(
            crate::core::request::Operation::Delete,
            "auth/oidc/role/people",
            json!({}),
        )
        .unwrap();
    scene.refuses(&way, json!({}), "Role could not be found");
}

#[test]
fn an_id_token_counts_only_if_it_is_of_the_provider_for_us_and_for_this_login() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({}));
    let (now, nonce) = (scene.play().now, way.part("nonce").to_owned());
    let half = BASE64URL_NOPAD.encode(&digest(&SHA256, b"access").as_ref()[..16]);
    for (said, why) in [
        (json!({ "iss": "https://other.example" }), "(iss)"),
        (json!({ "iss": "https://id.example/" }), "(iss)"),
        (json!({ "iss": null }), "(iss)"),
        (json!({ "aud": "another" }), "(aud)"),
        (json!({ "aud": ["bastide2", "x"] }), "(aud)"),
        (json!({ "aud": [], }), "(aud)"),
        (json!({ "aud": null }), "(aud)"),
        (json!({ "aud": ["bastide", "another"] }), "(azp)"),
        (json!({ "azp": "another" }), "(azp)"),
        (
            json!({ "aud": ["bastide", "another"], "azp": "another" }),
            "(azp)",
        ),
        (json!({ "exp": null }), "(exp)"),
        (json!({ "iat": null }), "(iat)"),
        (json!({ "exp": now - 61 }), "token is expired"),
        (
            json!({ "iat": now + 61, "nbf": now }),
            "issued in the future",
        ),
        (json!({ "nbf": now + 61 }), "not yet valid"),
        (json!({ "nonce": null }), "(nonce)"),
        (json!({ "nonce": "" }), "(nonce)"),
        (json!({ "nonce": nonce.to_lowercase() }), "(nonce)"),
        (json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }), "(at_hash)"),
        (json!({ "at_hash": 1 }), "(at_hash)"),
        (json!({ "sub": null }), "claim \"sub\" not found"),
    ] {
        scene.play().said = with(json!({ "nonce": nonce }), &json!({}));
        let fields = said.as_object().unwrap().clone();
        scene.play().said.as_object_mut().unwrap().extend(fields);
        scene.refuses(&way, json!({}), why);
    }
    // One that somebody else signed.
    scene.play().said = json!({ "nonce": nonce });
    let ours = std::mem::replace(&mut scene.play().issuer, Issuer::new());
    let keys = json!({ "keys": [ours.jwk("1")] }).to_string();
    let play = Arc::clone(&scene.play);
    scene.trial.outside = Box::new(move |work| match &work {
        Work::Fetch(fetch) if fetch.url.ends_with("/keys") => answered(keys.as_bytes()),
        _ => play.lock().unwrap().answer(work),
    });
    scene.refuses(&way, json!({}), "no known key");
    scene.play().issuer = ours;
    let said = json!({
        "nonce": nonce, "aud": ["bastide", "another"], "azp": "bastide", "at_hash": half,
    });
    scene.play().said = said;
    assert!(scene.end(&way, json!({})).is_ok());
}

#[test]
fn what_a_role_asks_of_people_holds_for_them() {
    let role = json!({ "bound_claims": { "team": "blue" }, "max_age": 60, "bound_audiences": "x" });
    let mut scene = Scene::new(role);
    let way = scene.begin(json!({}));
    let now = scene.play().now;
    scene.refuses(&way, json!({}), "(auth_time)");
    scene.play().said["auth_time"] = (now - 121).into();
    scene.refuses(&way, json!({}), "older than max_age");
    scene.play().said["auth_time"] = (now - 120).into();
    scene.refuses(&way, json!({}), "(aud)");
    scene.play().said["aud"] = json!(["bastide", "x"]);
    scene.play().said["azp"] = json!("bastide");
    scene.refuses(&way, json!({}), "claim \"team\" is missing");
    // What is told of somebody else does not count, and what is told does not replace what is signed.
    scene.play().more = Some(json!({ "sub": "bob", "team": "blue" }));
    scene.refuses(&way, json!({}), "about somebody else (sub)");
    scene.play().more = Some(json!({ "team": "blue" }));
    scene.refuses(&way, json!({}), "about somebody else (sub)");
    scene.play().said["team"] = json!("red");
    scene.play().more = Some(json!({ "sub": "ada", "team": "blue" }));
    scene.refuses(&way, json!({}), "does not match");
    scene.play().said["team"] = Value::Null;
    assert!(scene.end(&way, json!({})).is_ok());
}

#[test]
fn a_provider_that_takes_no_header_gets_the_secret_in_the_form() {
    let mut scene = Scene::new(json!({}));
    scene.configure("oidc", json!({ "oidc_response_mode": "form_post" }));
    let methods = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    scene.play().about = methods;
    let way = scene.begin(json!({}));
    assert_eq!(way.part("response_mode"), "form_post");
    assert!(scene.end(&way, json!({})).is_ok());
    let form = scene.play().forms[0].clone();
    assert_eq!(scene.play().basic, None);
    assert!(form.contains(&("client_secret", SECRET.to_owned())));
    assert!(form.contains(&("client_id", "bastide".to_owned())));
}

#[test]
fn a_provider_sends_no_browser_to_a_place_that_is_none() {
    let mut scene = Scene::new(json!({}));
    for wrong in [
        json!("http://id.example/authorize"),
        json!("javascript:alert(1)"),
        json!("https://id.example/a b"),
        json!("https://id.example/\u{1b}[2J"),
        json!("https://id.example@evil.example/"),
        json!("http://localhost.evil.example/"),
        json!("https://id.example/#"),
        json!(""),
        Value::Null,
    ] {
        scene.play().about = json!({ "authorization_endpoint": wrong });
        let fields = json!({ "redirect_uri": BACK });
        let path = "auth/oidc/oidc/auth_url";
        let refused = scene.trial.ask(As::Nobody, Update, path, fields);
        assert!(text(refused.unwrap_err()).contains("authorization_endpoint"));
    }
    scene.play().about = json!({ "authorization_endpoint": "https://id.example/a?tenant=1" });
    let way = scene.begin(json!({}));
    assert!(
        way.url
            .starts_with("https://id.example/a?tenant=1&client_id=bastide&")
    );
}

// Requests that a provider makes this server send to where it could not reach itself.
#[test]
fn a_provider_elsewhere_does_not_make_this_server_ask_its_own_host() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({}));
    for (name, why) in [
        ("token_endpoint", "names no token_endpoint"),
        ("jwks_uri", "names no jwks_uri"),
    ] {
        scene.play().about = json!({ name: "http://127.0.0.1:8200/v1/sys/seal" });
        scene.play().asked.clear();
        scene.refuses(&way, json!({}), why);
        let asked = scene.play().asked.clone();
        assert_eq!(asked, ["/.well-known/openid-configuration"]);
    }
    scene.play().about = json!({ "userinfo_endpoint": "http://127.0.0.1:8200/v1/sys/health" });
    assert!(scene.end(&way, json!({})).is_ok());
    assert!(scene.play().asked.iter().all(|it| it.starts_with('/')));
}

// A login adds something, by whichever method it is asked for: not on a disk that is full.
#[test]
fn a_login_that_is_read_needs_room_as_any_other() {
    let mut scene = Scene::new(json!({}));
    let way = scene.begin(json!({}));
    for operation in [Read, Update] {
        let fields = json!({ "state": way.part("state"), "code": "good" });
        let request = Trial::request(As::Nobody, operation, "auth/oidc/oidc/callback", fields);
        assert_eq!(scene.trial.decide(&request).need, Need::Room);
    }
}

#[test]
fn a_mount_without_a_client_logs_nobody_in_by_a_browser() {
    let mut scene = Scene::new(json!({}));
    let without = json!({ "oidc_client_id": null, "oidc_client_secret": null });
    scene.configure("oidc", without);
    for path in ["auth/oidc/oidc/auth_url", "auth/oidc/oidc/callback"] {
        let refused = scene.trial.ask(As::Nobody, Update, path, json!({}));
        assert!(text(refused.unwrap_err()).contains("OIDC login is not configured for this mount"));
    }
    for (role, why) in [
        (
            json!({ "callback_mode": "direct" }),
            "only 'client' is served",
        ),
        (
            json!({ "callback_mode": "device" }),
            "only 'client' is served",
        ),
    ] {
        let refused = scene.trial.root(Update, "auth/oidc/role/people", role);
        assert!(text(refused.unwrap_err()).contains(why));
    }
}
