//! `seal "…" { … }`.

use super::Block;

/// One `seal` that is not of shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealSettings {}

impl SealSettings {
    pub(super) fn read(
        kind: &str,
        mut fields: Block,
        at: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, String> {
        if fields.flag("disabled")? {
            return Ok(None);
        }
        match kind {
            "shamir" => {
                fields.rest(at, warnings);
                Ok(None)
            }
            other => Err(format!("unknown seal type {}", super::shown(other))),
        }
    }
}
