//! `wg [-f] INTERFACE`: a WireGuard device for `wg` to configure, in the foreground. The product's
//! own face of this is `bastide wg`; this is for tests and measurements of the crate alone.

use bastide_mesh::run::alone;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let interface = std::env::args().skip(1).find(|argument| argument != "-f");
    let interface = interface.ok_or("usage: wg [-f] INTERFACE")?;
    alone::run(&interface, &alone::Stop::new()?, |_| ())?;
    Ok(())
}
