//! The text of systemd's units.

use std::path::Path;

const SERVER: &str = include_str!("units/bastide-server.service");
const AGENT: &str = include_str!("units/bastide-agent.service");

/// Where a unit finds the seal's key: systemd hands it over as a credential, so that the server's user
/// need not be able to read it.
const CREDENTIAL: &str = "LoadCredential=seal.key:/etc/bastide/seal.key\n";

/// How a server is unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// By a key file, which must be there.
    KeyFile,
    /// In another way: by people, or by another machine.
    Elsewhere,
}

/// Returns the server's unit.
pub fn server(program: &Path, seal: Seal) -> String {
    let credential = match seal {
        Seal::KeyFile => CREDENTIAL,
        Seal::Elsewhere => "",
    };
    SERVER
        .replace("@program@", &word(program))
        .replace("@credential@", credential)
}

/// Returns the agent's unit.
pub fn agent(program: &Path) -> String {
    AGENT.replace("@program@", &word(program))
}

/// Returns whether a unit that is shut out of homes and has a `/tmp` of its own can start `program`, and
/// whether its path is one that a unit can name at all.
pub fn can_start(program: &Path) -> bool {
    let is_hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"]
        .iter()
        .any(|folder| program.starts_with(folder));
    let is_odd = |char: char| matches!(char, '"' | '\'' | '\\') || char.is_control();
    !is_hidden && program.to_str().is_some_and(|path| !path.contains(is_odd))
}

/// A path as one word of a command line of systemd, whose specifiers mean themselves
/// (systemd.service(5), "Command lines"). In the first word there are no variables.
fn word(program: &Path) -> String {
    format!("\"{}\"", program.display().to_string().replace('%', "%%"))
}
