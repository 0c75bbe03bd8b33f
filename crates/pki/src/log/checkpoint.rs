//! What a checkpoint says, in the format of C2SP `tlog-checkpoint`.

use data_encoding::{BASE64, HEXLOWER};

use super::note::{LogKey, LogSigner};
use super::tree::Hash;

/// What the line of the extension begins with.
const LINE: &str = "line ";

/// How long a log was, and what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number of lines.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The hash of the last of them; `None` of an empty log.
    pub line: Option<Hash>,
}

/// Why a note is not a checkpoint that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The key did not sign it.
    #[error("it is not signed by the log's key, or was changed since")]
    Signature,
    /// It is signed, but of another log or form.
    #[error("it is no checkpoint of this log")]
    Form,
}

impl Checkpoint {
    /// Signs it.
    pub fn sign(&self, signer: &LogSigner) -> String {
        let key = signer.key();
        let mut text = format!(
            "{}\n{}\n{}\n",
            key.name(),
            self.size,
            BASE64.encode(&self.root)
        );
        if let Some(line) = &self.line {
            text.push_str(LINE);
            text.push_str(&HEXLOWER.encode(line));
            text.push('\n');
        }
        signer.sign(&text)
    }

    /// Reads one that `key` signed.
    pub fn read(note: &str, key: &LogKey) -> Result<Self, CheckpointError> {
        let text = key.verify(note).ok_or(CheckpointError::Signature)?;
        Self::parse(text, key.name()).ok_or(CheckpointError::Form)
    }

    fn parse(text: &str, name: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != name {
            return None;
        }
        let size = lines.next()?;
        let is_number =
            size == "0" || !size.starts_with('0') && size.bytes().all(|it| it.is_ascii_digit());
        let size = size.parse().ok().filter(|_| is_number)?;
        let root = BASE64
            .decode(lines.next()?.as_bytes())
            .ok()?
            .try_into()
            .ok()?;
        let line = lines.find_map(|line| line.strip_prefix(LINE));
        let line = match line {
            Some(hex) => Some(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?),
            None => None,
        };
        Some(Self { size, root, line })
    }
}
