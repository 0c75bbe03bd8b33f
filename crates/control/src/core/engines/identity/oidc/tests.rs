use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::*;
use crate::core::identity::{AliasFacts, EntityFacts, GroupFacts};
use crate::core::pipeline::{Envelope, Shape};
use crate::core::request::Operation::{Delete, List, Update};
use crate::core::trial::{As, Trial, text};

/// A control plane, the token of a user, and his entity.
fn trial() -> (Trial, String, String) {
    let mut trial = Trial::new();
    trial.write("sys/auth/userpass", json!({ "type": "userpass" }));
    let rules = r#"path "identity/*" { capabilities = ["read", "update"] }"#;
    trial.write("sys/policies/acl/oidc", json!({ "policy": rules }));
    let user = json!({ "password": "right", "policies": "oidc" });
    trial.write("auth/userpass/users/ada", user);
    let (token, entity) = log_in(&mut trial);
    (trial, token, entity)
}

fn log_in(trial: &mut Trial) -> (String, String) {
    let data = json!({ "password": "right" });
    let auth = trial.ask(As::Nobody, Update, "auth/userpass/login/ada", data);
    let auth = auth.unwrap().auth.unwrap();
    let text = |name: &str| auth[name].as_str().unwrap().to_owned();
    (text("client_token"), text("entity_id"))
}

fn ask(trial: &mut Trial, who: As<'_>, path: &str, data: Value) -> Value {
    let operation = if data == json!({}) {
        Operation::Read
    } else {
        Update
    };
    let envelope = trial.ask(who, operation, path, data).unwrap();
    Value::Object(envelope.data.unwrap())
}

fn jwks(trial: &mut Trial) -> Vec<String> {
    let published = ask(
        trial,
        As::Nobody,
        "identity/oidc/.well-known/keys",
        json!({}),
    );
    let keys = published["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn kid(token: &str) -> String {
    let header = BASE64URL_NOPAD.decode(token.split('.').next().unwrap().as_bytes());
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn is_active(trial: &mut Trial, token: &str) -> bool {
    let data = json!({ "token": token });
    let told = ask(trial, As::Root, "identity/oidc/introspect", data);
    told["active"].as_bool().unwrap()
}

fn role(trial: &mut Trial, algorithm: &str) {
    let key = json!({ "algorithm": algorithm, "allowed_client_ids": "*" });
    trial.write("identity/oidc/key/k", key);
    trial.write("identity/oidc/role/r", json!({ "key": "k" }));
}

fn token(trial: &mut Trial, holder: &str) -> String {
    let told = ask(trial, As::Token(holder), "identity/oidc/token/r", json!({}));
    told["token"].as_str().unwrap().to_owned()
}

#[test]
fn tokens_of_each_algorithm_are_active_and_none_that_was_changed_is() {
    let (mut trial, holder, entity) = trial();
    for algorithm in jwk::Algorithm::NAMES {
        role(&mut trial, algorithm);
        let token = token(&mut trial, &holder);
        assert!(is_active(&mut trial, &token), "{algorithm}");
        let parts: Vec<&str> = token.split('.').collect();
        let claims = BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap();
        let mut claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], json!(entity));
        claims["sub"] = "somebody".into();
        let forged = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        let header = |alg: &str| {
            let header = json!({ "alg": alg, "kid": kid(&token) }).to_string();
            BASE64URL_NOPAD.encode(header.as_bytes())
        };
        for forged in [
            format!("{}.{forged}.{}", parts[0], parts[2]),
            format!("{}.{}.", header("none"), parts[1]),
            format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][4..]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
        ] {
            assert!(!is_active(&mut trial, &forged), "{algorithm} {forged}");
        }
    }
}

#[test]
fn a_key_never_signs_after_its_period_and_what_it_signed_verifies_as_long_as_promised() {
    let (mut trial, holder, _) = trial();
    role(&mut trial, "ES256");
    let data = json!({ "rotation_period": "1h", "verification_ttl": "2h" });
    assert!(
        trial
            .root(Update, "identity/oidc/key/k", data.clone())
            .is_err(),
        "the role's tokens live for longer"
    );
    trial.write("identity/oidc/role/r", json!({ "ttl": "90m" }));
    trial.write("identity/oidc/key/k", data);
    let first = token(&mut trial, &holder);
    let published = jwks(&mut trial);
    assert_eq!(published.len(), 2, "what signs, and what signs next");
    trial.pass(3599);
    let last = token(&mut trial, &holder);
    assert_eq!(kid(&last), kid(&first));
    trial.pass(1);
    let second = token(&mut trial, &holder);
    assert_ne!(kid(&second), kid(&first));
    assert!(published.contains(&kid(&second)), "it was published before");
    assert!(is_active(&mut trial, &last));
    assert!(jwks(&mut trial).contains(&kid(&first)));
    trial.pass(2 * 3600);
    assert!(!jwks(&mut trial).contains(&kid(&first)));
    assert!(!is_active(&mut trial, &last));
}

#[test]
fn a_rotation_by_hand_can_shorten_how_long_the_old_key_is_believed() {
    let (mut trial, holder, _) = trial();
    role(&mut trial, "EdDSA");
    let old = token(&mut trial, &holder);
    let mut rotate = |data: Value| trial.write("identity/oidc/key/k/rotate", data);
    rotate(json!({ "verification_ttl": 600 }));
    let shown = ask(&mut trial, As::Root, "identity/oidc/key/k", json!({}));
    assert_eq!(shown["verification_ttl"], json!(600));
    assert!(is_active(&mut trial, &old));
    trial.pass(600);
    assert!(!is_active(&mut trial, &old));
    let new = token(&mut trial, &holder);
    assert!(is_active(&mut trial, &new));
    trial.write(
        "identity/oidc/key/k/rotate",
        json!({ "verification_ttl": 0 }),
    );
    assert!(
        !is_active(&mut trial, &new),
        "none of it is believed any more"
    );
}

#[test]
fn a_token_is_inactive_once_its_entity_is_disabled_its_time_is_over_or_its_audience_another() {
    let (mut trial, holder, entity) = trial();
    role(&mut trial, "ES384");
    let token = token(&mut trial, &holder);
    let why = |trial: &mut Trial, client: &str| {
        let data = json!({ "token": token, "client_id": client });
        let told = ask(trial, As::Root, "identity/oidc/introspect", data);
        told["error"].as_str().unwrap_or_default().to_owned()
    };
    let client = ask(&mut trial, As::Root, "identity/oidc/role/r", json!({}));
    let client = client["client_id"].as_str().unwrap();
    assert_eq!(why(&mut trial, client), "");
    assert!(why(&mut trial, "other").contains("invalid audience"));
    let path = format!("identity/entity/id/{entity}");
    trial.write(&path, json!({ "disabled": true }));
    assert_eq!(why(&mut trial, client), "entity is disabled");
    trial.write(&path, json!({ "disabled": false }));
    trial.write(
        "identity/oidc/config",
        json!({ "issuer": "https://other.test:8200" }),
    );
    assert!(why(&mut trial, client).contains("invalid issuer"));
    trial.write("identity/oidc/config", json!({ "issuer": "" }));
    trial.pass(24 * 3600);
    assert!(why(&mut trial, client).contains("expired"));
}

#[test]
fn who_has_no_entity_or_a_client_that_the_key_does_not_name_gets_no_token() {
    let (mut trial, holder, _) = trial();
    role(&mut trial, "ES256");
    let refused = trial.ask(
        As::Root,
        Operation::Read,
        "identity/oidc/token/r",
        json!({}),
    );
    let refused = text(refused.unwrap_err());
    assert_eq!(refused, "no entity associated with the request's token");
    let nobody = json!({ "allowed_client_ids": "somebody-else" });
    trial.write("identity/oidc/key/k", nobody);
    let who = As::Token(&holder);
    let refused = trial.ask(who, Operation::Read, "identity/oidc/token/r", json!({}));
    assert!(text(refused.unwrap_err()).contains("does not list the client ID"));
}

#[test]
fn a_key_in_use_is_not_deleted_and_the_default_one_never_is() {
    let (mut trial, ..) = trial();
    role(&mut trial, "ES256");
    let mut delete = |path: &str| trial.root(Delete, path, json!({})).map_err(text);
    let refused = delete("identity/oidc/key/k").unwrap_err();
    assert!(
        refused.contains("referenced by these roles: r"),
        "{refused}"
    );
    assert!(delete("identity/oidc/key/default").is_err());
    delete("identity/oidc/role/r").unwrap();
    delete("identity/oidc/key/k").unwrap();
    let listed = trial.root(List, "identity/oidc/key", json!({})).unwrap();
    assert_eq!(listed["keys"], json!(["default"]));
    assert_eq!(jwks(&mut trial), [""; 0]);
}

fn entity() -> EntityFacts {
    let pairs = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    EntityFacts {
        id: "e1".to_owned(),
        name: "ada \"the\" first".to_owned(),
        metadata: pairs("team", "blue\",\"admin\":\"yes"),
        aliases: [(
            "auth_userpass_1".to_owned(),
            AliasFacts {
                name: "ada".to_owned(),
                metadata: pairs("a", "b"),
                ..AliasFacts::default()
            },
        )]
        .into(),
        groups: vec![GroupFacts {
            id: "g1".to_owned(),
            name: "ops".to_owned(),
            ..GroupFacts::default()
        }],
        ..EntityFacts::default()
    }
}

#[test]
fn a_template_becomes_claims_and_no_value_breaks_out_of_its_place() {
    let now = crate::run::server::now();
    let secs = now.as_secs();
    let claims = |text: &str| template::claims(text, &entity(), now);
    let text = r#"{
        "name": {{identity.entity.name}}, "team": {{ identity.entity.metadata.team }},
        "all": {{identity.entity.metadata}}, "none": {{identity.entity.metadata.other}},
        "groups": {{identity.entity.groups.names}}, "ids": {{identity.entity.groups.ids}},
        "alias": {{identity.entity.aliases.auth_userpass_1.metadata}},
        "no": {{identity.entity.aliases.auth_userpass_2.metadata}},
        "deep": {"user": {"name": {{identity.entity.aliases.auth_userpass_1.name}}}},
        "nbf": {{time.now}}, "later": {{time.now.plus.1h}}, "before": {{time.now.minus.30s}}
    }"#;
    let told = claims(text).unwrap();
    assert_eq!(
        Value::Object(told),
        json!({
            "name": "ada \"the\" first", "team": "blue\",\"admin\":\"yes",
            "all": { "team": "blue\",\"admin\":\"yes" }, "none": "",
            "groups": ["ops"], "ids": ["g1"], "alias": { "a": "b" }, "no": {},
            "deep": { "user": { "name": "ada" } },
            "nbf": secs, "later": secs + 3600, "before": secs - 30,
        })
    );
    assert_eq!(claims("").unwrap(), Map::new());
    for (wrong, error) in [
        ("[]", template::TemplateError::Json),
        (r#"{"a": {{time.now}"#, template::TemplateError::Unbalanced),
        (
            r#"{"a": {{identity.x}}}"#,
            template::TemplateError::Unknown("identity.x".to_owned()),
        ),
        (
            r#"{"sub": "root"}"#,
            template::TemplateError::Reserved("sub".to_owned()),
        ),
        (&" ".repeat(20_000), template::TemplateError::Long),
    ] {
        assert_eq!(claims(wrong), Err(error));
    }
}

/// A program that logs people in: its id and its secret.
fn client(trial: &mut Trial, data: Value) -> (String, String) {
    trial.write("identity/oidc/client/app", data);
    let shown = ask(trial, As::Root, "identity/oidc/client/app", json!({}));
    let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    (text("client_id"), text("client_secret"))
}

fn authorize(trial: &mut Trial, holder: &str, id: &str, more: &Value) -> Result<String, String> {
    let mut data = json!({
        "client_id": id, "redirect_uri": "https://app.test/cb", "response_type": "code",
        "scope": "openid team unknown", "state": "s", "nonce": "n",
    });
    for (key, value) in more.as_object().unwrap() {
        data[key] = value.clone();
    }
    let path = "identity/oidc/provider/default/authorize";
    let envelope = trial.ask(As::Token(holder), Update, path, data).unwrap();
    told_or_error(envelope).map(|told| {
        assert_eq!(told["state"], json!("s"));
        told["code"].as_str().unwrap().to_owned()
    })
}

fn told_or_error(envelope: Envelope) -> Result<Value, String> {
    let data = Value::Object(envelope.data.unwrap());
    match envelope.shape {
        Shape::Bare => Ok(data),
        Shape::Told(400 | 401) => Err(data["error"].as_str().unwrap().to_owned()),
        other => panic!("unexpected {other:?}"),
    }
}

fn redeem(trial: &mut Trial, mut data: Value) -> Result<Value, String> {
    data["grant_type"] = "authorization_code".into();
    data["redirect_uri"] = "https://app.test/cb".into();
    let path = "identity/oidc/provider/default/token";
    told_or_error(trial.ask(As::Nobody, Update, path, data).unwrap())
}

fn app(trial: &mut Trial, kind: &str) -> (String, String) {
    let scope = json!({ "template": r#"{"team": {{identity.entity.metadata.team}}}"# });
    trial.write("identity/oidc/scope/team", scope);
    trial.write(
        "identity/oidc/provider/default",
        json!({ "scopes_supported": "team" }),
    );
    let key = json!({ "algorithm": "ES256", "allowed_client_ids": "*" });
    trial.write("identity/oidc/key/k", key);
    client(
        trial,
        json!({
            "key": "k", "redirect_uris": "https://app.test/cb", "assignments": "allow_all",
            "client_type": kind, "access_token_ttl": "10m",
        }),
    )
}

#[test]
fn a_program_learns_who_logged_in_by_a_code_that_is_good_once_for_it_alone() {
    let (mut trial, holder, entity) = trial();
    let path = format!("identity/entity/id/{entity}");
    trial.write(&path, json!({ "metadata": { "team": "blue" } }));
    let (id, secret) = app(&mut trial, "confidential");
    let code = authorize(&mut trial, &holder, &id, &json!({})).unwrap();
    let data = json!({ "client_id": id, "client_secret": secret, "code": code });
    let tokens = redeem(&mut trial, data.clone()).unwrap();
    let claims = tokens["id_token"]
        .as_str()
        .unwrap()
        .split('.')
        .nth(1)
        .unwrap();
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], json!(entity));
    assert_eq!(claims["aud"], json!(id));
    assert_eq!(
        (&claims["nonce"], &claims["team"]),
        (&json!("n"), &json!("blue"))
    );
    assert_eq!(redeem(&mut trial, data), Err("invalid_grant".to_owned()));
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    let userinfo = "identity/oidc/provider/default/userinfo";
    let told = |trial: &mut Trial| {
        let asked = trial.ask(As::Token(&access), Operation::Read, userinfo, json!({}));
        told_or_error(asked.unwrap())
    };
    let expected = json!({ "sub": entity, "team": "blue" });
    assert_eq!(told(&mut trial), Ok(expected.clone()));
    // It is good for that alone.
    assert!(!trial.is_good(&access));
    trial.write(&path, json!({ "disabled": true }));
    assert_eq!(told(&mut trial), Err("access_denied".to_owned()));
    trial.write(&path, json!({ "disabled": false }));
    assert_eq!(told(&mut trial), Ok(expected));
    trial.pass(601);
    assert_eq!(told(&mut trial), Err("invalid_token".to_owned()));
    trial.tend();
    let asked = trial.ask(As::Nobody, Operation::Read, userinfo, json!({}));
    assert_eq!(
        told_or_error(asked.unwrap()),
        Err("invalid_token".to_owned())
    );
}

#[test]
fn a_code_is_spent_by_whoever_tries_it_wrongly() {
    let (mut trial, holder, _) = trial();
    let (id, secret) = app(&mut trial, "confidential");
    let other = json!({ "redirect_uris": "https://app.test/cb", "key": "k" });
    trial.write("identity/oidc/client/other", other);
    let other = ask(
        &mut trial,
        As::Root,
        "identity/oidc/client/other",
        json!({}),
    );
    let code = authorize(&mut trial, &holder, &id, &json!({})).unwrap();
    // Who cannot prove to be a client spends nothing.
    let wrong = json!({ "client_id": id, "client_secret": "guess", "code": code });
    assert_eq!(redeem(&mut trial, wrong), Err("invalid_client".to_owned()));
    let stolen = json!({
        "client_id": other["client_id"], "client_secret": other["client_secret"], "code": code,
    });
    assert_eq!(redeem(&mut trial, stolen), Err("invalid_grant".to_owned()));
    let right = json!({ "client_id": id, "client_secret": secret, "code": code });
    assert_eq!(redeem(&mut trial, right), Err("invalid_grant".to_owned()));
    // A code dies with the token of whoever asked for it, and of old age.
    for end in [true, false] {
        let (holder, _) = log_in(&mut trial);
        let code = authorize(&mut trial, &holder, &id, &json!({})).unwrap();
        if end {
            let gone = trial.ask(
                As::Token(&holder),
                Update,
                "auth/token/revoke-self",
                json!({}),
            );
            gone.unwrap();
        } else {
            trial.pass(301);
        }
        let data = json!({ "client_id": id, "client_secret": secret, "code": code });
        assert_eq!(redeem(&mut trial, data), Err("invalid_grant".to_owned()));
    }
}

#[test]
fn a_public_program_must_prove_by_pkce_that_the_code_is_its_own() {
    let (mut trial, holder, _) = trial();
    let (id, secret) = app(&mut trial, "public");
    assert_eq!(secret, "");
    let verifier = "v".repeat(43);
    let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
    let without = authorize(&mut trial, &holder, &id, &json!({}));
    assert_eq!(without, Err("invalid_request".to_owned()));
    let with = json!({ "code_challenge": challenge, "code_challenge_method": "S256" });
    for (shown, good) in [(verifier.as_str(), true), (&challenge, false), ("", false)] {
        let code = authorize(&mut trial, &holder, &id, &with).unwrap();
        let data = json!({ "client_id": id, "code": code, "code_verifier": shown });
        assert_eq!(redeem(&mut trial, data).is_ok(), good, "{shown:?}");
    }
}

#[test]
fn who_is_not_assigned_to_a_program_or_sends_it_elsewhere_gets_no_code() {
    let (mut trial, holder, entity) = trial();
    let (id, _) = app(&mut trial, "confidential");
    let ask_for = |trial: &mut Trial, more: Value| authorize(trial, &holder, &id, &more);
    let elsewhere = json!({ "redirect_uri": "https://evil.test/cb" });
    let refused = ask_for(&mut trial, elsewhere);
    assert_eq!(refused, Err("invalid_redirect_uri".to_owned()));
    let refused = ask_for(&mut trial, json!({ "scope": "team" }));
    assert_eq!(refused, Err("invalid_request".to_owned()));
    let group = json!({ "name": "staff" });
    let group = trial.write("identity/group", group);
    trial.write(
        "identity/oidc/assignment/staff",
        json!({ "group_ids": [group["id"]] }),
    );
    trial.write(
        "identity/oidc/client/app",
        json!({ "assignments": "staff" }),
    );
    let refused = ask_for(&mut trial, json!({}));
    assert_eq!(refused, Err("access_denied".to_owned()));
    trial.write(
        "identity/group/name/staff",
        json!({ "member_entity_ids": [entity] }),
    );
    assert!(ask_for(&mut trial, json!({})).is_ok());
    let refused = trial.root(Delete, "identity/oidc/assignment/staff", json!({}));
    assert!(text(refused.unwrap_err()).contains("referenced by these clients: app"));
}
