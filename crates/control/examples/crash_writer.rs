//! Writes to a server's store until it is killed, and says after each answer what is now promised:
//! `crash_writer FOLDER`. The durability test kills it and looks whether the promises were kept.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;

use bastide_api::ClusterId;
use bastide_control::core::registry::Registry;
use bastide_control::core::request::Operation;
use bastide_control::run::outbox::AuditTo;
use bastide_control::run::server::{SealKey, Server, ServerConfig};
use serde_json::{Value, json};

/// Writers at a time, so that commits hold several requests.
const WRITERS: u64 = 8;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_default());
    let config = ServerConfig {
        data: folder.join("server"),
        seal: SealKey::File(folder.join("seal.key")),
        audit: Some(AuditTo::file(folder.join("audit.log"))),
        cluster_name: "crash".to_owned(),
    };
    let cluster = ClusterId::from_bytes([3; 16]);
    let (server, _) = Server::start(&config, cluster, Registry::built_in())?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let plane = server.plane().clone();
        writers.spawn(async move {
            for number in 1_u64.. {
                let path = format!("secret/data/writer-{writer}");
                let Value::Object(data) = json!({ "data": { "number": number } }) else {
                    unreachable!("it was made as an object")
                };
                let done = plane.ask(Operation::Update, &path, data).await;
                let version = done.ok().and_then(|it| it.data?.get("version")?.as_u64());
                // One write of one line: it is whole or not there.
                println!("{writer} {}", version.unwrap_or(0));
            }
        });
    }
    while writers.join_next().await.is_some() {}
    Ok(())
}
