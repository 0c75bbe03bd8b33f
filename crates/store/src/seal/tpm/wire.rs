//! The bytes of TPM 2.0's commands (TCG, *TPM 2.0 Library*, Parts 2 and 3): numbers are big-endian, and
//! a buffer stands behind its length in two bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::TpmError;

/// Largest command and answer, in bytes, that a TPM must take.
const MESSAGE_BYTES_MAX: usize = 4096;
/// How long a TPM behind a socket may take. Making a key takes the slowest ones seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Bytes before the parameters of an answer: tag, length, code.
const HEAD_BYTES: usize = 10;

/// No authorisation area.
pub(super) const NO_SESSIONS: u16 = 0x8001;
/// With one.
pub(super) const SESSIONS: u16 = 0x8002;

/// A buffer that is written.
#[derive(Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `TPM2B`: its length and itself.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("what is sent to a TPM is short");
        self.u16(length).raw(bytes)
    }
}

/// A buffer that is read. What is not there is an error, and never a panic.
pub(super) struct In<'b>(pub(super) &'b [u8]);

impl<'b> In<'b> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'b [u8], TpmError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TpmError::Answer)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, TpmError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, TpmError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, TpmError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn sized(&mut self) -> Result<&'b [u8], TpmError> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

enum Line {
    Device(File),
    Socket(UnixStream),
}

/// A TPM that can be spoken to: the kernel's device, or the socket of a software TPM.
pub(super) struct Tpm(Line);

impl Tpm {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.file_type().is_socket() {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(ANSWER_WITHIN))?;
            socket.set_write_timeout(Some(ANSWER_WITHIN))?;
            return Ok(Self(Line::Socket(socket)));
        }
        let device = File::options().read(true).write(true).open(path)?;
        Ok(Self(Line::Device(device)))
    }

    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Line::Device(device) => device.write_all(message),
            Line::Socket(socket) => socket.write_all(message),
        }
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Line::Device(device) => device.read(to),
            Line::Socket(socket) => socket.read(to),
        }
    }

    /// Sends a command: `body` is what follows its head. Returns what follows the answer's head.
    pub(super) fn ask(
        &mut self,
        tag: u16,
        command: Command,
        body: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let failed = |source| TpmError::Line {
            command: command.name(),
            source,
        };
        let length = HEAD_BYTES + body.len();
        let length = u32::try_from(length).map_err(|_| TpmError::Answer)?;
        let message = Out::default()
            .u16(tag)
            .u32(length)
            .u32(command as u32)
            .raw(body)
            .0;
        // One write: the device takes a command whole.
        self.write(&message).map_err(failed)?;
        let mut answer = vec![0; MESSAGE_BYTES_MAX];
        let mut have = 0;
        loop {
            let read = self.read(&mut answer[have..]).map_err(failed)?;
            have += read;
            let whole = answer_bytes(&answer[..have])?;
            if whole.is_some_and(|whole| whole <= have) {
                break;
            }
            if read == 0 || have == answer.len() {
                return Err(TpmError::Answer);
            }
        }
        answer.truncate(have);
        let mut head = In(&answer);
        let (_, length, code) = (head.u16()?, head.u32()?, head.u32()?);
        if usize::try_from(length) != Ok(answer.len()) {
            return Err(TpmError::Answer);
        }
        if code != 0 {
            return Err(TpmError::Refused {
                command: command.name(),
                code,
            });
        }
        Ok(answer[HEAD_BYTES..].to_vec())
    }
}

/// Returns how long an answer says that it is, once it does.
fn answer_bytes(have: &[u8]) -> Result<Option<usize>, TpmError> {
    if have.len() < HEAD_BYTES {
        return Ok(None);
    }
    let mut head = In(have);
    head.u16()?;
    let length = usize::try_from(head.u32()?).map_err(|_| TpmError::Answer)?;
    if !(HEAD_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(TpmError::Answer);
    }
    Ok(Some(length))
}

/// What a TPM is asked for (Part 2, 6.5.2).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(super) enum Command {
    CreatePrimary = 0x131,
    Create = 0x153,
    Load = 0x157,
    Unseal = 0x15e,
    FlushContext = 0x165,
    StartAuthSession = 0x176,
    PolicyPcr = 0x17f,
    PolicyGetDigest = 0x189,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::CreatePrimary => "TPM2_CreatePrimary",
            Self::Create => "TPM2_Create",
            Self::Load => "TPM2_Load",
            Self::Unseal => "TPM2_Unseal",
            Self::FlushContext => "TPM2_FlushContext",
            Self::StartAuthSession => "TPM2_StartAuthSession",
            Self::PolicyPcr => "TPM2_PolicyPCR",
            Self::PolicyGetDigest => "TPM2_PolicyGetDigest",
        }
    }
}
