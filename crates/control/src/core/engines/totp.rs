//! Time-based one-time passwords (RFC 6238): keys that this server makes, so that it can judge what
//! other people's devices show, and keys of other services, for which it is the device.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use bastide_api::UnixTime;
use data_encoding::{BASE32_NOPAD, BASE64};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroize;

use crate::core::engine::{Call, Context, Engine};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

mod qr;
pub(crate) mod url;

use url::Wanted;

/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest issuer and account, in bytes.
const LABEL_BYTES_MAX: usize = 256;
/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 128;
/// Shortest secret that is made here, in bytes: RFC 4226, section 4, R6.
const SECRET_BYTES_MIN: usize = 16;
/// Longest period, in seconds.
const PERIOD_MAX: u64 = 24 * 3600;
/// Largest picture, in pixels a side.
const QR_SIZE_MAX: u64 = 1_024;
/// Five wrong codes, and none is looked at for a minute: of a million codes three are good at once,
/// so guessing takes weeks (CVE-2025-6015 is about a limit that could be passed by).
const WRONG_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_secs(60);

/// The engine.
pub struct Totp;

/// Which hash a key uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Hash {
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
    #[serde(rename = "SHA512")]
    Sha512,
}

impl Hash {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "SHA1" => Some(Self::Sha1),
            "SHA256" => Some(Self::Sha256),
            "SHA512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// A key, as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Key {
    /// In base32.
    secret: String,
    issuer: String,
    account: String,
    hash: Hash,
    digits: u32,
    period: u64,
    /// How many periods a clock may be off, on either side.
    skew: u64,
    /// The last period whose code was taken: neither it nor an earlier one is taken again.
    #[serde(default)]
    used: Option<u64>,
}

/// Wrong codes of late. They are stored, so that of many at once each is counted: what was decided on
/// a count that has changed since is decided anew.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Wrong {
    count: u32,
    last: UnixTime,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Key {
    fn period_at(&self, now: UnixTime) -> u64 {
        now.as_secs() / self.period
    }

    /// Returns the code of a period (RFC 4226, section 5.3).
    fn code(&self, period: u64) -> Result<String, Refusal> {
        let mut secret = BASE32_NOPAD
            .decode(self.secret.as_bytes())
            .map_err(|error| Refusal::corrupt("key", error))?;
        let key = hmac::Key::new(self.hash.algorithm(), &secret);
        secret.zeroize();
        let tag = hmac::sign(&key, &period.to_be_bytes());
        let tag = tag.as_ref();
        let start = usize::from(tag[tag.len() - 1] & 0x0f);
        let four: [u8; 4] = tag[start..start + 4].try_into().expect("four bytes");
        let number = u32::from_be_bytes(four) & 0x7fff_ffff;
        let code = u64::from(number) % 10_u64.pow(self.digits);
        let digits = usize::try_from(self.digits).expect("six or eight");
        Ok(format!("{code:0digits$}"))
    }

    /// Returns the latest period near `now` that a code is of. All are compared, whichever fits.
    fn period_of(&self, now: UnixTime, code: &str) -> Result<Option<u64>, Refusal> {
        let current = self.period_at(now);
        let mut found = None;
        for period in current.saturating_sub(self.skew)..=current + self.skew {
            let expected = self.code(period)?;
            if verify_slices_are_equal(expected.as_bytes(), code.as_bytes()).is_ok() {
                found = Some(period);
            }
        }
        Ok(found)
    }

    /// Returns its address.
    pub(crate) fn url(&self) -> String {
        url::print(self)
    }
}

fn at(name: &str) -> String {
    format!("key/{name}")
}

fn at_wrong(name: &str) -> String {
    format!("wrong/{name}")
}

fn checked(name: &str) -> Result<&str, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if NAME_BYTES_MAX < name.len() || !name.chars().all(plain) {
        return Err(Refusal::UnsupportedPath);
    }
    Ok(name)
}

impl Engine for Totp {
    fn kind(&self) -> &'static str {
        "totp"
    }

    fn decide(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        use Operation::{Create, Delete, List, Read, Update};
        match (call.operation, &call.segments()[..]) {
            (List, ["keys"]) => Answer::keys(ctx.list("key/")?),
            (Read, ["keys", name]) => {
                let key: Key = ctx.load(&at(checked(name)?))?.ok_or(Refusal::Absent)?;
                Ok(Answer::json(json!({
                    "account_name": key.account,
                    "algorithm": key.hash.as_str(),
                    "digits": key.digits,
                    "issuer": key.issuer,
                    "period": key.period,
                })))
            }
            (Create | Update, ["keys", name]) => write(ctx, call, checked(name)?),
            (Delete, ["keys", name]) => {
                ctx.delete(&at(checked(name)?));
                ctx.delete(&at_wrong(name));
                Ok(Answer::done())
            }
            (Read, ["code", name]) => {
                let key = existing(ctx, name)?;
                let code = key.code(key.period_at(ctx.now()))?;
                Ok(Answer::json(json!({ "code": code })))
            }
            (Create | Update, ["code", name]) => judge(ctx, call, name),
            (_, ["keys"] | ["keys" | "code", _]) => Err(Refusal::UnsupportedOperation),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

fn existing(ctx: &mut Context<'_, '_>, name: &str) -> Result<Key, Refusal> {
    let found = ctx.load(&at(checked(name)?))?;
    found.ok_or_else(|| Refusal::invalid(format!("unknown key: {name}")))
}

/// Judges a code; each is taken once.
fn judge(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let code = call.fields().text("code")?.unwrap_or_default();
    if code.is_empty() {
        return Err(Refusal::invalid("the code value is required"));
    }
    let mut key = existing(ctx, name)?;
    let now = ctx.now();
    let wrong: Option<Wrong> = ctx.load(&at_wrong(name))?;
    let wrong = wrong.filter(|wrong| now < wrong.last.plus(PAUSE));
    let count = wrong.map_or(0, |wrong| wrong.count);
    if WRONG_MAX <= count {
        return Err(Refusal::invalid(
            "too many wrong codes: wait a minute, and try again",
        ));
    }
    // CVE-2025-6014, CVE-2025-55000: with spaces around it, a used code was a new one.
    let has_form = code.len() == usize::try_from(key.digits).unwrap_or(0)
        && code.bytes().all(|byte| byte.is_ascii_digit());
    let period = if has_form {
        key.period_of(ctx.now(), &code)?
    } else {
        None
    };
    let Some(period) = period else {
        let wrong = Wrong {
            count: count + 1,
            last: now,
        };
        ctx.save(&at_wrong(name), &wrong)?;
        return Ok(Answer::json(json!({ "valid": false })));
    };
    if key.used.is_some_and(|used| period <= used) {
        return Err(Refusal::invalid(
            "code already used; wait until the next time period",
        ));
    }
    key.used = Some(period);
    ctx.save(&at(name), &key)?;
    ctx.delete(&at_wrong(name));
    Ok(Answer::json(json!({ "valid": true })))
}

fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let generate = fields.flag("generate")?.unwrap_or(false);
    let text =
        |name: &str| -> Result<String, Refusal> { Ok(fields.text(name)?.unwrap_or_default()) };
    let (given_url, given_key) = (text("url")?, text("key")?);
    let mut wanted = Wanted {
        secret: given_key.clone(),
        issuer: text("issuer")?,
        account: text("account_name")?,
        hash: fields.text("algorithm")?.unwrap_or("SHA1".to_owned()),
        digits: fields.count("digits")?.unwrap_or(6),
        period: match fields.duration("period")? {
            Some(period) => period.as_secs(),
            None => 30,
        },
    };
    if generate {
        for (given, what) in [(&given_key, "key"), (&given_url, "url")] {
            if !given.is_empty() {
                return Err(Refusal::invalid(format!(
                    "a {what} should not be passed if generate is true"
                )));
            }
        }
        for (value, what) in [
            (&wanted.issuer, "issuer"),
            (&wanted.account, "account_name"),
        ] {
            if value.is_empty() {
                return Err(Refusal::invalid(format!(
                    "the {what} value is required for a generated key"
                )));
            }
        }
        let size = fields.count("key_size")?.unwrap_or(20);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&size) {
            return Err(Refusal::invalid(format!(
                "the key_size value is not between {SECRET_BYTES_MIN} and {SECRET_BYTES_MAX} bytes"
            )));
        }
        let mut secret = vec![0; size];
        ctx.entropy().fill(&mut secret);
        wanted.secret = BASE32_NOPAD.encode(&secret);
        secret.zeroize();
    } else if !given_url.is_empty() {
        url::read(&given_url, &mut wanted).map_err(|error| Refusal::invalid(error.to_string()))?;
    }
    let key = wanted.into_key(fields.count("skew")?.unwrap_or(1))?;
    ctx.save(&at(name), &key)?;
    ctx.delete(&at_wrong(name));
    if !generate || !fields.flag("exported")?.unwrap_or(true) {
        return Ok(Answer::done());
    }
    let url = key.url();
    let size = fields.count("qr_size")?.unwrap_or(200);
    if QR_SIZE_MAX < size {
        return Err(Refusal::invalid(format!(
            "the qr_size value is more than {QR_SIZE_MAX}"
        )));
    }
    let mut answer = json!({ "url": url });
    if size != 0 {
        let png = qr::png(&url, usize::try_from(size).unwrap_or(0));
        let png = png.ok_or_else(|| Refusal::invalid("the picture has no room for this key"))?;
        answer["barcode"] = BASE64.encode(&png).into();
    }
    Ok(Answer::json(answer))
}

impl Wanted {
    /// Checks what is wanted of a key.
    pub(crate) fn into_key(self, skew: u64) -> Result<Key, Refusal> {
        let wrong = |why: &str| Err(Refusal::invalid(why));
        let bare: String = self
            .secret
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .collect::<String>()
            .trim_end_matches('=')
            .to_ascii_uppercase();
        if bare.is_empty() {
            return wrong("the key value is required");
        }
        let Ok(mut bytes) = BASE32_NOPAD.decode(bare.as_bytes()) else {
            return wrong("invalid key value: it is not base32");
        };
        let length = bytes.len();
        bytes.zeroize();
        if length == 0 || SECRET_BYTES_MAX < length {
            return wrong("invalid key value: it is empty or too long");
        }
        let Some(hash) = Hash::parse(&self.hash) else {
            return wrong("the algorithm value is not valid");
        };
        let digits = match self.digits {
            6 => 6,
            8 => 8,
            _ => return wrong("the digits value can only be 6 or 8"),
        };
        if skew > 1 {
            return wrong("the skew value must be 0 or 1");
        }
        if self.period == 0 || PERIOD_MAX < self.period {
            return wrong("the period value must be greater than zero, and a day at most");
        }
        let plain =
            |text: &str| text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control);
        let (issuer, account) = (self.issuer.trim(), self.account.trim());
        if !plain(issuer) || !plain(account) || issuer.contains(':') {
            return wrong("issuer or account_name is not valid");
        }
        Ok(Key {
            secret: bare,
            issuer: issuer.to_owned(),
            account: account.to_owned(),
            hash,
            digits,
            period: self.period,
            skew,
            used: None,
        })
    }
}

#[cfg(test)]
mod tests;
