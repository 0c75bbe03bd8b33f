//! The fields of a request, read as weakly as Vault reads them: `"5"` is 5, `"true"` is true.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::refusal::Refusal;

/// A view of a request's fields.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a Map<String, Value>);

fn wrong(name: &str, what: &str) -> Refusal {
    Refusal::invalid(format!(
        "Field validation failed: error converting input for field \"{name}\": expected {what}"
    ))
}

impl<'a> Fields<'a> {
    /// Returns a field, unless it is missing or null.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Returns a text, if given.
    pub fn text(self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// Returns a text that must be there and not empty.
    pub fn required(self, name: &str) -> Result<String, Refusal> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Refusal::invalid(format!("missing {name}")))
    }

    /// Returns a whole number, if given.
    pub fn int(self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong(name, "an integer"))
    }

    /// Returns a number of at least 0, if given.
    pub fn count(self, name: &str) -> Result<Option<u64>, Refusal> {
        self.int(name)?
            .map(|number| {
                u64::try_from(number).map_err(|_| {
                    Refusal::invalid(format!("cannot provide negative value for {name}"))
                })
            })
            .transpose()
    }

    /// Returns a flag, if given.
    pub fn flag(self, name: &str) -> Result<Option<bool>, Refusal> {
        let flag = match self.get(name) {
            None => return Ok(None),
            Some(Value::Bool(flag)) => Some(*flag),
            // Clients send empty texts for what they leave out.
            Some(Value::String(text)) if text.is_empty() => Some(false),
            Some(Value::String(text)) => parse_bool(text),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Some(_) => None,
        };
        flag.map(Some).ok_or_else(|| wrong(name, "a boolean"))
    }

    /// Returns a duration, if given: whole seconds, or Go's form.
    pub fn duration(self, name: &str) -> Result<Option<Duration>, Refusal> {
        let found = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(secs) => Some(Duration::from_secs(secs)),
                None => number
                    .as_f64()
                    .and_then(|secs| Duration::try_from_secs_f64(secs).ok()),
            },
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => parse_duration(text),
            Some(_) => None,
        };
        // Two hundred years: what is longer overflows a client's 64-bit nanoseconds.
        match found.filter(|found| found.as_secs() < 200 * 365 * 86_400) {
            Some(found) => Ok(Some(found)),
            None => Err(wrong(name, "a duration such as 3600, 90s or 1h30m")),
        }
    }

    /// Returns texts, if given: an array, or one text with commas.
    pub fn list(self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text.trim().to_owned()),
                    Value::Number(number) => Ok(number.to_string()),
                    _ => Err(wrong(name, "a list of strings")),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Number(number)) => Ok(Some(vec![number.to_string()])),
            Some(_) => Err(wrong(name, "a list of strings")),
        }
    }

    /// Returns an object, if given.
    pub fn object(self, name: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// Returns a map of texts, if given: an object, or a list of `key=value`.
    pub fn pairs(self, name: &str) -> Result<Option<BTreeMap<String, String>>, Refusal> {
        let pair = |text: &str| {
            text.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| wrong(name, "key=value"))
        };
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => object
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string())),
                    _ => Err(wrong(name, "a map of strings")),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| {
                    value
                        .as_str()
                        .ok_or_else(|| wrong(name, "key=value"))
                        .and_then(pair)
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(BTreeMap::new())),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(map) => Ok(Some(map)),
                Err(_) => text
                    .split(',')
                    .map(pair)
                    .collect::<Result<_, _>>()
                    .map(Some),
            },
            Some(_) => Err(wrong(name, "a map of strings")),
        }
    }
}

/// Parses what Go's `ParseBool` takes.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parses seconds (`3600`), Go's form (`1h30m`, `1.5s`, `300ms`) or days (`7d`). Never negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Some(Duration::from_secs(secs));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = rest[..digits].parse::<f64>().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Prints a duration as Go does: `0s`, `1m30s`, `3h25m19s`.
pub fn go_duration(duration: Duration) -> String {
    let (secs, millis) = (duration.as_secs(), duration.subsec_millis());
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    let secs = match millis {
        0 => format!("{secs}s"),
        _ => format!("{}s", format!("{secs}.{millis:03}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => secs,
        (0, _) => format!("{minutes}m{secs}"),
        _ => format!("{hours}h{minutes}m{secs}"),
    }
}

#[cfg(test)]
mod tests;
