//! DER (X.690): a writer that nests, and a reader that takes nothing which a writer would not write.

use bastide_api::UnixTime;

/// Tags of the universal class.
pub const BOOLEAN: u8 = 0x01;
/// A whole number.
pub const INTEGER: u8 = 0x02;
/// Bits.
pub const BIT_STRING: u8 = 0x03;
/// Bytes.
pub const OCTET_STRING: u8 = 0x04;
/// Nothing.
pub const NULL: u8 = 0x05;
/// An object identifier.
pub const OID: u8 = 0x06;
/// One of a list of numbers.
pub const ENUMERATED: u8 = 0x0a;
/// Text in UTF-8.
pub const UTF8_STRING: u8 = 0x0c;
/// Text of few letters.
pub const PRINTABLE_STRING: u8 = 0x13;
/// Text in the letters of teletex.
pub const T61_STRING: u8 = 0x14;
/// ASCII.
pub const IA5_STRING: u8 = 0x16;
/// ASCII that can be seen.
pub const VISIBLE_STRING: u8 = 0x1a;
/// Text in four bytes for each letter.
pub const UNIVERSAL_STRING: u8 = 0x1c;
/// Text in two bytes for each letter.
pub const BMP_STRING: u8 = 0x1e;
/// A time of the years 1950 to 2049.
pub const UTC_TIME: u8 = 0x17;
/// A time.
pub const GENERALIZED_TIME: u8 = 0x18;
/// A sequence.
pub const SEQUENCE: u8 = 0x30;
/// A set.
pub const SET: u8 = 0x31;

/// Returns the tag `[number]` of the context class.
pub const fn context(number: u8) -> u8 {
    0x80 | number
}

/// Returns the tag `[number]` of the context class, of something that holds values.
pub const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// Writes values one after the other.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Returns a writer whose buffer has room for `bytes`.
    pub fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a value that was encoded before.
    pub fn raw(&mut self, der: &[u8]) {
        self.0.extend_from_slice(der);
    }

    /// Writes a value.
    pub fn value(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        push_length(&mut self.0, content.len());
        self.0.extend_from_slice(content);
    }

    /// Writes a value that holds what `write` writes.
    pub fn nest(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.0.push(tag);
        let start = self.0.len();
        write(self);
        let mut length = Vec::with_capacity(5);
        push_length(&mut length, self.0.len() - start);
        self.0.splice(start..start, length);
    }

    /// Writes a bit string of whole bytes.
    pub fn bits(&mut self, bytes: &[u8]) {
        self.nest(BIT_STRING, |out| {
            out.raw(&[0]);
            out.raw(bytes);
        });
    }

    /// Writes a number of at least 0, given big-endian; leading zeros are dropped.
    pub fn unsigned(&mut self, bytes: &[u8]) {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = &bytes[zeros..];
        self.nest(INTEGER, |out| {
            if digits.first().is_none_or(|byte| 0x80 <= *byte) {
                out.raw(&[0]);
            }
            out.raw(digits);
        });
    }

    /// Writes a flag.
    pub fn boolean(&mut self, set: bool) {
        self.value(BOOLEAN, &[if set { 0xff } else { 0 }]);
    }

    /// Writes a time as certificates hold it: `UTCTime` through 2049 (RFC 5280, section 4.1.2.5).
    pub fn time(&mut self, at: UnixTime) {
        let text = generalized(at);
        if text.as_str() < "20500101" && "1950" <= text.as_str() {
            self.value(UTC_TIME, &text.as_bytes()[2..]);
        } else {
            self.value(GENERALIZED_TIME, text.as_bytes());
        }
    }

    /// Writes a `GeneralizedTime`.
    pub fn generalized_time(&mut self, at: UnixTime) {
        self.value(GENERALIZED_TIME, generalized(at).as_bytes());
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        out.push(u8::try_from(length).expect("it is below 128"));
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    out.push(0x80 | u8::try_from(digits.len()).expect("a length has at most 8 bytes"));
    out.extend_from_slice(digits);
}

/// The last second that X.509 can name: 9999-12-31T23:59:59Z.
pub const TIME_MAX: UnixTime = UnixTime::from_millis(253_402_300_799_000);

/// Returns `YYYYMMDDHHMMSSZ`; what lies after the year 9999 is its last second.
fn generalized(at: UnixTime) -> String {
    let at = at.min(TIME_MAX);
    let ((year, month, day), rest) = (at.date(), at.as_secs() % 86_400);
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// It is not DER, or not what stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the DER that is expected here")]
pub struct NotDer;

/// Reads values one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what is left.
    pub fn end(self) -> Result<(), NotDer> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(NotDer)
        }
    }

    /// Returns the next value's tag.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Reads a value: its tag, its content, and all of it.
    pub fn any(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), NotDer> {
        let (&tag, rest) = self.0.split_first().ok_or(NotDer)?;
        // Tags of several bytes stand in nothing that is read here.
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (&first, rest) = rest.split_first().ok_or(NotDer)?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || 4 < count || rest.len() < count {
                return Err(NotDer);
            }
            let (digits, rest) = rest.split_at(count);
            let length = digits
                .iter()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            // The shortest form, and no other.
            if digits[0] == 0 || length < 0x80 {
                return Err(NotDer);
            }
            (length, rest)
        };
        if rest.len() < length {
            return Err(NotDer);
        }
        let (content, after) = rest.split_at(length);
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok((tag, content, whole))
    }

    /// Reads the content of a value of this tag.
    pub fn value(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        let (found, content, _) = self.any()?;
        if found == tag {
            Ok(content)
        } else {
            Err(NotDer)
        }
    }

    /// Reads a value that holds values.
    pub fn nested(&mut self, tag: u8) -> Result<Self, NotDer> {
        self.value(tag).map(Self)
    }

    /// Reads the content of a value of this tag, if one is next.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NotDer> {
        if self.peek() == Some(tag) {
            self.value(tag).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Reads a `UTCTime` or `GeneralizedTime` of whole seconds in UTC. What lies before 1970 is the epoch.
pub fn read_time(tag: u8, content: &[u8]) -> Result<UnixTime, NotDer> {
    let text = std::str::from_utf8(content).map_err(|_| NotDer)?;
    let digits = text.strip_suffix('Z').ok_or(NotDer)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotDer);
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = digits[..2].parse().map_err(|_| NotDer)?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().map_err(|_| NotDer)?, &digits[4..]),
        _ => return Err(NotDer),
    };
    let part = |at: usize| rest[at..at + 2].parse::<u64>().map_err(|_| NotDer);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let is_time = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_time {
        return Err(NotDer);
    }
    if year < 1970 {
        return Ok(UnixTime::EPOCH);
    }
    // The inverse of `UnixTime::date`; a day that a month does not have would come out as another date.
    let from = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (from / 400, from % 400);
    let shifted_month = if month <= 2 { month + 9 } else { month - 3 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era)
        .checked_sub(719_468)
        .ok_or(NotDer)?;
    let secs = days * 86_400 + hour * 3600 + minute * 60 + second;
    let at = UnixTime::from_millis(secs * 1000);
    if at.date() != (year, month, day) {
        return Err(NotDer);
    }
    Ok(at)
}
