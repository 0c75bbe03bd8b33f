//! Client certificates of machines that are not of the cluster, at the API: shown by curl, made by
//! openssl.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Site, soon};

/// Runs a program in a folder and returns what it said; `None` if it is missing.
async fn run(folder: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    match soon(command.output()).await {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            crate::skipped(program);
            None
        }
    }
}

async fn openssl(folder: &Path, line: &str) -> Option<String> {
    let arguments: Vec<&str> = line.split(' ').collect();
    run(folder, "openssl", &arguments).await
}

/// Asks the API by curl, with more arguments, and returns what it answers.
async fn curl(site: &Site, more: &[&str], path: &str, body: &Value) -> Option<Value> {
    let url = format!("https://{}/v1/{path}", site.api);
    let body = body.to_string();
    let fixed = ["-s", "--cacert", "ca.pem", "-X", "POST", "-d", &body, &url];
    let arguments = [&fixed[..], more].concat();
    let said = run(site.folder.path(), "curl", &arguments).await?;
    Some(serde_json::from_str(&said).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_logs_in_with_a_strangers_certificate_and_no_node_does_with_its_own() {
    let site = Site::start().await;
    let folder = site.folder.path();
    std::fs::write(folder.join("ca.pem"), &site.begun.ca).unwrap();
    std::fs::write(folder.join("leaf.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for line in [
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 2 -subj /CN=root",
        "req -new -newkey rsa:2048 -nodes -keyout web.key -out web.csr -subj /CN=web",
        "x509 -req -in web.csr -CA root.pem -CAkey root.key -days 1 -extfile leaf.ext -out web.pem",
        // Of version 1: without extensions.
        "x509 -req -in web.csr -signkey web.key -days 1 -out old.pem",
    ] {
        if openssl(folder, line).await.is_none() {
            return;
        }
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let token = format!("X-Vault-Token: {}", site.root);
    let root = ["-H", token.as_str()];
    let kind = json!({ "type": "cert" });
    if curl(&site, &root, "sys/auth/cert", &kind).await.is_none() {
        return;
    }
    let role = json!({ "certificate": read("root.pem"), "allowed_common_names": "web" });
    curl(&site, &root, "auth/cert/certs/web", &role).await;
    let login = async |shown: &[&str]| {
        let answer = curl(&site, shown, "auth/cert/login", &json!({})).await;
        answer.unwrap_or_default()
    };
    let web = login(&["--cert", "web.pem", "--key", "web.key"]).await;
    assert_eq!(web["auth"]["metadata"]["common_name"], "web", "{web}");
    let nothing = login(&[]).await;
    let missing = "client certificate must be supplied";
    assert_eq!(nothing["errors"][0], missing);
    let old = ["--cert", "old.pem", "--key", "web.key"];
    let untrusted = login(&old).await;
    let refused = "invalid certificate or no client certificate supplied";
    assert_eq!(untrusted["errors"][0], refused);
    let role = json!({ "certificate": read("old.pem") });
    curl(&site, &root, "auth/cert/certs/old", &role).await;
    let trusted = login(&old).await;
    assert_eq!(trusted["auth"]["metadata"]["cert_name"], "old", "{trusted}");
    // Without the key there is no connection, and no answer.
    let stolen = login(&["--cert", "web.pem", "--key", "root.key"]).await;
    assert_eq!(stolen, Value::Null);
    // A node is known by its identity. What it shows is handed to no auth method.
    let node = site.node("two").await;
    std::fs::write(folder.join("node.pem"), &node.answer.certificate).unwrap();
    let node_ca = json!({ "certificate": site.begun.ca });
    curl(&site, &root, "auth/cert/certs/cluster", &node_ca).await;
    let client = node.client_of(site.api);
    let told = client
        .call("POST", "/v1/auth/cert/login", Some(json!({})))
        .await;
    let told = format!("{told:?}");
    assert!(told.contains(missing), "{told}");
}
