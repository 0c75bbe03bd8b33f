//! Durations, sizes, processor time and command lines, as compose writes them.

use crate::core::model::{ByteSize, Millis, NanoCpus};

/// Reads a duration as Go writes it: `1h30m`, `1.5s`, `500ms`. `None`: it is none, is finer than a
/// millisecond or longer than [`Millis::MAX`].
pub fn duration(text: &str) -> Option<Millis> {
    if text == "0" {
        return Some(Millis(0));
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(decimal(number, millis)?)?;
        rest = after;
    }
    (!text.is_empty() && total <= Millis::MAX.0).then_some(Millis(total))
}

/// Reads a size as Docker writes it: `64m`, `1.5g`, `1024`, with units of 1,024.
pub fn size(text: &str) -> Option<ByteSize> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    decimal(number, factor).map(ByteSize)
}

/// Reads processor time: `0.5`, `2`.
pub fn cpus(text: &str) -> Option<NanoCpus> {
    decimal(text, 1_000_000_000).map(NanoCpus)
}

/// Reads a decimal number and multiplies it by `factor`, exactly: `None` if a fraction would remain,
/// except for binary units, where `1.1g` is cut down to whole bytes as Docker does.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    const FRACTION_DIGITS_MAX: usize = 9;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let too_long = 18 < whole.len() || FRACTION_DIGITS_MAX < fraction.len();
    if whole.is_empty() || !digits(whole) || !digits(fraction) || too_long || text.ends_with('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let product = number * u128::from(factor);
    if !product.is_multiple_of(scale) && !factor.is_power_of_two() {
        return None;
    }
    u64::try_from(product / scale).ok()
}

/// Splits a command line into words as a POSIX shell does (quotes and backslashes; nothing is
/// expanded). `None` if a quote is left open.
pub fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            '\n' => {}
                            other => word.extend(['\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => match chars.next()? {
                '\n' => {}
                escaped => word.get_or_insert_default().push(escaped),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests;
