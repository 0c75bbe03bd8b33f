//! A development server alone, for trying clients against it: `dev_server [ADDRESS [ROOT-TOKEN]]`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use bastide_api::Secret;
use bastide_control::run::dev;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments
        .next()
        .unwrap_or("127.0.0.1:8200".to_owned())
        .parse()?;
    let dev = dev::start(listen, arguments.next().map(Secret::new)).await?;
    println!("VAULT_ADDR=http://{}", dev.address);
    println!("VAULT_TOKEN={}", dev.root_token.expose());
    tokio::signal::ctrl_c().await?;
    dev.server.stop().await;
    Ok(())
}
