//! Kernel settings under `/proc/sys`.
//!
//! Those below `net/` are of the calling thread's network namespace.

use std::fs;
use std::io;

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It could not be read.
    #[error("could not read sysctl `{name}`")]
    Read {
        /// The setting.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("could not write `{value}` to sysctl `{name}`")]
    Write {
        /// The setting.
        name: String,
        /// What was to be written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SysctlError {
    /// Tells whether the kernel does not have this setting.
    pub fn is_unknown(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self;
        source.kind() == io::ErrorKind::NotFound
    }
}

/// Reads a setting; `name` with slashes, such as `net/ipv4/ip_forward`.
pub fn read(name: &str) -> Result<String, SysctlError> {
    match fs::read_to_string(format!("/proc/sys/{name}")) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError::Read {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Writes a setting; `name` with slashes.
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(format!("/proc/sys/{name}"), value).map_err(|source| SysctlError::Write {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}
