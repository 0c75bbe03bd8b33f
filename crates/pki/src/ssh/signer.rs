//! Keys that sign certificates.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaKeyPair,
};

use super::private::{PrivateKey, PrivateKeyError, crt_exponent};
use super::public::PublicKey;
use super::wire::Writer;

/// With which hash an RSA key signs. SHA-1 (`ssh-rsa`) is refused by OpenSSH since 8.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RsaHash {
    /// `rsa-sha2-256`.
    Sha256,
    /// `rsa-sha2-512`, which `ssh-keygen` takes.
    #[default]
    Sha512,
}

/// A key could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign")]
pub struct SignError;

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A private key, ready to sign.
pub struct SshSigner {
    pair: Pair,
    public: PublicKey,
}

impl SshSigner {
    /// Makes a private key ready.
    pub fn new(key: &PrivateKey) -> Result<Self, PrivateKeyError> {
        let bad = |_| PrivateKeyError::Damaged;
        let public = key.public()?;
        let pair = match key {
            PrivateKey::Ed25519 { seed } => {
                Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(bad)?)
            }
            PrivateKey::Ecdsa {
                kind,
                scalar,
                point,
            } => {
                let algorithm = match kind.curve() {
                    Some(("nistp256", _)) => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    Some(("nistp384", _)) => &ECDSA_P384_SHA384_FIXED_SIGNING,
                    _ => &ECDSA_P521_SHA512_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    algorithm,
                    scalar.expose(),
                    point,
                );
                Pair::Ecdsa(pair.map_err(bad)?)
            }
            PrivateKey::Rsa(rsa) => {
                let (p, q, d) = (rsa.p.expose(), rsa.q.expose(), rsa.d.expose());
                let pair = RsaKeyPair::from_components(&KeyPairComponents {
                    public_key: PublicKeyComponents {
                        n: rsa.n.as_slice(),
                        e: rsa.e.as_slice(),
                    },
                    d: d.as_slice(),
                    p: p.as_slice(),
                    q: q.as_slice(),
                    dP: crt_exponent(d, p).expose().as_slice(),
                    dQ: crt_exponent(d, q).expose().as_slice(),
                    qInv: rsa.iqmp.expose().as_slice(),
                });
                Pair::Rsa(Box::new(pair.map_err(bad)?))
            }
        };
        Ok(Self { pair, public })
    }

    /// Returns the public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs, and returns the signature in the form of the wire. `hash` is for RSA alone.
    pub(super) fn sign(&self, message: &[u8], hash: RsaHash) -> Result<Vec<u8>, SignError> {
        let mut writer = Writer::default();
        match &self.pair {
            Pair::Ed25519(pair) => {
                writer.string("ssh-ed25519").string(pair.sign(message));
            }
            Pair::Ecdsa(pair) => {
                let signature = pair
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| SignError)?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                writer.string(self.public.kind().name()).nested(|it| {
                    it.positive(r).positive(s);
                });
            }
            Pair::Rsa(pair) => {
                let (name, padding): (_, &'static dyn aws_lc_rs::signature::RsaEncoding) =
                    match hash {
                        RsaHash::Sha256 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                        RsaHash::Sha512 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| SignError)?;
                writer.string(name).string(&signature);
            }
        }
        Ok(writer.0)
    }
}
