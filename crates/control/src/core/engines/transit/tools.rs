//! What needs no key: hashes and random bytes.

use data_encoding::{BASE64, HEXLOWER};
use serde_json::json;
use zeroize::Zeroizing;

use super::batch::base64;
use super::hashes::{DEFAULT, Hash};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Most random bytes of one request.
const RANDOM_BYTES_MAX: usize = 128 << 10;

/// Reads how bytes are to be written: `hex` or `base64`.
fn encoder(call: &Call<'_>, default: &str) -> Result<fn(&[u8]) -> String, Refusal> {
    match call.fields().text("format")?.as_deref().unwrap_or(default) {
        "hex" => Ok(|bytes| HEXLOWER.encode(bytes)),
        "base64" => Ok(|bytes| BASE64.encode(bytes)),
        other => Err(Refusal::invalid(format!(
            "unsupported encoding format {other:?}; must be \"hex\" or \"base64\""
        ))),
    }
}

/// Answers `hash[/ALGORITHM]`.
pub(crate) fn hash(call: &Call<'_>, in_path: Option<&str>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let named = fields.text("algorithm")?;
    let name = in_path.or(named.as_deref()).unwrap_or(DEFAULT);
    let hash = Hash::parse(name)
        .filter(|hash| *hash != Hash::None)
        .ok_or_else(|| Refusal::invalid(format!("unsupported algorithm {name:?}")))?;
    let encode = encoder(call, "hex")?;
    let input = fields.text("input")?.unwrap_or_default();
    let input = base64(&input).map_err(|fault| {
        Refusal::Invalid(format!(
            "unable to decode input as base64: {}",
            fault.text()
        ))
    })?;
    Ok(Answer::json(json!({ "sum": encode(&hash.digest(&input)) })))
}

/// Answers `random[/SOURCE][/BYTES]`. There is one source, whichever is named.
pub(crate) fn random(
    ctx: &mut Context<'_, '_>,
    call: &Call<'_>,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    let is_source = |name: &str| ["platform", "seal", "all"].contains(&name);
    let (source, bytes) = match rest {
        [] => (None, None),
        [one] if is_source(one) => (Some(*one), None),
        [one] => (None, Some(*one)),
        [source, bytes] => (Some(*source), Some(*bytes)),
        _ => return Err(Refusal::UnsupportedPath),
    };
    if let Some(source) = source
        && !is_source(source)
    {
        return Err(Refusal::invalid(format!(
            "unsupported entropy source {source:?}; must be \"platform\" or \"seal\", or \"all\""
        )));
    }
    let asked = match bytes {
        Some(text) => text
            .parse::<i64>()
            .map_err(|_| Refusal::invalid(format!("error parsing url-set byte count: {text:?}")))?,
        None => call.fields().int("bytes")?.unwrap_or(32),
    };
    if asked < 1 {
        return Err(Refusal::invalid("\"bytes\" cannot be less than 1"));
    }
    let bytes = usize::try_from(asked).unwrap_or(usize::MAX);
    if RANDOM_BYTES_MAX < bytes {
        return Err(Refusal::invalid(format!(
            "\"bytes\" should be less than {RANDOM_BYTES_MAX}"
        )));
    }
    let encode = encoder(call, "base64")?;
    let mut drawn = Zeroizing::new(vec![0; bytes]);
    ctx.entropy().fill(&mut drawn);
    Ok(Answer::json(json!({ "random_bytes": encode(&drawn) })))
}
