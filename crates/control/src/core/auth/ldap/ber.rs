//! The little of BER that LDAP needs (RFC 4511, section 5.1): lengths are definite, tags one byte.

/// Bytes are not BER as LDAP uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBer;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const OCTETS: u8 = 0x04;
pub const ENUMERATED: u8 = 0x0a;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// Appends a value.
pub fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    if content.len() < 0x80 {
        out.push(u8::try_from(content.len()).expect("below 128"));
    } else {
        let length = u32::try_from(content.len()).expect("messages are far below 4 GiB");
        out.push(0x84);
        out.extend_from_slice(&length.to_be_bytes());
    }
    out.extend_from_slice(content);
}

/// Appends a number of at least 0.
pub fn put_number(out: &mut Vec<u8>, tag: u8, number: u32) {
    // A zero in front keeps it from being read as negative.
    let bytes = [&[0][..], &number.to_be_bytes()].concat();
    let zeros = bytes
        .windows(2)
        .take_while(|pair| pair[0] == 0 && pair[1] < 0x80);
    put(out, tag, &bytes[zeros.count()..]);
}

/// Returns how long a message is that begins with `head`: header and content; `None` if more of the
/// head is needed to tell.
pub fn message_length(head: &[u8]) -> Result<Option<usize>, NotBer> {
    match *head {
        [] | [SEQUENCE] => Ok(None),
        [SEQUENCE, length, ..] if length < 0x80 => Ok(Some(2 + usize::from(length))),
        [SEQUENCE, first, ref rest @ ..] => {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(NotBer);
            }
            Ok(rest.get(..count).map(|bytes| {
                let length = bytes
                    .iter()
                    .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
                2 + count + length
            }))
        }
        _ => Err(NotBer),
    }
}

/// Reads values one after the other.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the next value: tag and content.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), NotBer> {
        let (&tag, rest) = self.0.split_first().ok_or(NotBer)?;
        if tag & 0x1f == 0x1f {
            return Err(NotBer);
        }
        let (&first, rest) = rest.split_first().ok_or(NotBer)?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) || rest.len() < count {
                return Err(NotBer);
            }
            let (bytes, rest) = rest.split_at(count);
            let length = bytes
                .iter()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        };
        if rest.len() < length {
            return Err(NotBer);
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Ok((tag, content))
    }

    /// Reads the next value, which must have this tag.
    pub fn value(&mut self, tag: u8) -> Result<&'a [u8], NotBer> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(NotBer),
        }
    }

    /// Reads a number of at least 0.
    pub fn number(&mut self, tag: u8) -> Result<u32, NotBer> {
        let content = self.value(tag)?;
        if content.is_empty() || 5 < content.len() || 0x80 <= content[0] {
            return Err(NotBer);
        }
        let number = content
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        u32::try_from(number).map_err(|_| NotBer)
    }
}
