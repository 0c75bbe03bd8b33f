//! `seal "…" { … }`.

use std::path::PathBuf;

use serde_json::Value;

use super::Block;

/// The kernel's way to the TPM, which lets several programs use it at a time.
const TPM_DEFAULT: &str = "/dev/tpmrm0";
/// Where the engine is mounted at the other server, if it is not said.
const MOUNT_DEFAULT: &str = "transit";

/// One `seal` that is not of shares: it opens the store by itself when the server starts. Shares, which
/// Vault calls recovery keys, open it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealSettings {
    /// A key in a file, made if it is missing.
    KeyFile {
        /// Which.
        path: PathBuf,
    },
    /// A TPM 2.0.
    Tpm {
        /// Its device, or the socket of a software TPM.
        device: PathBuf,
        /// The platform's registers that must be as they were.
        pcrs: Vec<u8>,
    },
    /// The engine transit of another server.
    Transit(TransitSettings),
}

/// How another server is asked for a key's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitSettings {
    /// Its address: `https://HOST:PORT`.
    pub address: String,
    /// The file that holds the token, alone.
    pub token_file: PathBuf,
    /// The key's name there.
    pub key_name: String,
    /// Where the engine is mounted there, without slash at the end.
    pub mount_path: String,
    /// The authority of its certificate (PEM).
    pub ca_file: PathBuf,
}

impl SealSettings {
    /// Reads one. `Err(Disabled)` names one that is no longer to open the store.
    pub(super) fn read(
        kind: &str,
        mut fields: Block,
        at: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Meant, String> {
        let is_disabled = fields.flag("disabled")?;
        let known = ["shamir", "key-file", "tpm", "transit"];
        if !known.contains(&kind) {
            return Err(format!(
                "unknown seal type {}: `shamir`, `key-file`, `tpm` and `transit` are served",
                super::shown(kind)
            ));
        }
        if is_disabled {
            return Ok(Meant::Not(kind.to_owned()));
        }
        let needed = |name: &str| format!("`{name}` of seal `{kind}` is missing");
        let settings = match kind {
            "key-file" => Self::KeyFile {
                path: fields.text("path")?.ok_or_else(|| needed("path"))?.into(),
            },
            "tpm" => Self::Tpm {
                device: fields
                    .text("device")?
                    .unwrap_or_else(|| TPM_DEFAULT.to_owned())
                    .into(),
                pcrs: pcrs(fields.take("pcrs"))?,
            },
            "transit" => Self::Transit(transit(&mut fields)?),
            _ => {
                fields.rest(at, warnings);
                return Ok(Meant::Shares);
            }
        };
        fields.rest(at, warnings);
        Ok(Meant::Seal(settings))
    }
}

/// What a block means.
pub(super) enum Meant {
    /// This seal.
    Seal(SealSettings),
    /// Shares, as without a block.
    Shares,
    /// This one no longer.
    Not(String),
}

fn pcrs(value: Option<Value>) -> Result<Vec<u8>, String> {
    let wrong = || "`pcrs` of seal `tpm` is no list of numbers from 0 to 23".to_owned();
    let values = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(wrong()),
    };
    let number = |value: &Value| {
        let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
        number.filter(|number| *number < 24).ok_or_else(wrong)
    };
    values.iter().map(number).collect()
}

fn transit(fields: &mut Block) -> Result<TransitSettings, String> {
    let mut needed = |name: &str| -> Result<String, String> {
        let text = fields.text(name)?;
        text.ok_or_else(|| format!("`{name}` of seal `transit` is missing"))
    };
    let (address, key_name) = (needed("address")?, needed("key_name")?);
    let (token_file, ca_file) = (needed("token_file")?, needed("tls_ca_cert")?);
    if !address.starts_with("https://") {
        return Err("`address` of seal `transit` does not begin with https://".to_owned());
    }
    if fields.take("token").is_some() {
        let text = "`token` of seal `transit` is a secret: put it into a file, and name it by \
                    `token_file`";
        return Err(text.to_owned());
    }
    if fields.flag("tls_skip_verify")? {
        return Err("`tls_skip_verify` of seal `transit` is not served".to_owned());
    }
    let mount = fields.text("mount_path")?;
    let mount = mount.unwrap_or_else(|| MOUNT_DEFAULT.to_owned());
    let mount = mount.trim_matches('/');
    for text in [mount, &key_name] {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if text.is_empty() || !text.chars().all(is_plain) || text.contains("..") {
            return Err("`key_name` or `mount_path` of seal `transit` is no path".to_owned());
        }
    }
    Ok(TransitSettings {
        address: address.trim_end_matches('/').to_owned(),
        token_file: token_file.into(),
        mount_path: mount.to_owned(),
        key_name,
        ca_file: ca_file.into(),
    })
}
