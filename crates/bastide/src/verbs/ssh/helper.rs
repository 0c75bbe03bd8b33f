//! What `sshd`, PAM and `ssh` run of this program. Each starts no more than it needs: somebody waits.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use bastide_api::Secret;
use bastide_client::Client;
use serde_json::json;

use crate::paths;

/// Most bytes of a password: ours have 36.
const OTP_BYTES_MAX: u64 = 128;
/// Names the file from which [`answer_prompt`] answers.
pub const PROMPT_FILE: &str = "BASTIDE_SSH_PROMPT_FILE";

/// The principals that may log in as `user` here: those of the user anywhere, and of the user at this
/// node. For `AuthorizedPrincipalsCommand`.
pub fn principals(node: &str, user: &str) -> ExitCode {
    let plain = |text: &str| !text.is_empty() && !text.contains(['@', '\n', ' ', '#']);
    if !plain(user) || !plain(node) {
        return ExitCode::FAILURE;
    }
    let lines = format!("{user}\n{user}@{node}\n");
    match std::io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Somebody typed a password at this host, and PAM asks whether it is good: it comes on standard
/// input, ended by a zero byte. For `pam_exec.so` with `expose_authtok`.
pub async fn pam() -> ExitCode {
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    if said("PAM_TYPE") != "auth" {
        return ExitCode::FAILURE;
    }
    let mut typed = Vec::new();
    let read = std::io::stdin().take(OTP_BYTES_MAX).read_to_end(&mut typed);
    let typed = Secret::new(typed);
    let word = typed.expose().split(|byte| *byte == 0).next();
    let word = word.map(|word| word.strip_suffix(b"\n").unwrap_or(word));
    let Some(Ok(otp)) = word.map(std::str::from_utf8) else {
        return ExitCode::FAILURE;
    };
    if read.is_err() || otp.is_empty() {
        return ExitCode::FAILURE;
    }
    let body = json!({
        "otp": otp,
        "username": said("PAM_USER"),
        "rhost": said("PAM_RHOST"),
        "service": said("PAM_SERVICE"),
    });
    let client = Client::unix(Path::new(paths::AGENT_SOCKET));
    // The agent says why in its log; who knocks is told nothing.
    match client.call("POST", "/v1/ssh/verify", Some(body)).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `ssh` asks for a password that we have: answers once, if this process was started for that.
pub fn answer_prompt() -> Option<ExitCode> {
    let file = std::env::var_os(PROMPT_FILE)?;
    let path = Path::new(&file);
    let text = bastide_linux::file::read_bounded(path, OTP_BYTES_MAX);
    // A second question would be for something else.
    let removed = std::fs::remove_file(path);
    let Ok(Some(text)) = text.map(|text| text.map(Secret::new)) else {
        return Some(ExitCode::FAILURE);
    };
    if removed.is_err() || std::io::stdout().write_all(text.expose()).is_err() {
        return Some(ExitCode::FAILURE);
    }
    Some(ExitCode::SUCCESS)
}
