//! What a role and a configuration ask for.

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_a_role_is_bound_to_must_be_said() {
    let issuer = Issuer::new();
    for (role, said, fits) in [
        (json!({}), json!({}), true),
        (json!({}), json!({ "aud": ["other", "bastide"] }), true),
        (json!({}), json!({ "aud": "other" }), false),
        (json!({}), json!({ "aud": [] }), false),
        (json!({}), json!({ "aud": { "bastide": 1 } }), false),
        (
            json!({ "bound_audiences": [], "bound_subject": "ada" }),
            json!({}),
            false,
        ),
        (json!({ "bound_subject": "ada" }), json!({}), true),
        (json!({ "bound_subject": "bob" }), json!({}), false),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": "dev" }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": ["x", "dev"] }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": ["dev", "ops"] } }),
            json!({ "team": "ops" }),
            true,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({ "team": "Dev" }),
            false,
        ),
        (
            json!({ "bound_claims": { "team": "dev" } }),
            json!({}),
            false,
        ),
        (
            json!({ "bound_claims": { "team": "d*" } }),
            json!({ "team": "dev" }),
            false,
        ),
        (
            json!({ "bound_claims": { "on": true } }),
            json!({ "on": true }),
            true,
        ),
        (
            json!({ "bound_claims": { "on": true } }),
            json!({ "on": "true" }),
            false,
        ),
        (
            json!({ "bound_claims": { "/a/b": "c" } }),
            json!({ "a": { "b": "c" } }),
            true,
        ),
        (
            json!({ "bound_claims": { "/a/b": "c" } }),
            json!({ "a": "c" }),
            false,
        ),
        (
            json!({ "bound_claims": { "ref": "refs/*/main" }, "bound_claims_type": "glob" }),
            json!({ "ref": "refs/heads/main" }),
            true,
        ),
        (
            json!({ "bound_claims": { "ref": "refs/*/main" }, "bound_claims_type": "glob" }),
            json!({ "ref": "refs/heads/main2" }),
            false,
        ),
        (json!({ "groups_claim": "groups" }), json!({}), false),
        (
            json!({ "groups_claim": "groups" }),
            json!({ "groups": [1] }),
            false,
        ),
        (
            json!({ "groups_claim": "groups" }),
            json!({ "groups": "one" }),
            true,
        ),
        (json!({ "user_claim": "name" }), json!({}), false),
        (json!({ "user_claim": "name" }), json!({ "name": 7 }), false),
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "" }),
            false,
        ),
        // A name that looks like another is nobody's.
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "ada " }),
            false,
        ),
        (
            json!({ "user_claim": "name" }),
            json!({ "name": "ad\u{8}a" }),
            false,
        ),
        (
            json!({ "user_claim": "/a/name" }),
            json!({ "a": { "name": "x" } }),
            false,
        ),
        (
            json!({ "user_claim": "/a/name", "user_claim_json_pointer": true }),
            json!({ "a": { "name": "x" } }),
            true,
        ),
        (
            json!({ "claim_mappings": { "l": "l" } }),
            json!({ "l": ["list"] }),
            false,
        ),
        (
            json!({ "token_bound_cidrs": "10.0.0.0/8" }),
            json!({}),
            false,
        ),
    ] {
        let mut trial = with_key(&issuer, role.clone());
        let token = issuer.sign(&es256(), &claims(&trial, said.clone()));
        assert_eq!(
            log_in(&mut trial, &token).is_ok(),
            fits,
            "{role} and {said}"
        );
    }
}

#[test]
fn the_issuer_is_judged_where_it_is_bound() {
    let issuer = Issuer::new();
    let config = json!({ "jwt_validation_pubkeys": issuer.pem(), "bound_issuer": "https://a" });
    let mut trial = begun(config, json!({}));
    for (iss, fits) in [
        (json!("https://a"), true),
        (json!("https://b"), false),
        (Value::Null, false),
    ] {
        let token = issuer.sign(&es256(), &claims(&trial, json!({ "iss": iss })));
        assert_eq!(log_in(&mut trial, &token).is_ok(), fits, "{iss}");
    }
}

#[test]
fn configurations_and_roles_that_would_let_in_anybody_are_refused() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({}));
    let pem = issuer.pem();
    for (config, why) in [
        (json!({}), "exactly one of"),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwks_url": "https://a" }),
            "exactly one of",
        ),
        (
            json!({ "jwt_validation_pubkeys": "nothing" }),
            "error parsing public key",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwt_supported_algs": "none" }),
            "unsupported",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "jwt_supported_algs": "HS256" }),
            "unsupported",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "oidc_client_id": "x" }),
            "both",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "oidc_client_id": "x", "oidc_client_secret": "y" }),
            "'oidc_discovery_url' must be set for OIDC",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "oidc_response_types": ["code", "id_token"] }),
            "only 'code' is served",
        ),
        (
            json!({ "jwt_validation_pubkeys": pem, "oidc_response_mode": "fragment" }),
            "invalid response_mode",
        ),
    ] {
        let refused = trial.root(Operation::Update, "auth/jwt/config", config.clone());
        let said = text(refused.unwrap_err());
        assert!(said.contains(why), "{config}: {said}");
    }
    for (role, why) in [
        (
            json!({ "role_type": "jwt", "user_claim": "sub" }),
            "at least one bound constraint",
        ),
        (
            json!({ "role_type": "jwt", "bound_subject": "a" }),
            "a user claim must be defined",
        ),
        (
            json!({ "role_type": "saml", "user_claim": "sub" }),
            "invalid 'role_type'",
        ),
        (
            json!({ "user_claim": "sub" }),
            "'allowed_redirect_uris' must be set",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_subject": "a",
                "claim_mappings": { "a": "role" } }),
            "reserved",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_subject": "a",
                "claim_mappings": { "a": "x", "b": "x" } }),
            "multiple keys",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_claims": { "a": 1 },
                "bound_claims_type": "glob" }),
            "must be strings",
        ),
        (
            json!({ "role_type": "jwt", "user_claim": "sub", "bound_claims": { "a": [] } }),
            "neither a value nor a list",
        ),
    ] {
        let refused = trial.root(Operation::Update, "auth/jwt/role/x", role.clone());
        let said = text(refused.unwrap_err());
        assert!(said.contains(why), "{role}: {said}");
    }
    let oidc = json!({ "user_claim": "sub", "allowed_redirect_uris": "http://localhost:8250" });
    trial.write("auth/jwt/role/web", oidc);
    let token = issuer.sign(&es256(), &claims(&trial, json!({})));
    let login = json!({ "role": "web", "jwt": token });
    let login = trial.ask(As::Nobody, Operation::Update, LOGIN, login);
    assert_eq!(
        text(login.unwrap_err()),
        "role with oidc role_type is not allowed"
    );
}

#[test]
fn a_role_is_read_as_it_was_written() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({ "bound_claims": { "a": [1, 2] } }));
    let shown = trial
        .root(Operation::Read, "auth/jwt/role/CI", json!({}))
        .unwrap();
    assert_eq!(shown["bound_claims"], json!({ "a": [1, 2] }));
    assert_eq!(shown["bound_audiences"], json!(["bastide"]));
    assert_eq!(shown["user_claim"], "sub");
    assert_eq!(shown["claim_mappings"], Value::Null);
    let keys = trial
        .root(Operation::List, "auth/jwt/role", json!({}))
        .unwrap();
    assert_eq!(keys["keys"], json!(["ci"]));
}
