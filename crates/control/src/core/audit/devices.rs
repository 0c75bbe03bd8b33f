//! The audit devices that were enabled through the API: what is stored of them, and how they record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bastide_store::{Key, KeyRange, Unsealed};
use serde::{Deserialize, Serialize};

use super::{Hasher, Recorder, headers};
use crate::core::draft::Draft;
use crate::core::fields::parse_duration;
use crate::core::refusal::Refusal;
use crate::core::tables;

/// Most audit devices beside the server's own.
pub const DEVICES_MAX: usize = 8;
/// Longest option of a device, in bytes.
const OPTION_BYTES_MAX: usize = 1024;
/// Permission bits of an audit file that may be asked for: nobody executes it.
const MODE_MAX: u32 = 0o666;

/// Names a device's records for its whole life; all zeros is the server's own.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct DeviceId(pub [u8; 8]);

/// An audit device, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whose records.
    pub id: DeviceId,
    /// Its name, with a slash at the end, such as `file/`.
    pub path: String,
    /// `file`, `socket` or `syslog`.
    pub kind: String,
    /// What people say it is for.
    #[serde(default)]
    pub description: String,
    /// What it was enabled with.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What its key is derived with: drawn anew whenever it is enabled.
    pub salt: String,
    /// Kept for clients; means nothing here.
    #[serde(default)]
    pub local: bool,
}

/// Where a device's lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To a file.
    File {
        /// Its absolute path.
        path: String,
        /// Its permission bits; `None`: left as they are.
        mode: Option<u32>,
    },
    /// Nowhere.
    Discard,
    /// To a socket.
    Socket {
        /// Which protocol.
        family: Family,
        /// Where: `host:port`, or a path.
        address: String,
        /// How long a write may take, in milliseconds.
        write_timeout_ms: u64,
    },
    /// To this host's log.
    Syslog {
        /// The facility's number (RFC 5424, section 6.2.1).
        facility: u8,
        /// What lines are tagged with.
        tag: String,
    },
}

/// A socket's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A stream, a line each.
    Tcp,
    /// Datagrams.
    Udp,
    /// A stream to a path of this host.
    Unix,
}

const FACILITIES: &[(&str, u8)] = &[
    ("KERN", 0),
    ("USER", 1),
    ("MAIL", 2),
    ("DAEMON", 3),
    ("AUTH", 4),
    ("SYSLOG", 5),
    ("LPR", 6),
    ("NEWS", 7),
    ("UUCP", 8),
    ("CRON", 9),
    ("AUTHPRIV", 10),
    ("FTP", 11),
    ("LOCAL0", 16),
    ("LOCAL1", 17),
    ("LOCAL2", 18),
    ("LOCAL3", 19),
    ("LOCAL4", 20),
    ("LOCAL5", 21),
    ("LOCAL6", 22),
    ("LOCAL7", 23),
];

/// Options of all kinds: how lines are written.
const COMMON: &[&str] = &[
    "elide_list_responses",
    "format",
    "hmac_accessor",
    "log_raw",
    "prefix",
];

impl Device {
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    fn flag(&self, name: &str, usual: bool) -> Result<bool, Refusal> {
        match self.option(name) {
            None | Some("") => Ok(usual),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(Refusal::invalid(format!(
                "option {name:?} is neither true nor false"
            ))),
        }
    }

    /// Judges all options, and returns where the lines go.
    pub fn target(&self) -> Result<Target, Refusal> {
        self.judge_common()?;
        let (target, known) = match self.kind.as_str() {
            "file" => (self.file()?, &["file_path", "path", "mode"][..]),
            "socket" => (
                self.socket()?,
                &["address", "socket_type", "write_timeout"][..],
            ),
            "syslog" => (self.syslog()?, &["facility", "tag"][..]),
            other => return Err(Refusal::invalid(format!("unknown backend type: {other:?}"))),
        };
        for name in self.options.keys() {
            let name = name.as_str();
            if !known.contains(&name) && !COMMON.contains(&name) {
                return Err(Refusal::invalid(format!(
                    "a {} device has no option {name:?}",
                    self.kind
                )));
            }
        }
        Ok(target)
    }

    fn judge_common(&self) -> Result<(), Refusal> {
        if self.options.values().any(|it| OPTION_BYTES_MAX < it.len()) {
            return Err(Refusal::invalid("an option is too long"));
        }
        if self.flag("log_raw", false)? {
            return Err(Refusal::invalid(
                "log_raw is not served: records never hold a secret in clear",
            ));
        }
        if !matches!(self.option("format"), None | Some("" | "json")) {
            return Err(Refusal::invalid("only format \"json\" is served"));
        }
        // Text of a caller's before each line could make a log file into another kind of file.
        if self
            .option("prefix")
            .is_some_and(|prefix| !prefix.is_empty())
        {
            return Err(Refusal::invalid("option \"prefix\" is not served"));
        }
        self.flag("hmac_accessor", true)?;
        self.flag("elide_list_responses", false)?;
        Ok(())
    }

    fn file(&self) -> Result<Target, Refusal> {
        let path = self.option("file_path").or_else(|| self.option("path"));
        let path = path
            .filter(|path| !path.is_empty())
            .ok_or_else(|| Refusal::invalid("file_path is required"))?;
        if path == "discard" {
            return Ok(Target::Discard);
        }
        let is_plain = path.starts_with('/')
            && !path.contains('\0')
            && !path.split('/').any(|part| part == "." || part == "..");
        if !is_plain {
            return Err(Refusal::invalid(
                "file_path is neither \"discard\" nor an absolute path without `.` and `..`",
            ));
        }
        let mode = match self.option("mode") {
            None | Some("") => Some(0o600),
            Some(text) => {
                let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8)
                    .ok()
                    .filter(|mode| mode & !MODE_MAX == 0)
                    .ok_or_else(|| {
                        Refusal::invalid("mode is not an octal number without execution bits")
                    })?;
                (mode != 0).then_some(mode)
            }
        };
        Ok(Target::File {
            path: path.to_owned(),
            mode,
        })
    }

    fn socket(&self) -> Result<Target, Refusal> {
        let address = self
            .option("address")
            .filter(|address| !address.is_empty())
            .ok_or_else(|| Refusal::invalid("address is required"))?;
        let family = match self.option("socket_type") {
            None | Some("" | "tcp") => Family::Tcp,
            Some("udp") => Family::Udp,
            Some("unix") => Family::Unix,
            Some(_) => {
                return Err(Refusal::invalid(
                    "socket_type is none of \"tcp\", \"udp\" and \"unix\"",
                ));
            }
        };
        let timeout = self.option("write_timeout").unwrap_or("2s");
        let write_timeout_ms = parse_duration(timeout)
            .and_then(|it| u64::try_from(it.as_millis()).ok())
            .filter(|ms| (1..=60_000).contains(ms))
            .ok_or_else(|| Refusal::invalid("write_timeout is no time of at most a minute"))?;
        Ok(Target::Socket {
            family,
            address: address.to_owned(),
            write_timeout_ms,
        })
    }

    fn syslog(&self) -> Result<Target, Refusal> {
        let facility = self.option("facility").unwrap_or("AUTH");
        let found = FACILITIES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(facility));
        let Some(&(_, facility)) = found else {
            return Err(Refusal::invalid("unknown syslog facility"));
        };
        let tag = self.option("tag").unwrap_or("vault");
        let is_plain = !tag.is_empty()
            && tag.len() <= 48
            && tag
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':' && byte != b'[');
        if !is_plain {
            return Err(Refusal::invalid("tag is not a word of at most 48 letters"));
        }
        Ok(Target::Syslog {
            facility,
            tag: tag.to_owned(),
        })
    }

    /// Returns how it records.
    pub fn recorder(&self, barrier: &Unsealed) -> Recorder {
        Recorder {
            hasher: self.hasher(barrier),
            hides_accessors: self.flag("hmac_accessor", true).unwrap_or(true),
            elides_lists: self.flag("elide_list_responses", false).unwrap_or(false),
            headers: Arc::default(),
        }
    }

    /// Returns what hashes as it does.
    pub fn hasher(&self, barrier: &Unsealed) -> Hasher {
        Hasher::new(barrier, &self.salt)
    }
}

fn at(path: &str) -> Key {
    Key::new(tables::AUDIT_DEVICES, path)
}

/// Returns the range that all devices stand in, and what else says how they record.
pub fn range() -> KeyRange {
    KeyRange::prefix(tables::AUDIT_DEVICES, "")
}

/// Reads all devices.
pub fn load(draft: &mut Draft<'_>) -> Result<Vec<Arc<Device>>, Refusal> {
    let found = draft.range(&range(), DEVICES_MAX + 1)?;
    let is_device = |key: &Key| key.rest() != headers::AT.as_bytes();
    found
        .into_iter()
        .filter(|(key, _)| is_device(key))
        .map(|(_, text)| {
            let parsed = serde_json::from_slice(text.expose());
            let device: Device = parsed.map_err(|error| Refusal::corrupt("audit device", error))?;
            Ok(Arc::new(device))
        })
        .collect()
}

/// Writes a device.
pub fn save(draft: &mut Draft<'_>, device: &Device) -> Result<(), Refusal> {
    draft.save(at(&device.path), device)
}

/// Deletes a device.
pub fn delete(draft: &mut Draft<'_>, path: &str) {
    draft.delete(at(path));
}
