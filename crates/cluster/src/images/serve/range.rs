//! The header `Range` (RFC 9110, section 14).

/// What a range asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// These bytes; at least one.
    Part { first: u64, length: u64 },
    /// Bytes that the blob does not have.
    Unsatisfiable,
}

impl Range {
    /// Reads a range of a blob of `size` bytes. `None`: it is not understood or is of several parts,
    /// and the whole blob is the right answer.
    pub fn read(text: &str, size: u64) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let (first, last): (u64, u64) = match (first, last) {
            ("", suffix) => (size.saturating_sub(number(suffix)?), size.saturating_sub(1)),
            (first, "") => (number(first)?, size.saturating_sub(1)),
            (first, last) => (number(first)?, number(last)?.min(size.saturating_sub(1))),
        };
        if size <= first || last < first {
            return Some(Self::Unsatisfiable);
        }
        let length = last - first + 1;
        Some(Self::Part { first, length })
    }
}

#[cfg(test)]
mod tests;
