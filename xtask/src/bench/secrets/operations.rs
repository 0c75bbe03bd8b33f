//! What is asked, and what must be there before.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::server::Server;

/// Something that is asked over and over.
#[derive(Debug)]
pub struct Operation {
    /// What it is called.
    pub name: &'static str,
    /// The kind of mount that serves it.
    pub engine: &'static str,
    /// How it is asked.
    pub method: &'static str,
    /// Where; a path that ends with `-` gets a number of its own each time.
    pub path: &'static str,
    /// With what.
    pub body: &'static str,
    /// By how many clients, if not as many as the others.
    pub clients: Option<u32>,
}

const USER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGW3bB0gqv4/N1xg1CNjKJpqvXxIA8p+nEjRh5y0dS1c";

/// All that is measured.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "kv-read",
        engine: "kv",
        method: "GET",
        path: "bench/data/a",
        body: "",
        clients: None,
    },
    Operation {
        name: "token-lookup",
        engine: "token",
        method: "GET",
        path: "auth/token/lookup-self",
        body: "",
        clients: None,
    },
    Operation {
        name: "transit-encrypt",
        engine: "transit",
        method: "POST",
        path: "bench-transit/encrypt/k",
        body: r#"{"plaintext":"aGVsbG8gd29ybGQ="}"#,
        clients: None,
    },
    Operation {
        name: "pki-issue",
        engine: "pki",
        method: "POST",
        path: "bench-pki/issue/r",
        body: r#"{"common_name":"a.example","ttl":"1h"}"#,
        clients: None,
    },
    Operation {
        name: "ssh-sign",
        engine: "ssh",
        method: "POST",
        path: "bench-ssh/sign/r",
        body: "",
        clients: None,
    },
    Operation {
        name: "token-create",
        engine: "token",
        method: "POST",
        path: "auth/token/create",
        body: r#"{"policies":["default"],"ttl":"5m"}"#,
        clients: None,
    },
    Operation {
        name: "kv-write",
        engine: "kv",
        method: "POST",
        path: "bench/data/w/-",
        body: r#"{"data":{"v":"0123456789abcdef0123456789abcdef"}}"#,
        clients: None,
    },
    Operation {
        name: "kv-write-64",
        engine: "kv",
        method: "POST",
        path: "bench/data/x/-",
        body: r#"{"data":{"v":"0123456789abcdef0123456789abcdef"}}"#,
        clients: Some(64),
    },
];

impl Operation {
    /// Returns what is sent.
    pub fn text(&self) -> String {
        match self.name {
            "ssh-sign" => json!({ "public_key": USER_KEY, "valid_principals": "u" }).to_string(),
            _ => self.body.to_owned(),
        }
    }
}

/// Mounts the engines and makes what the operations need. Returns the engines that are served.
pub fn prepare(server: &Server) -> anyhow::Result<BTreeSet<&'static str>> {
    let mut served = BTreeSet::from(["token"]);
    let steps: [(&'static str, Vec<(&str, Value)>); 4] = [
        (
            "kv",
            vec![
                (
                    "sys/mounts/bench",
                    json!({ "type": "kv", "options": { "version": "2" } }),
                ),
                ("bench/data/a", json!({ "data": { "x": "1", "y": "2" } })),
            ],
        ),
        (
            "transit",
            vec![
                ("sys/mounts/bench-transit", json!({ "type": "transit" })),
                ("bench-transit/keys/k", json!({})),
            ],
        ),
        (
            "pki",
            vec![
                ("sys/mounts/bench-pki", json!({ "type": "pki" })),
                (
                    "bench-pki/root/generate/internal",
                    json!({
                        "common_name": "bench", "key_type": "ec", "key_bits": 256, "ttl": "700h",
                    }),
                ),
                (
                    "bench-pki/roles/r",
                    json!({
                        "allow_any_name": true, "key_type": "ec", "key_bits": 256,
                        "no_store": true, "ttl": "1h",
                    }),
                ),
            ],
        ),
        (
            "ssh",
            vec![
                ("sys/mounts/bench-ssh", json!({ "type": "ssh" })),
                (
                    "bench-ssh/config/ca",
                    json!({ "key_type": "ed25519", "generate_signing_key": true }),
                ),
                (
                    "bench-ssh/roles/r",
                    json!({
                        "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
                        "default_user": "u", "ttl": "5m",
                        "default_extensions": { "permit-pty": "" },
                    }),
                ),
            ],
        ),
    ];
    for (engine, writes) in steps {
        let mut is_served = true;
        for (path, data) in writes {
            is_served = is_served && server.write_until_served(path, &data)?;
        }
        if is_served {
            served.insert(engine);
        }
    }
    Ok(served)
}
