//! A session whose key the TPM's storage key alone could find out, so that what goes over the bus is
//! neither read nor changed (Part 1, 19: salted sessions; 21: encryption of parameters).

use aws_lc_rs::agreement::{self, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use super::wire::{Command, In, NO_SESSIONS, Out, SESSIONS, Tpm};
use super::{AES, CFB, SHA256, StorageKey, TpmError};

/// No object.
const NOBODY: u32 = 0x4000_0007;
const NONCE_BYTES: usize = 32;
/// The session stays after the command.
const CONTINUE: u8 = 0x01;
/// The first parameter of the command is encrypted.
const DECRYPT: u8 = 0x20;
/// The first parameter of the answer is encrypted.
const ENCRYPT: u8 = 0x40;

/// What authorises: an empty password, or a policy as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hmac = 0,
    Policy = 1,
}

/// Which first parameter is not to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    Sent,
    Received,
}

pub(super) struct Session {
    pub(super) handle: u32,
    key: Zeroizing<[u8; 32]>,
    nonce_tpm: Vec<u8>,
}

fn random() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce).expect("the system's random source answers");
    nonce
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// KDFa (Part 1, 11.4.10.2) for up to 256 bits.
fn kdfa(key: &[u8], label: &[u8], one: &[u8], other: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(&1u32.to_be_bytes());
    context.update(label);
    context.update(&[0]);
    context.update(one);
    context.update(other);
    context.update(&bits.to_be_bytes());
    let mut derived = Zeroizing::new([0; 32]);
    derived.copy_from_slice(context.sign().as_ref());
    derived
}

impl Session {
    pub(super) fn start(tpm: &mut Tpm, to: &StorageKey, kind: Kind) -> Result<Self, TpmError> {
        let nonce = random();
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
            .map_err(|_| TpmError::Answer)?;
        let public = own.compute_public_key().map_err(|_| TpmError::Answer)?;
        let (x, y) = public.as_ref()[1..].split_at(32);
        let peer = [&[4], &to.x[..], &to.y[..]].concat();
        let peer = UnparsedPublicKey::new(&ECDH_P256, peer);
        // KDFe (Part 1, 11.4.10.3).
        let salt = agreement::agree_ephemeral(own, peer, TpmError::Answer, |shared| {
            let parts = [&1u32.to_be_bytes(), shared, b"SECRET\0", x, &to.x];
            Ok(Zeroizing::new(sha256(&parts)))
        })?;
        let point = Out::default().sized(x).sized(y).0;
        let body = Out::default()
            .u32(to.handle)
            .u32(NOBODY)
            .sized(&nonce)
            .sized(&point)
            .u8(kind as u8)
            .u16(AES)
            .u16(128)
            .u16(CFB)
            .u16(SHA256)
            .0;
        let answer = tpm.ask(NO_SESSIONS, Command::StartAuthSession, &body)?;
        let mut answer = In(&answer);
        let (handle, nonce_tpm) = (answer.u32()?, answer.sized()?.to_vec());
        let key = kdfa(&salt, b"ATH", &nonce_tpm, &nonce, 256);
        Ok(Self {
            handle,
            key,
            nonce_tpm,
        })
    }

    /// Asks for something that this session authorises, and hides a parameter. `names` are those of
    /// `handles`; `parameters` begin with a buffer. Returns the answer's handle, if it has one, and its
    /// parameters.
    pub(super) fn ask(
        &mut self,
        tpm: &mut Tpm,
        command: Command,
        (handle, name): (u32, &[u8]),
        parameters: Vec<u8>,
        hidden: Hidden,
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let mut parameters = Zeroizing::new(parameters);
        let nonce = random();
        let attributes = match hidden {
            Hidden::Sent => CONTINUE | DECRYPT,
            Hidden::Received => CONTINUE | ENCRYPT,
        };
        if hidden == Hidden::Sent {
            let first = first_buffer(&mut parameters)?;
            let (key, iv) = self.cipher(&nonce, &self.nonce_tpm)?;
            let key = EncryptingKey::cfb128(key).map_err(|_| TpmError::Answer)?;
            key.less_safe_encrypt(first, EncryptionContext::Iv128(iv))
                .map_err(|_| TpmError::Answer)?;
        }
        let code = (command as u32).to_be_bytes();
        let asked = sha256(&[&code, name, &parameters]);
        let proof = self.prove(&asked, &nonce, &self.nonce_tpm, attributes);
        let area = Out::default()
            .u32(self.handle)
            .sized(&nonce)
            .u8(attributes)
            .sized(proof.as_ref())
            .0;
        let area_bytes = u32::try_from(area.len()).map_err(|_| TpmError::Answer)?;
        let body = Out::default()
            .u32(handle)
            .u32(area_bytes)
            .raw(&area)
            .raw(&parameters)
            .0;
        let answer = Zeroizing::new(tpm.ask(SESSIONS, command, &body)?);
        let mut answer = In(&answer);
        let length = usize::try_from(answer.u32()?).map_err(|_| TpmError::Answer)?;
        let mut found = Zeroizing::new(answer.take(length)?.to_vec());
        let nonce_tpm = answer.sized()?.to_vec();
        let (attributes, proof) = (answer.u8()?, answer.sized()?);
        let told = sha256(&[&[0; 4], &code, &found]);
        let expected = self.prove(&told, &nonce_tpm, &nonce, attributes);
        verify_slices_are_equal(expected.as_ref(), proof).map_err(|_| TpmError::Forged)?;
        if hidden == Hidden::Received {
            let (key, iv) = self.cipher(&nonce_tpm, &nonce)?;
            let key = DecryptingKey::cfb128(key).map_err(|_| TpmError::Answer)?;
            key.decrypt(first_buffer(&mut found)?, DecryptionContext::Iv128(iv))
                .map_err(|_| TpmError::Answer)?;
        }
        self.nonce_tpm = nonce_tpm;
        Ok(found)
    }

    /// HMAC of a command or an answer (Part 1, 19.6.5); the passwords here are empty.
    fn prove(&self, what: &[u8], newer: &[u8], older: &[u8], attributes: u8) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key[..]);
        let mut context = hmac::Context::with_key(&key);
        for part in [what, newer, older, &[attributes]] {
            context.update(part);
        }
        context.sign()
    }

    fn cipher(
        &self,
        newer: &[u8],
        older: &[u8],
    ) -> Result<(UnboundCipherKey, FixedLength<16>), TpmError> {
        let derived = kdfa(&self.key[..], b"CFB", newer, older, 256);
        let (key, iv) = derived.split_at(16);
        let key = UnboundCipherKey::new(&AES_128, key).map_err(|_| TpmError::Answer)?;
        let iv = <[u8; 16]>::try_from(iv).expect("half of 32 bytes");
        Ok((key, FixedLength::from(iv)))
    }
}

fn first_buffer(parameters: &mut [u8]) -> Result<&mut [u8], TpmError> {
    let (length, rest) = parameters
        .split_first_chunk_mut::<2>()
        .ok_or(TpmError::Answer)?;
    let length = usize::from(u16::from_be_bytes(*length));
    rest.get_mut(..length).ok_or(TpmError::Answer)
}
