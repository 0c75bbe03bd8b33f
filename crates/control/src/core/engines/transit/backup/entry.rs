//! A key's version, as it stands in a backup: written, and read with doubt.

use bastide_api::UnixTime;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::CONVERGENT;
use super::form::{Computed, Entry, Hidden, RsaKey, RsaPublic};
use crate::core::engines::transit::batch::base64;
use crate::core::engines::transit::kind::Kind;
use crate::core::engines::transit::stored::Version;
use crate::core::engines::transit::{decimal, der, export, import, material};
use crate::core::reply::timestamp;

/// How Go writes the time that nothing was set to.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

impl Entry {
    pub fn empty() -> Self {
        Self {
            key: None,
            hmac_key: None,
            time: NO_TIME.to_owned(),
            ec_x: None,
            ec_y: None,
            ec_d: None,
            rsa_key: None,
            rsa_public_key: None,
            public_key: String::new(),
            convergent_version: 0,
            creation_time: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.ec_x.is_none()
            && self.rsa_key.is_none()
            && self.rsa_public_key.is_none()
            && self.public_key.is_empty()
    }

    pub fn of(kind: Kind, convergent: bool, version: &Version) -> Option<Self> {
        let mut entry = Self::empty();
        entry.hmac_key = Some(Hidden::new(&version.hmac));
        entry.time = timestamp(version.created);
        entry.creation_time = i64::try_from(version.created.as_secs()).ok()?;
        if convergent {
            entry.convergent_version = CONVERGENT;
        }
        let private = &version.private;
        if kind == Kind::Ed25519 {
            entry.public_key = export::ed25519_public(&version.public);
            if !private.is_empty() {
                entry.key = Some(Hidden::new(&material::ed25519_long(private)?));
            }
        } else if kind.curve_bytes().is_some() {
            entry.public_key = der::pem("PUBLIC KEY", &version.public);
            let point = material::ec_point(kind, &version.public)?;
            let (x, y) = point.split_at(point.len() / 2);
            entry.ec_x = Some(number(x));
            entry.ec_y = Some(number(y));
            if !private.is_empty() {
                let secret = material::ec_secret(kind, private)?;
                entry.ec_d = Some(number(&secret));
            }
        } else if kind.rsa_bits().is_some() {
            let public = der::rsa_public(&version.public)?;
            let exponent = |bytes: &[u8]| {
                let folded = bytes.iter().fold(0, |e, byte| e << 8 | u64::from(*byte));
                (bytes.len() <= 8).then_some(folded)
            };
            if private.is_empty() {
                entry.rsa_public_key = Some(RsaPublic {
                    n: number(public.0),
                    e: exponent(public.1)?,
                });
            } else {
                let numbers = der::rsa_numbers(private)?;
                entry.rsa_key = Some(RsaKey {
                    n: number(numbers.n),
                    e: exponent(numbers.e)?,
                    d: number(numbers.d),
                    primes: vec![number(numbers.p), number(numbers.q)],
                    computed: Computed {
                        dp: Some(number(numbers.dp)),
                        dq: Some(number(numbers.dq)),
                        qinv: Some(number(numbers.qinv)),
                        others: Some(Vec::new()),
                    },
                });
            }
        } else {
            entry.key = Some(Hidden::new(private));
        }
        Some(entry)
    }

    /// Reads the version's key; an error says what of it is not as it should be.
    pub fn version(&self, kind: Kind) -> Result<Version, &'static str> {
        let hidden = |field: &Option<Hidden>| {
            let bytes = field.as_ref().map(Hidden::bytes);
            bytes.unwrap_or_else(|| Some(Zeroizing::new(Vec::new())))
        };
        let mut private = hidden(&self.key).ok_or("a key is no base64")?;
        let hmac = hidden(&self.hmac_key).ok_or("a key is no base64")?;
        let mut public = Vec::new();
        if kind == Kind::Ed25519 {
            if private.is_empty() {
                let raw = base64(&self.public_key).ok();
                let raw: Option<[u8; 32]> = raw.and_then(|raw| raw.try_into().ok());
                public =
                    material::ed25519_spki(&raw.ok_or("an Ed25519 key is not as it should be")?);
            } else if private.len() == 64 {
                private.truncate(32);
            } else {
                return Err("an Ed25519 key has another length than 64 bytes");
            }
        } else if let Some(length) = kind.curve_bytes() {
            (private, public) = self.elliptic(kind, length)?;
        } else if kind.rsa_bits().is_some() {
            (private, public) = self.rsa()?;
        } else {
            let is_right = if kind == Kind::Hmac {
                import::HMAC_BYTES.contains(&private.len())
            } else {
                kind.key_bytes(0) == Some(private.len())
            };
            if !is_right {
                return Err("a key has a wrong length");
            }
        }
        let mismatch = "a key is not of the type that the backup says";
        if private.is_empty() {
            if !material::is_public(kind, &public) {
                return Err(mismatch);
            }
        } else {
            public = material::public_of(kind, &private).ok_or(mismatch)?;
        }
        if kind == Kind::Hmac && !hmac.is_empty() && *hmac != *private {
            // OpenBao's XChaCha20-Poly1305 has the number that Vault gives `hmac`.
            return Err(mismatch);
        }
        let secs = u64::try_from(self.creation_time).unwrap_or(0);
        Ok(Version {
            created: UnixTime::from_millis(secs.saturating_mul(1000)),
            hmac: if kind == Kind::Hmac {
                private.clone()
            } else {
                hmac
            },
            private,
            public: Zeroizing::new(public),
        })
    }

    fn elliptic(
        &self,
        kind: Kind,
        length: usize,
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), &'static str> {
        let wrong = "an elliptic key is not as it should be";
        let padded = |field: &Option<Box<RawValue>>| {
            let bytes = decimal::parse(field.as_ref()?.get())?;
            let mut padded = Zeroizing::new(vec![0; length.checked_sub(bytes.len())?]);
            padded.extend_from_slice(&bytes);
            Some(padded)
        };
        let (x, y) = (padded(&self.ec_x), padded(&self.ec_y));
        let point = [&**x.ok_or(wrong)?, &**y.ok_or(wrong)?].concat();
        if self.ec_d.is_none() {
            let public = der::public_of_pem(&self.public_key).ok_or(wrong)?;
            let is_same = material::ec_point(kind, &public).is_some_and(|known| known == point);
            return if is_same {
                Ok((Zeroizing::new(Vec::new()), public))
            } else {
                Err(wrong)
            };
        }
        let secret = padded(&self.ec_d).ok_or(wrong)?;
        let private = material::ec_pkcs8(kind, &secret, &point).ok_or(wrong)?;
        Ok((private, Vec::new()))
    }

    fn rsa(&self) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), &'static str> {
        let wrong = "an RSA key is not as it should be";
        let read = |raw: &RawValue| decimal::parse(raw.get()).ok_or(wrong);
        let exponent = |e: u64| {
            let bytes = e.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].to_vec()
        };
        let Some(key) = &self.rsa_key else {
            let public = self.rsa_public_key.as_ref().ok_or(wrong)?;
            let spki = material::rsa_spki(&read(&public.n)?, &exponent(public.e));
            return Ok((Zeroizing::new(Vec::new()), spki.ok_or(wrong)?));
        };
        let [p, q] = &key.primes[..] else {
            return Err("an RSA key has another number of primes than two");
        };
        let computed = |field: &Option<Box<RawValue>>| {
            let missing = "an RSA key lacks the values that are computed of it";
            read(field.as_ref().ok_or(missing)?)
        };
        let (n, d, p, q) = (read(&key.n)?, read(&key.d)?, read(p)?, read(q)?);
        let private = material::rsa_pkcs8(&der::RsaNumbers {
            n: &n,
            e: &exponent(key.e),
            d: &d,
            p: &p,
            q: &q,
            dp: &computed(&key.computed.dp)?,
            dq: &computed(&key.computed.dq)?,
            qinv: &computed(&key.computed.qinv)?,
        });
        Ok((private.ok_or(wrong)?, Vec::new()))
    }
}

fn number(bytes: &[u8]) -> Box<RawValue> {
    let digits = decimal::print(bytes);
    RawValue::from_string(digits.to_string()).expect("digits are JSON")
}
