use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::core::pipeline::Envelope;
use crate::core::trial::{As, Trial, text};

mod keys;
mod roles;
mod tokens;

const LOGIN: &str = "auth/jwt/login";

/// Somebody who signs tokens with P-256.
pub(super) struct Issuer(EcdsaKeyPair);

impl Issuer {
    pub(super) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(pair.unwrap())
    }

    fn pem(&self) -> String {
        use aws_lc_rs::encoding::AsDer;
        let spki = self.0.public_key().as_der().unwrap();
        bastide_pki::x509::pem("PUBLIC KEY", spki.as_ref())
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
            "x": part(&point[1..33]), "y": part(&point[33..]),
        })
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

fn signed_part(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

pub(super) fn es256() -> Value {
    json!({ "alg": "ES256", "typ": "JWT" })
}

fn secs(trial: &Trial) -> i64 {
    trial.now.as_secs().try_into().unwrap()
}

fn claims(trial: &Trial, more: Value) -> Value {
    let now = secs(trial);
    let mut claims = json!({ "sub": "ada", "aud": "bastide", "iat": now, "exp": now + 300 });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

fn begun(config: Value, role: Value) -> Trial {
    let mut trial = Trial::new();
    trial.write("sys/auth/jwt", json!({ "type": "jwt" }));
    trial.write("auth/jwt/config", config);
    let mut all = json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": "bastide" });
    all.as_object_mut()
        .unwrap()
        .extend(role.as_object().unwrap().clone());
    trial.write("auth/jwt/role/ci", all);
    trial
}

fn with_key(issuer: &Issuer, role: Value) -> Trial {
    begun(
        json!({ "jwt_validation_pubkeys": [issuer.pem()], "default_role": "CI" }),
        role,
    )
}

fn log_in(trial: &mut Trial, token: &str) -> Result<Envelope, Refusal> {
    let fields = json!({ "role": "ci", "jwt": token });
    trial.ask(As::Nobody, Operation::Update, LOGIN, fields)
}

#[track_caller]
fn refused(trial: &mut Trial, token: &str, why: &str) {
    let said = text(log_in(trial, token).unwrap_err());
    assert!(said.contains(why), "{said} does not say {why}");
}

#[test]
fn a_token_that_a_known_key_signed_makes_one_of_ours() {
    let issuer = Issuer::new();
    let role = json!({
        "token_policies": "reader", "groups_claim": "/nested/groups",
        "claim_mappings": { "mail": "email", "/nested/level": "level", "absent": "x" },
    });
    let mut trial = with_key(&issuer, role);
    let more = json!({
        "mail": "ada@example.org", "nested": { "groups": ["dev", "ops"], "level": 3 },
    });
    let token = issuer.sign(&es256(), &claims(&trial, more));
    let auth = log_in(&mut trial, &token).unwrap().auth.unwrap();
    assert_eq!(auth["policies"], json!(["default", "reader"]));
    let metadata = json!({ "role": "ci", "email": "ada@example.org", "level": "3" });
    assert_eq!(auth["metadata"], metadata);
    // The default role serves who names none.
    let fields = json!({ "jwt": token });
    trial
        .ask(As::Nobody, Operation::Update, LOGIN, fields)
        .unwrap();
}

#[test]
fn a_token_is_renewed_as_its_role_says_now() {
    let issuer = Issuer::new();
    let mut trial = with_key(&issuer, json!({ "token_ttl": 60 }));
    let token = issuer.sign(&es256(), &claims(&trial, json!({})));
    let auth = log_in(&mut trial, &token).unwrap().auth.unwrap();
    let ours = auth["client_token"].as_str().unwrap().to_owned();
    let renew = |trial: &mut Trial| {
        let path = "auth/token/renew-self";
        trial.ask(As::Token(&ours), Operation::Update, path, json!({}))
    };
    trial.write("auth/jwt/role/ci", json!({ "token_ttl": 90 }));
    assert_eq!(
        renew(&mut trial).unwrap().auth.unwrap()["lease_duration"],
        90
    );
    trial.write("auth/jwt/role/ci", json!({ "token_policies": "less" }));
    assert!(text(renew(&mut trial).unwrap_err()).contains("policies have changed"));
    trial
        .root(Operation::Delete, "auth/jwt/role/ci", json!({}))
        .unwrap();
    assert!(text(renew(&mut trial).unwrap_err()).contains("does not exist during renewal"));
}
