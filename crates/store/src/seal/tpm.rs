//! A seal whose key a TPM 2.0 holds: nobody opens the store with its disk alone.
//!
//! ```text
//! storage key (P-256, made anew from the TPM's seed each time: nothing is kept in the TPM)
//!   '- sealed object: 32 random bytes, given out by this TPM alone, and, if asked for, only while
//!      platform registers (PCRs) are as they were    --AES-256-GCM-->  the store's root key
//! ```
//!
//! What loses it: a TPM that is cleared or replaced, a mainboard with it, and for a seal over registers
//! a firmware or boot loader that is updated. Another seal, such as shares, must open the store too.

use std::io;
use std::path::PathBuf;

use aws_lc_rs::digest;
use bastide_api::Secret;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KEY_BYTES, Seal, SealError, random_key, unwrap_with};
use crate::barrier::aead;

mod session;
mod wire;

use session::{Hidden, Kind, Session};
use wire::{Command, In, NO_SESSIONS, Out, SESSIONS, Tpm};

/// Highest register.
const PCR_MAX: u8 = 23;
/// Longest stored form that is looked at, in bytes.
const STORED_BYTES_MAX: usize = 16 << 10;

// Part 2, 6.3: algorithms.
const AES: u16 = 0x0006;
const KEYED_HASH: u16 = 0x0008;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
/// The curve P-256.
const P256: u16 = 0x0003;
/// The hierarchy that its owner keeps keys in, whose password is empty.
const OWNER: u32 = 0x4000_0001;
/// A password instead of a session.
const PASSWORD: u32 = 0x4000_0009;

// Part 2, 8.3: attributes of objects.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const MADE_BY_TPM: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const NO_LOCKOUT: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;

/// Why a TPM did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The device or socket cannot be used.
    #[error("could not open the TPM `{path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The TPM cannot be spoken to.
    #[error("could not speak to the TPM ({command})")]
    Line {
        /// What was asked.
        command: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The TPM refused.
    #[error("the TPM refused {command} with code {code:#x}{}", hint(*code))]
    Refused {
        /// What was asked.
        command: &'static str,
        /// Its answer.
        code: u32,
    },
    /// The TPM's answer makes no sense.
    #[error("the TPM's answer cannot be read")]
    Answer,
    /// The TPM's answer was not made by the TPM.
    #[error("an answer of the TPM was changed on its way")]
    Forged,
    /// It is not the TPM that sealed the store.
    #[error("this is not the TPM that sealed the store, or it was cleared")]
    Another,
    /// There is no such register.
    #[error("there is no platform register {0}: they are 0 to 23")]
    Register(u8),
}

/// Says what is behind the codes that people meet.
fn hint(code: u32) -> &'static str {
    match code & 0xff {
        0x9d => ": the platform's registers are not as they were (firmware or boot loader changed)",
        0x9f => ": the object was sealed by another TPM, or this one was cleared",
        _ => "",
    }
}

/// A seal whose key a TPM holds.
pub struct TpmSeal {
    device: PathBuf,
    pcrs: Vec<u8>,
}

/// What is stored: what the TPM needs to find the key again, and the root key under it.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The storage key's name: which TPM.
    parent: String,
    public: String,
    private: String,
    pcrs: Vec<u8>,
    root: String,
}

/// The key under which the TPM keeps others: the same each time that it is made from the same seed.
struct StorageKey {
    handle: u32,
    name: Vec<u8>,
    x: [u8; 32],
    y: [u8; 32],
}

impl TpmSeal {
    /// A seal by the TPM at `device`: `/dev/tpmrm0`, or the socket of a software TPM. `pcrs` are the
    /// registers, of SHA-256, that must be as they are when it seals; none: any.
    pub fn new(device: impl Into<PathBuf>, pcrs: &[u8]) -> Result<Self, TpmError> {
        let mut pcrs = pcrs.to_vec();
        pcrs.sort_unstable();
        pcrs.dedup();
        if let Some(&wrong) = pcrs.iter().find(|pcr| PCR_MAX < **pcr) {
            return Err(TpmError::Register(wrong));
        }
        Ok(Self {
            device: device.into(),
            pcrs,
        })
    }

    fn open(&self) -> Result<Tpm, TpmError> {
        Tpm::open(&self.device).map_err(|source| TpmError::Open {
            path: self.device.clone(),
            source,
        })
    }

    fn seal_key(&self, key: &Secret<[u8; KEY_BYTES]>) -> Result<[Vec<u8>; 3], TpmError> {
        let mut tpm = self.open()?;
        let parent = storage_key(&mut tpm)?;
        let sealed = (|| {
            let policy = policy_of(&mut tpm, &parent, &self.pcrs)?;
            create(&mut tpm, &parent, key, &policy)
        })();
        flush(&mut tpm, parent.handle);
        let [public, private] = sealed?;
        Ok([parent.name, public, private])
    }

    fn open_key(&self, stored: &Opened) -> Result<Secret<[u8; KEY_BYTES]>, TpmError> {
        let mut tpm = self.open()?;
        let parent = storage_key(&mut tpm)?;
        let found = if parent.name == stored.parent {
            unseal(&mut tpm, &parent, stored)
        } else {
            Err(TpmError::Another)
        };
        flush(&mut tpm, parent.handle);
        found
    }
}

impl Seal for TpmSeal {
    fn name(&self) -> &'static str {
        "tpm"
    }

    fn wrap(&self, context: &[u8], root: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        let key = random_key();
        let [parent, public, private] = self.seal_key(&key)?;
        let stored = Stored {
            parent: BASE64.encode(&parent),
            public: BASE64.encode(&public),
            private: BASE64.encode(&private),
            pcrs: self.pcrs.clone(),
            root: BASE64.encode(&aead::seal(key.expose(), context, root)),
        };
        Ok(serde_json::to_vec(&stored).expect("what a TPM gave is plain JSON"))
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret<[u8; 32]>, SealError> {
        let stored = Opened::parse(wrapped).ok_or(SealError::WrongKey { seal: self.name() })?;
        let key = self.open_key(&stored)?;
        unwrap_with(self.name(), &key, context, &stored.root)
    }
}

/// [`Stored`], read.
pub(crate) struct Opened {
    parent: Vec<u8>,
    public: Vec<u8>,
    private: Vec<u8>,
    pcrs: Vec<u8>,
    root: Vec<u8>,
}

impl Opened {
    /// Reads the stored form; `None` if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if STORED_BYTES_MAX < bytes.len() {
            return None;
        }
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let read = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let is_known = stored.pcrs.iter().all(|pcr| *pcr <= PCR_MAX);
        is_known.then_some(Self {
            parent: read(&stored.parent)?,
            public: read(&stored.public)?,
            private: read(&stored.private)?,
            root: read(&stored.root)?,
            pcrs: stored.pcrs,
        })
    }
}

fn name_of(public: &[u8]) -> Vec<u8> {
    let hash = digest::digest(&digest::SHA256, public);
    [&SHA256.to_be_bytes(), hash.as_ref()].concat()
}

/// An authorisation area with an empty password.
fn no_password() -> Vec<u8> {
    let area = Out::default().u32(PASSWORD).u16(0).u8(0).u16(0).0;
    let length = u32::try_from(area.len()).expect("nine bytes");
    Out::default().u32(length).raw(&area).0
}

/// Makes the storage key: of the same seed and this template always the same one.
fn storage_key(tpm: &mut Tpm) -> Result<StorageKey, TpmError> {
    let attributes =
        FIXED_TPM | FIXED_PARENT | MADE_BY_TPM | USER_WITH_AUTH | NO_LOCKOUT | RESTRICTED | DECRYPT;
    let template = Out::default()
        .u16(ECC)
        .u16(SHA256)
        .u32(attributes)
        .u16(0)
        .u16(AES)
        .u16(128)
        .u16(CFB)
        .u16(NULL)
        .u16(P256)
        .u16(NULL)
        .u16(0)
        .u16(0)
        .0;
    let body = Out::default()
        .u32(OWNER)
        .raw(&no_password())
        .sized(&Out::default().u16(0).u16(0).0)
        .sized(&template)
        .u16(0)
        .u32(0)
        .0;
    let answer = tpm.ask(SESSIONS, Command::CreatePrimary, &body)?;
    let mut answer = In(&answer);
    let handle = answer.u32()?;
    answer.u32()?;
    let public = answer.sized()?;
    // The point stands last.
    let point = public.len().checked_sub(68).ok_or(TpmError::Answer)?;
    let mut point = In(&public[point..]);
    let mut coordinate = || {
        let bytes = point.sized()?;
        <[u8; 32]>::try_from(bytes).map_err(|_| TpmError::Answer)
    };
    Ok(StorageKey {
        handle,
        name: name_of(public),
        x: coordinate()?,
        y: coordinate()?,
    })
}

/// Forgets an object or a session of the TPM, whose places are few.
fn flush(tpm: &mut Tpm, handle: u32) {
    let body = Out::default().u32(handle).0;
    if let Err(error) = tpm.ask(NO_SESSIONS, Command::FlushContext, &body) {
        tracing::debug!(cause = %error, "the TPM keeps an object");
    }
}

/// The registers, as a list of one bank (Part 2, 10.9.7).
fn selection(pcrs: &[u8]) -> Vec<u8> {
    let mut bits = [0u8; 3];
    for pcr in pcrs {
        bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
    }
    Out::default().u32(1).u16(SHA256).u8(3).raw(&bits).0
}

/// Has a session demand that the registers are what they are now.
fn demand(tpm: &mut Tpm, session: &Session, pcrs: &[u8]) -> Result<(), TpmError> {
    let body = Out::default()
        .u32(session.handle)
        .u16(0)
        .raw(&selection(pcrs))
        .0;
    tpm.ask(NO_SESSIONS, Command::PolicyPcr, &body).map(drop)
}

/// Returns the digest of a policy over registers; empty without any.
fn policy_of(tpm: &mut Tpm, parent: &StorageKey, pcrs: &[u8]) -> Result<Vec<u8>, TpmError> {
    if pcrs.is_empty() {
        return Ok(Vec::new());
    }
    let session = Session::start(tpm, parent, Kind::Policy)?;
    let digest = demand(tpm, &session, pcrs).and_then(|()| {
        let body = Out::default().u32(session.handle).0;
        let answer = tpm.ask(NO_SESSIONS, Command::PolicyGetDigest, &body)?;
        Ok(In(&answer).sized()?.to_vec())
    });
    flush(tpm, session.handle);
    digest
}

/// Seals a key below the storage key. Returns the public and the private part.
fn create(
    tpm: &mut Tpm,
    parent: &StorageKey,
    key: &Secret<[u8; KEY_BYTES]>,
    policy: &[u8],
) -> Result<[Vec<u8>; 2], TpmError> {
    // With a policy there is no other way in.
    let way = if policy.is_empty() { USER_WITH_AUTH } else { 0 };
    let template = Out::default()
        .u16(KEYED_HASH)
        .u16(SHA256)
        .u32(FIXED_TPM | FIXED_PARENT | NO_LOCKOUT | way)
        .sized(policy)
        .u16(NULL)
        .u16(0)
        .0;
    let sensitive = Zeroizing::new(Out::default().u16(0).sized(key.expose()).0);
    let parameters = Out::default()
        .sized(&sensitive)
        .sized(&template)
        .u16(0)
        .u32(0)
        .0;
    let mut session = Session::start(tpm, parent, Kind::Hmac)?;
    let made = session.ask(
        tpm,
        Command::Create,
        (parent.handle, &parent.name),
        parameters,
        Hidden::Sent,
    );
    flush(tpm, session.handle);
    let made = made?;
    let mut made = In(&made);
    let private = made.sized()?.to_vec();
    let public = made.sized()?.to_vec();
    Ok([public, private])
}

fn unseal(
    tpm: &mut Tpm,
    parent: &StorageKey,
    stored: &Opened,
) -> Result<Secret<[u8; KEY_BYTES]>, TpmError> {
    let body = Out::default()
        .u32(parent.handle)
        .raw(&no_password())
        .sized(&stored.private)
        .sized(&stored.public)
        .0;
    let answer = tpm.ask(SESSIONS, Command::Load, &body)?;
    let handle = In(&answer).u32()?;
    let name = name_of(&stored.public);
    let kind = if stored.pcrs.is_empty() {
        Kind::Hmac
    } else {
        Kind::Policy
    };
    let found = Session::start(tpm, parent, kind).and_then(|mut session| {
        let found = match kind {
            Kind::Hmac => Ok(()),
            Kind::Policy => demand(tpm, &session, &stored.pcrs),
        };
        let found = found.and_then(|()| {
            let of = (handle, &name[..]);
            session.ask(tpm, Command::Unseal, of, Vec::new(), Hidden::Received)
        });
        flush(tpm, session.handle);
        found
    });
    flush(tpm, handle);
    let found = found?;
    let key = In(&found).sized()?;
    let key = <[u8; KEY_BYTES]>::try_from(key).map_err(|_| TpmError::Answer)?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests;
