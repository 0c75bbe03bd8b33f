//! The types of RFC 4251 §5, read and written.

/// What was read is shorter than it says, or longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads from the front of bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.0
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads a `string`: a length and as many bytes.
    pub(super) fn string(&mut self) -> Result<&'b [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.take(length)
    }

    /// Reads a `string` that is text.
    pub(super) fn text(&mut self) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed)
    }

    /// Reads an `mpint` that is positive, without its leading zero.
    pub(super) fn positive(&mut self) -> Result<&'b [u8], Malformed> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|byte| 0x80 <= *byte) => Ok(rest),
            [0, ..] => Err(Malformed),
            [first, ..] if 0x80 <= *first => Err(Malformed),
            [] => Err(Malformed),
            whole => Ok(whole),
        }
    }
}

/// Writes to the end of bytes.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Writes a `string`.
    pub(super) fn string(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("what is written is shorter than 4 GiB");
        self.u32(length).raw(bytes)
    }

    /// Writes a `string` of what `fill` writes.
    pub(super) fn nested(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.0.len();
        self.u32(0);
        fill(self);
        let length = u32::try_from(self.0.len() - at - 4).expect("shorter than 4 GiB");
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        self
    }

    /// Writes an `mpint` of a number that is not negative, given big-endian.
    pub(super) fn positive(&mut self, number: &[u8]) -> &mut Self {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let lead = number.first().is_some_and(|byte| 0x80 <= *byte);
        let length = number.len() + usize::from(lead);
        self.u32(u32::try_from(length).expect("shorter than 4 GiB"));
        if lead {
            self.u8(0);
        }
        self.raw(number)
    }
}
