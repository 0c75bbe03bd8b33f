//! The items of a request: one, or a batch of them, each with its own result.

use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE};
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::kind::Kind;
use crate::core::engine::Call;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Partial, Reply};

/// Most items of a batch.
pub(super) const ITEMS_MAX: usize = 10_000;
/// Most items of a batch that each take an operation with a private RSA key: some 4 ms each.
pub(super) const RSA_ITEMS_MAX: usize = 256;

/// An item of a request.
#[derive(Clone, Copy)]
pub(super) struct Item<'r> {
    fields: &'r Map<String, Value>,
    number: usize,
}

/// The items of a request.
pub(super) struct Items<'r> {
    pub items: Vec<Item<'r>>,
    /// Whether they came as a batch, and their results go back as one.
    pub is_batch: bool,
}

impl<'r> Items<'r> {
    /// Reads the items: `batch_input`, or else the request's own fields.
    pub(super) fn of(call: &Call<'r>) -> Result<Self, Refusal> {
        let Some(batch) = call.fields().get("batch_input") else {
            return Ok(Self {
                items: vec![Item::of(call)],
                is_batch: false,
            });
        };
        let Value::Array(batch) = batch else {
            return Err(Refusal::invalid(
                "failed to parse batch input: it is not a list",
            ));
        };
        if batch.is_empty() {
            return Err(Refusal::invalid("missing batch input to process"));
        }
        if ITEMS_MAX < batch.len() {
            return Err(Refusal::invalid(format!(
                "a batch has at most {ITEMS_MAX} items"
            )));
        }
        let item = |(number, value): (usize, &'r Value)| match value {
            Value::Object(fields) => Ok(Item { fields, number }),
            _ => Err(Refusal::invalid(format!(
                "failed to parse batch input: [{number}] expected a map"
            ))),
        };
        Ok(Self {
            items: batch
                .iter()
                .enumerate()
                .map(item)
                .collect::<Result<_, _>>()?,
            is_batch: true,
        })
    }

    /// Refuses a batch of too many operations with a private key of a slow kind.
    pub(super) fn fit(&self, kind: Kind) -> Result<(), Refusal> {
        if kind.rsa_bits().is_some() && RSA_ITEMS_MAX < self.items.len() {
            return Err(Refusal::invalid(format!(
                "a batch for an RSA key has at most {RSA_ITEMS_MAX} items"
            )));
        }
        Ok(())
    }
}

impl<'r> Item<'r> {
    /// Takes a request's own fields as its one item.
    pub(super) fn of(call: &Call<'r>) -> Self {
        Self {
            fields: call.data,
            number: 0,
        }
    }

    /// Returns a text; empty if it is missing.
    pub(super) fn text(self, name: &str) -> Result<&'r str, Refusal> {
        Ok(self.given(name)?.unwrap_or_default())
    }

    /// Returns a text, if it is given.
    pub(super) fn given(self, name: &str) -> Result<Option<&'r str>, Refusal> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::invalid(format!(
                "failed to parse batch input: '[{}].{name}' expected type 'string'",
                self.number
            ))),
        }
    }

    /// Returns a text that must be there; it may be empty.
    pub(super) fn required(self, name: &str, missing: &str) -> Result<&'r str, Refusal> {
        self.given(name)?.ok_or_else(|| Refusal::invalid(missing))
    }

    /// Returns which version is asked for; 0 if none is.
    pub(super) fn key_version(self) -> Result<i64, Refusal> {
        let version = crate::core::fields::Fields(self.fields).int("key_version")?;
        Ok(version.unwrap_or(0))
    }
}

/// Decodes base64 as Go does: line ends are skipped, and what is wrong is told by its place.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, Fault> {
    BASE64.decode(text.as_bytes()).or_else(|strict| {
        let lenient = BASE64_MIME_PERMISSIVE.decode(text.as_bytes());
        lenient.map_err(|_| {
            let at = strict.position;
            Fault::User(format!("illegal base64 data at input byte {at}"))
        })
    })
}

/// The results of a request's items, in their order.
pub(super) struct Results {
    results: Vec<Result<Map<String, Value>, Fault>>,
}

impl Results {
    pub(super) fn with_capacity(items: &Items<'_>) -> Self {
        Self {
            results: Vec::with_capacity(items.items.len()),
        }
    }

    pub(super) fn push(&mut self, result: Result<Map<String, Value>, Fault>) {
        self.results.push(result);
    }

    /// Answers: of one item its result; of a batch all of them, with the status that Vault gives a
    /// batch in which some failed, as far as `shows` says.
    pub(super) fn answer(
        self,
        call: &Call<'_>,
        items: &Items<'_>,
        shows: Shows,
    ) -> Result<Answer, Refusal> {
        let mut results = self.results;
        if !items.is_batch {
            let one = results.pop();
            return Ok(Answer::data(one.expect("each item has its result")?));
        }
        let any = results.iter().any(Result::is_ok);
        let failed = results
            .iter()
            .any(|result| matches!(result, Err(Fault::Failed(_))));
        let wrong = results.iter().any(Result::is_err);
        let shown = results.into_iter().zip(&items.items).map(|(result, item)| {
            let mut shown = match result {
                Ok(result) => result,
                Err(fault) => {
                    let mut shown = Map::new();
                    shown.insert("error".into(), fault.text().into());
                    shown
                }
            };
            let reference = item.fields.get("reference").and_then(Value::as_str);
            shown.insert("reference".into(), reference.unwrap_or_default().into());
            Value::Object(shown)
        });
        let shown: Vec<Value> = shown.collect();
        let mut data = Map::new();
        data.insert("batch_results".into(), Value::Array(shown));
        if !wrong || shows == Shows::InItems {
            return Ok(Answer::data(data));
        }
        let mut status = if failed { 500 } else { 400 };
        if any && let Some(code) = call.fields().int("partial_failure_response_code")? {
            let code = u16::try_from(code).ok().filter(|code| *code < 600);
            let code = code.ok_or_else(|| {
                Refusal::invalid(
                    "invalid HTTP response code override from partial_failure_response_code",
                )
            })?;
            // Below 200 is no answer yet, and 204 has no body.
            if 200 <= code && code != 204 {
                status = code;
            }
        }
        Ok(Answer::from(Reply::Partial(Partial { data, status })))
    }
}

/// Where it shows that items of a batch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// In the items, and in the status: encrypt, decrypt, rewrap.
    InStatus,
    /// In the items alone: sign, verify, hmac.
    InItems,
}

/// Makes the fields of a result of a JSON object.
pub(super) fn result(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), json!(other))]),
    }
}
