//! Keys of an open server: rotated, shared out anew, and a root token made by those who hold shares.

use std::time::Duration;

use bastide_api::Secret;
use bastide_client::{Client, ClientError};
use bastide_control::core::config::Compat;
use bastide_control::core::request::Operation;
use bastide_control::run::gate::{Gatehouse, NoCrew};
use bastide_control::run::server::SealKey;
use data_encoding::BASE64_NOPAD;
use serde_json::{Value, json};

use super::{House, config, said};

impl House {
    /// Starts a server as strict or open as `compat` says.
    async fn compatible(folder: &std::path::Path, compat: Compat) -> Self {
        let mut config = config(folder, SealKey::Absent);
        config.server.compat = compat;
        let mut house = Gatehouse::start(config, Box::new(NoCrew)).await.unwrap();
        let socket = folder.join("server.sock");
        house.listen_here(&socket).unwrap();
        Self { house, socket }
    }

    /// Makes the store and opens it with the first shares.
    async fn begin(&self, shares: u8, threshold: u8) -> (Vec<String>, String) {
        let made = self.init(shares, threshold).await;
        for share in made.0.iter().take(threshold.into()) {
            self.give(share).await.unwrap();
        }
        assert!(!self.is_sealed().await);
        made
    }

    async fn as_token(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<Value, ClientError> {
        let client = Client::unix_as(&self.socket, Secret::new(token.to_owned()));
        let body = Secret::new(serde_json::to_vec(&body).unwrap());
        let body = (method == "PUT").then_some(body);
        let by = tokio::time::Instant::now() + Duration::from_secs(10);
        client.ask(method, &format!("/v1/{path}"), body, by).await
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_seals_what_follows_and_opens_what_was_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (shares, root) = house.begin(3, 2).await;
    let mut terms = Vec::new();
    for round in 0..3 {
        let path = format!("secret/data/{round}");
        house
            .ask(Operation::Update, &path, json!({ "data": { "a": round } }))
            .await;
        house
            .as_token(&root, "PUT", "sys/rotate", json!({}))
            .await
            .unwrap();
        let status = house
            .as_token(&root, "GET", "sys/key-status", Value::Null)
            .await
            .unwrap();
        terms.push(status["data"]["term"].as_u64().unwrap());
        assert!(text(&status["data"], "install_time").starts_with("20"));
    }
    assert_eq!(terms, [2, 3, 4]);
    house.house.stop().await;
    let house = House::start(folder.path()).await;
    for share in &shares[1..] {
        house.give(share).await.unwrap();
    }
    for round in 0..3 {
        let path = format!("secret/data/{round}");
        let read = house.ask(Operation::Read, &path, json!({})).await;
        assert_eq!(read["data"]["a"], json!(round));
    }
    let status = house
        .as_token(&root, "GET", "sys/key-status", Value::Null)
        .await
        .unwrap();
    assert_eq!(status["data"]["term"], json!(4));
    let set = json!({ "interval": "1h" });
    let refused = said(house.as_token(&root, "PUT", "sys/rotate/config", set).await);
    assert!(
        refused.0 == 400 && refused.1.contains("24 hours"),
        "{refused:?}"
    );
    let set = json!({ "interval": "48h", "max_operations": 2_000_000 });
    house
        .as_token(&root, "PUT", "sys/rotate/config", set)
        .await
        .unwrap();
    let read = house
        .as_token(&root, "GET", "sys/rotate/config", Value::Null)
        .await
        .unwrap();
    assert_eq!(
        read["data"],
        json!({ "enabled": true, "interval": "48h0m0s", "max_operations": 2_000_000 })
    );
    house.house.stop().await;
}

/// CVE-2025-4656, CVE-2026-5807: whoever reached a server could end or block what people with shares do.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_neither_begin_nor_end_what_people_with_shares_do() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (_, root) = house.begin(3, 2).await;
    let asked = json!({ "secret_shares": 1, "secret_threshold": 1 });
    for (method, path) in [
        ("PUT", "sys/rekey/init"),
        ("GET", "sys/rekey/init"),
        ("DELETE", "sys/rekey/init"),
        ("PUT", "sys/rekey/update"),
        ("GET", "sys/rekey/verify"),
        ("DELETE", "sys/rekey/verify"),
        ("PUT", "sys/generate-root/attempt"),
        ("GET", "sys/generate-root/attempt"),
        ("DELETE", "sys/generate-root/attempt"),
        ("PUT", "sys/generate-root/update"),
        ("PUT", "sys/generate-root/token"),
        ("PUT", "sys/rotate"),
    ] {
        let (status, _) = said(house.call(method, path, asked.clone()).await);
        assert_eq!(status, 403, "{method} {path}");
    }
    // The control: whoever may, can.
    house
        .as_token(&root, "PUT", "sys/generate-root/attempt", json!({}))
        .await
        .unwrap();
    house
        .as_token(&root, "DELETE", "sys/generate-root/attempt", Value::Null)
        .await
        .unwrap();
    let (status, _) = said(
        house
            .as_token(&root, "PUT", "sys/generate-root/token", json!({}))
            .await,
    );
    assert_eq!(status, 404, "a token is made for shares alone");
    house.house.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let house = House::compatible(folder.path(), Compat::Vault).await;
    let (_, root) = house.begin(3, 2).await;
    for (begin, end) in [
        ("sys/rekey/init", "sys/rekey/init"),
        ("sys/generate-root/attempt", "sys/generate-root/attempt"),
    ] {
        house
            .as_token(&root, "PUT", begin, asked.clone())
            .await
            .unwrap();
        let (status, text) = said(house.call("DELETE", end, Value::Null).await);
        assert!(status == 400 && text.contains("nonce"), "{end}: {text}");
        assert_eq!(
            house.call("GET", end, Value::Null).await.unwrap()["started"],
            json!(true)
        );
        house
            .as_token(&root, "DELETE", end, Value::Null)
            .await
            .unwrap();
        assert_eq!(
            house.call("GET", end, Value::Null).await.unwrap()["started"],
            json!(false)
        );
    }
    let (status, _) = said(house.call("PUT", "sys/rotate", json!({})).await);
    assert_eq!(status, 403, "as in Vault");
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_shares_make_a_root_token_and_fewer_or_wrong_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::compatible(folder.path(), Compat::Vault).await;
    let (shares, _) = house.begin(3, 2).await;
    let (status, text_of) = said(
        house
            .call(
                "PUT",
                "sys/generate-root/attempt",
                json!({ "otp": "short" }),
            )
            .await,
    );
    assert!(
        status == 400 && text_of.contains("wrong length"),
        "{text_of}"
    );
    let begun = house
        .call("PUT", "sys/generate-root/attempt", json!({}))
        .await
        .unwrap();
    let (nonce, otp) = (
        text(&begun, "nonce").to_owned(),
        text(&begun, "otp").to_owned(),
    );
    let again = said(
        house
            .call("PUT", "sys/generate-root/attempt", json!({}))
            .await,
    );
    assert!(again.1.contains("already in progress"), "{again:?}");
    let give = async |share: &str, nonce: &str| {
        house
            .call(
                "PUT",
                "sys/generate-root/update",
                json!({ "key": share, "nonce": nonce }),
            )
            .await
    };
    let (status, _) = said(give(&shares[0], "another").await);
    assert_eq!(status, 400);
    assert_eq!(
        give(&shares[0], &nonce).await.unwrap()["progress"],
        json!(1)
    );
    assert_eq!(
        give(&shares[0], &nonce).await.unwrap()["progress"],
        json!(1),
        "it counts once"
    );
    let strange = said(give(&"11".repeat(33), &nonce).await);
    assert_eq!(strange.0, 400, "{strange:?}");
    assert_eq!(
        give(&shares[2], &nonce).await.unwrap()["progress"],
        json!(1),
        "all were forgotten"
    );
    let done = give(&shares[1], &nonce).await.unwrap();
    assert_eq!(done["complete"], json!(true));
    let mixed = BASE64_NOPAD
        .decode(text(&done, "encoded_root_token").as_bytes())
        .unwrap();
    let token = mixed
        .iter()
        .zip(otp.bytes())
        .map(|(&byte, with)| char::from(byte ^ with));
    let token: String = token.collect();
    assert!(token.starts_with("hvs.") && token.len() == 28);
    let found = house
        .as_token(&token, "GET", "auth/token/lookup-self", Value::Null)
        .await
        .unwrap();
    assert_eq!(found["data"]["policies"], json!(["root"]));
    assert_eq!(found["data"]["ttl"], json!(0));
    let over = house
        .call("GET", "sys/generate-root/attempt", Value::Null)
        .await
        .unwrap();
    assert_eq!(
        (&over["started"], &over["otp"]),
        (&json!(false), &json!(""))
    );
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_shares_open_the_server_until_enough_new_ones_were_shown() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (old, root) = house.begin(3, 2).await;
    let put = async |path: &str, body: Value| house.as_token(&root, "PUT", path, body).await;
    let asked = json!({ "secret_shares": 4, "secret_threshold": 3, "require_verification": true });
    let begun = put("sys/rekey/init", asked).await.unwrap();
    let nonce = text(&begun, "nonce").to_owned();
    let give = |share: &str| json!({ "key": share, "nonce": nonce });
    put("sys/rekey/update", give(&old[0])).await.unwrap();
    let made = put("sys/rekey/update", give(&old[2])).await.unwrap();
    assert_eq!(
        (&made["complete"], &made["verification_required"]),
        (&json!(true), &json!(true))
    );
    let new: Vec<_> = made["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    let (status, _) = said(put("sys/rekey/update", give(&old[0])).await);
    assert_eq!(status, 400);
    // Shares that are not the new ones prove nothing.
    let verification = text(&made, "verification_nonce").to_owned();
    let show = |share: &str| json!({ "key": share, "nonce": verification });
    put("sys/rekey/verify", show(&new[0])).await.unwrap();
    put("sys/rekey/verify", show(&new[1])).await.unwrap();
    let (status, said_so) = said(put("sys/rekey/verify", show(&old[0])).await);
    assert!(
        status == 400 && said_so.contains("verification failed"),
        "{said_so}"
    );
    house
        .as_token(&root, "PUT", "sys/seal", json!({}))
        .await
        .unwrap();
    house.give(&old[0]).await.unwrap();
    house.give(&old[1]).await.unwrap();
    assert!(
        !house.is_sealed().await,
        "a seal in the midst of it takes it back"
    );
    let begun = put(
        "sys/rekey/init",
        json!({ "secret_shares": 4, "secret_threshold": 3, "require_verification": true }),
    )
    .await
    .unwrap();
    let nonce = text(&begun, "nonce").to_owned();
    let give = |share: &str| json!({ "key": share, "nonce": nonce });
    put("sys/rekey/update", give(&old[1])).await.unwrap();
    let made = put("sys/rekey/update", give(&old[2])).await.unwrap();
    let new: Vec<_> = made["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    let fresh = house
        .as_token(&root, "DELETE", "sys/rekey/verify", Value::Null)
        .await
        .unwrap();
    assert_ne!(fresh["nonce"], made["verification_nonce"]);
    let show = |share: &str| json!({ "key": share, "nonce": fresh["nonce"] });
    put("sys/rekey/verify", show(&new[3])).await.unwrap();
    put("sys/rekey/verify", show(&new[1])).await.unwrap();
    let done = put("sys/rekey/verify", show(&new[0])).await.unwrap();
    assert_eq!(done["complete"], json!(true));
    house
        .as_token(&root, "PUT", "sys/seal", json!({}))
        .await
        .unwrap();
    assert_eq!(house.status().await["t"], json!(3));
    for share in &old {
        let _ = house.give(share).await;
    }
    assert!(
        house.is_sealed().await,
        "the old shares open nothing any more"
    );
    house
        .call("PUT", "sys/unseal", json!({ "reset": true }))
        .await
        .unwrap();
    for share in &new[1..] {
        house.give(share).await.unwrap();
    }
    assert!(!house.is_sealed().await);
    house.house.stop().await;
}

/// Writes that were acknowledged before a seal are there after it, and none but those.
#[tokio::test(flavor = "multi_thread")]
async fn openbaos_paths_for_new_shares_answer_in_the_envelope_and_vaults_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (old, root) = house.begin(3, 2).await;
    let ask = async |method: &str, path: &str, body: Value| {
        house.as_token(&root, method, path, body).await.unwrap()
    };
    let asked = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let begun = ask("PUT", "sys/rekey/init", asked.clone()).await;
    assert_eq!((&begun["started"], begun.get("data")), (&json!(true), None));
    ask("DELETE", "sys/rekey/init", Value::Null).await;

    let begun = ask("PUT", "sys/rotate/root/init", asked).await;
    assert_eq!(
        (&begun["data"]["started"], begun.get("started")),
        (&json!(true), None)
    );
    assert_eq!(text(&begun, "request_id").len(), 36);
    let nonce = text(&begun["data"], "nonce");
    for share in &old[..2] {
        let given = json!({ "key": share, "nonce": nonce });
        let told = ask("PUT", "sys/rotate/root/update", given).await;
        let is_last = share == &old[1];
        assert_eq!(told["data"]["complete"].as_bool().unwrap_or(false), is_last);
        assert_eq!(told["data"]["keys"].is_array(), is_last);
    }
    let none = ask("GET", "sys/rotate/root/init", Value::Null).await;
    assert_eq!(none["data"]["started"], json!(false));
    house.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_seal_is_there_after_it_and_the_rest_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path()).await;
    let (shares, root) = house.begin(1, 1).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let client = Client::unix_as(&house.socket, Secret::new(root.clone()));
        writers.spawn(async move {
            let mut known = Vec::new();
            for round in 0.. {
                let path = format!("secret/data/{writer}/{round}");
                let body = json!({ "data": { "round": round } });
                match client
                    .call("POST", &format!("/v1/{path}"), Some(body))
                    .await
                {
                    Ok(_) => known.push(path),
                    Err(error) => return (known, path, error),
                }
            }
            unreachable!("it ends with the server's seal")
        });
    }
    while house.house.gate().plane().unwrap().store().revision().0 < 300 {
        tokio::task::yield_now().await;
    }
    house.house.gate().seal().await.unwrap();
    let ended = writers.join_all().await;
    house.give(&shares[0]).await.unwrap();
    let plane = house.house.gate().plane().unwrap();
    let mut known_all = 0;
    for (known, _, error) in &ended {
        assert!(
            matches!(
                error,
                ClientError::Refused { status: 503, .. } | ClientError::Lost { .. }
            ),
            "{error}"
        );
        for path in known {
            let read = plane
                .ask(Operation::Read, path, serde_json::Map::new())
                .await;
            let data = read
                .unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
                .data
                .unwrap();
            assert_eq!(
                data["data"]["round"],
                json!(path.rsplit('/').next().unwrap().parse::<u64>().unwrap())
            );
            known_all += 1;
        }
    }
    assert!(200 < known_all, "{known_all}");
    drop(plane);
    house.house.stop().await;
}
