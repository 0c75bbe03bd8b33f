use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::core::engine::{Call, Context, Engine};
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant};
use crate::core::request::Operation::{Delete, List, Read, Update};
use crate::core::tables;
use crate::core::trial::{As, Trial, text};

/// An engine each read of which grants a lease of an hour.
struct Granting;

impl Engine for Granting {
    fn kind(&self) -> &'static str {
        "granting"
    }

    fn decide(&self, _: &mut Context<'_, '_>, _: &Call<'_>) -> Result<Answer, Refusal> {
        let hour = Duration::from_secs(3600);
        Ok(Answer {
            lease: Some(Grant {
                ttl: hour,
                ttl_max: hour,
                renewable: true,
                data: Value::Null,
            }),
            ..Answer::json(json!({ "granted": true }))
        })
    }
}

/// Makes a batch token as `who`.
fn batch(trial: &mut Trial, who: As<'_>, ttl: &str) -> String {
    let wanted =
        json!({ "type": "batch", "policies": ["default"], "ttl": ttl, "meta": { "a": "b" } });
    let made = trial.ask(who, Update, "auth/token/create", wanted).unwrap();
    let auth = made.auth.unwrap();
    assert_eq!(auth["token_type"], "batch");
    assert_eq!(auth["accessor"], "");
    assert_eq!(auth["renewable"], false);
    auth["client_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_batch_token_is_good_and_nothing_of_it_is_stored() {
    let mut trial = Trial::new();
    let before: usize = (1..0x80)
        .map(|table| trial.count(bastide_store::Table(table)))
        .sum();
    let token = batch(&mut trial, As::Root, "1h");
    let after: usize = (1..0x80)
        .map(|table| trial.count(bastide_store::Table(table)))
        .sum();
    assert_eq!(before, after, "no row was written");
    assert!(token.starts_with("hvb."), "{token}");
    let shown = trial
        .ask(As::Token(&token), Read, "auth/token/lookup-self", json!({}))
        .unwrap()
        .data
        .unwrap();
    assert_eq!(shown["type"], "batch");
    assert_eq!(shown["id"], json!(token));
    assert_eq!(shown["accessor"], "");
    assert_eq!(shown["creation_ttl"], 3600);
    assert_eq!(shown["renewable"], false);
    assert_eq!(shown["orphan"], false);
    assert_eq!(shown["meta"], json!({ "a": "b" }));
    trial.pass(3600);
    assert!(!trial.is_good(&token), "it ends by its time");
}

#[test]
fn a_batch_token_that_was_touched_is_no_token() {
    let mut trial = Trial::new();
    let token = batch(&mut trial, As::Root, "1h");
    assert!(trial.is_good(&token));
    for at in [4, 12, 40, token.len() - 2] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let touched = String::from_utf8(bytes).unwrap();
        assert!(!trial.is_good(&touched), "byte {at}");
    }
    assert!(!trial.is_good("hvb."));
    assert!(!trial.is_good(&format!("hvb.{}", "A".repeat(20_000))));
    // What another value of the store was sealed as is no token either.
    let place = bastide_store::Key::new(tables::POLICIES, "default");
    let sealed = trial.barrier().seal(&place, b"{\"v\":1,\"p\":[\"root\"]}");
    let forged = format!("hvb.{}", data_encoding::BASE64URL_NOPAD.encode(&sealed));
    assert!(!trial.is_good(&forged));
}

#[test]
fn a_batch_token_dies_with_its_parent_but_not_with_another() {
    let mut trial = Trial::new();
    let (parent, _) = trial.token(As::Root, json!({ "policies": ["root"], "ttl": "2h" }));
    let child = batch(&mut trial, As::Token(&parent), "1h");
    let orphan = json!({ "type": "batch", "policies": ["default"], "ttl": "1h" });
    let made = trial
        .ask(
            As::Token(&parent),
            Update,
            "auth/token/create-orphan",
            orphan,
        )
        .unwrap();
    let orphan = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(trial.is_good(&child) && trial.is_good(&orphan));
    trial.write("auth/token/revoke", json!({ "token": parent }));
    assert!(!trial.is_good(&child));
    assert!(trial.is_good(&orphan));
}

#[test]
fn a_batch_token_cannot_be_renewed_or_revoked_has_no_children_and_no_cubbyhole() {
    let mut trial = Trial::new();
    trial.write(
        "sys/policies/acl/all",
        json!({ "policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\"] }" }),
    );
    let wanted = json!({ "type": "batch", "policies": ["all"], "ttl": "1h" });
    let made = trial
        .ask(As::Root, Update, "auth/token/create", wanted)
        .unwrap();
    let token = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut refused = |operation, path: &str, data, expect: &str| {
        let found = trial.ask(As::Token(&token), operation, path, data);
        assert_eq!(text(found.unwrap_err()), expect, "{path}");
    };
    refused(
        Update,
        "auth/token/renew-self",
        json!({}),
        "batch tokens cannot be renewed",
    );
    refused(
        Update,
        "auth/token/revoke-self",
        json!({}),
        "batch tokens cannot be revoked",
    );
    refused(
        Update,
        "auth/token/create",
        json!({}),
        "batch tokens cannot create more tokens",
    );
    let cubbyhole = "cubbyhole operations are only supported by \"service\" type tokens";
    refused(Read, "cubbyhole/a", json!({}), cubbyhole);
    refused(Update, "cubbyhole/a", json!({ "a": 1 }), cubbyhole);
    refused(List, "cubbyhole", json!({}), cubbyhole);
    refused(Delete, "cubbyhole/a", json!({}), cubbyhole);
    for (data, expect) in [
        (
            json!({ "type": "batch", "num_uses": 1 }),
            "batch tokens cannot have \"num_uses\" set",
        ),
        (
            json!({ "type": "batch", "period": "1h" }),
            "batch tokens cannot have \"period\" set",
        ),
        (
            json!({ "type": "batch", "explicit_max_ttl": "1h" }),
            "batch tokens cannot have \"explicit_max_ttl\" set",
        ),
        (
            json!({ "type": "batch", "id": "mine" }),
            "batch tokens cannot have \"id\" set",
        ),
        (
            json!({ "type": "batch" }),
            "batch tokens cannot be root tokens",
        ),
    ] {
        let found = trial.ask(As::Root, Update, "auth/token/create", data);
        assert_eq!(text(found.unwrap_err()), expect);
    }
}

#[test]
fn what_a_batch_token_leases_ends_no_later_than_the_token_and_dies_with_its_parent() {
    let mut trial = Trial::new();
    let (parent, _) = trial.token(As::Root, json!({ "policies": ["root"], "ttl": "2h" }));
    trial.write(
        "sys/policies/acl/ssh",
        json!({ "policy": "path \"granting/*\" { capabilities = [\"read\"] }" }),
    );
    trial.add_engine(Arc::new(Granting));
    trial.write("sys/mounts/granting", json!({ "type": "granting" }));
    let wanted = json!({ "type": "batch", "policies": ["ssh"], "ttl": "90s" });
    let made = trial
        .ask(As::Token(&parent), Update, "auth/token/create", wanted)
        .unwrap();
    let token = made.auth.unwrap()["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let granted = trial
        .ask(As::Token(&token), Read, "granting/creds", json!({}))
        .unwrap();
    assert_eq!(granted.lease_duration, 90);
    let lookup = |trial: &mut Trial| {
        let id = json!({ "lease_id": granted.lease_id });
        trial.ask(As::Root, Update, "sys/leases/lookup", id).is_ok()
    };
    assert!(lookup(&mut trial));
    trial.write("auth/token/revoke", json!({ "token": parent }));
    assert!(!lookup(&mut trial));
}
