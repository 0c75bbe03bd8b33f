//! What people do with shares while the server is open: `sys/rekey` and `sys/generate-root`, in Vault's
//! words. The plane has decided that whoever asks may.

use bastide_api::Secret;
use bastide_store::{Barrier, BarrierError, SealError, ShamirSeal, Share, Sharing};
use data_encoding::{BASE64, HEXLOWER};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::answers::{Answered, failed, field, is_given, number, refuse, share};
use super::keeper::{Keeper, failed_to};
use super::{Gate, GateError};
use crate::core::reply::{Asker, StepKind};
use crate::core::request::{Operation, Request};

/// Longest one-time password that is looked at, in bytes.
const OTP_BYTES_MAX: usize = 256;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Other shares.
    Rekey,
    /// The proof that the new shares were received.
    Verify,
    /// A root token.
    Root,
}

/// What is asked.
pub(crate) enum Ask {
    /// How far it is.
    Look,
    /// Begin, towards shares of this kind, which open nothing before enough of them were shown if
    /// `verify` is set.
    BeginRekey { to: Sharing, verify: bool },
    /// Begin, with a password that the token is to be encoded with; one is drawn if none is given.
    BeginRoot { otp: Option<Secret<String>> },
    /// A share, and the nonce of what it is meant for.
    Give { share: Share, nonce: String },
    /// Stop it.
    Cancel { nonce: String },
}

/// What is said to it.
pub(crate) enum Told {
    /// This.
    Json(Value),
    /// Nothing more.
    Done,
}

/// Answers a request that the plane has allowed to `by`.
pub(crate) async fn answer(gate: &Gate, request: &Request, kind: StepKind, by: Asker) -> Answered {
    let (of, ask) = match read(request, kind) {
        Ok(read) => read,
        Err(answered) => return answered,
    };
    match gate.ceremony(of, ask, by).await {
        Ok(Told::Json(body)) if request.path.as_str().starts_with("sys/rotate/") => {
            (StatusCode::OK, enveloped(request, body))
        }
        Ok(Told::Json(body)) => (StatusCode::OK, body),
        Ok(Told::Done) => (StatusCode::NO_CONTENT, Value::Null),
        Err(error) => failed(&error),
    }
}

/// Puts an answer in the envelope: on OpenBao's paths its clients read `data`, on Vault's there is none.
fn enveloped(request: &Request, data: Value) -> Value {
    json!({
        "request_id": request.id, "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": data, "wrap_info": null, "warnings": null, "auth": null,
    })
}

/// Reads what is asked. `sys/rekey`, `sys/rekey-recovery-key` and OpenBao's `sys/rotate/root` and
/// `sys/rotate/recovery` mean the same: there is one set of shares.
fn read(request: &Request, kind: StepKind) -> Result<(Of, Ask), Answered> {
    let last = request.path.as_str().rsplit('/').next().unwrap_or_default();
    let fields = &request.data;
    let nonce = || {
        let nonce = field(fields, "nonce").and_then(Value::as_str);
        nonce.unwrap_or_default().to_owned()
    };
    let of = match (kind, last) {
        (StepKind::GenerateRoot, _) => Of::Root,
        (_, "verify") => Of::Verify,
        (_, "backup" | "recovery-key-backup") => {
            // None is ever made: shares are given to whoever asks for them, and kept by nobody.
            return Err(match request.operation {
                Operation::Delete => (StatusCode::NO_CONTENT, Value::Null),
                _ => refuse(StatusCode::BAD_REQUEST, "no backed-up keys found"),
            });
        }
        _ => Of::Rekey,
    };
    let ask = match (request.operation, last) {
        (Operation::Read, _) => Ask::Look,
        (Operation::Delete, _) => Ask::Cancel { nonce: nonce() },
        (_, "init") => begin_rekey(fields)?,
        (_, "attempt") => begin_root(fields)?,
        (_, _) => Ask::Give {
            share: given(fields)?,
            nonce: nonce(),
        },
    };
    Ok((of, ask))
}

fn begin_rekey(fields: &Map<String, Value>) -> Result<Ask, Answered> {
    let foreign = ["pgp_keys", "backup"];
    if let Some(name) = foreign.iter().find(|name| is_given(fields, name)) {
        let text = format!("{name} is not served");
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    let shares = number(fields, "secret_shares").unwrap_or(0);
    let threshold = number(fields, "secret_threshold").unwrap_or(0);
    let to = Sharing::new(shares, threshold).map_err(|error| {
        let text = format!("invalid rekey seal configuration: {error}");
        refuse(StatusCode::BAD_REQUEST, text)
    })?;
    Ok(Ask::BeginRekey {
        to,
        verify: is_given(fields, "require_verification"),
    })
}

fn begin_root(fields: &Map<String, Value>) -> Result<Ask, Answered> {
    if is_given(fields, "pgp_key") {
        let text = "pgp_key is not served: give an `otp`, or nothing, and one is drawn";
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    let otp = field(fields, "otp").and_then(Value::as_str);
    let otp = otp.filter(|otp| !otp.is_empty());
    if otp.is_some_and(|otp| OTP_BYTES_MAX < otp.len()) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "OTP string is wrong length",
        ));
    }
    Ok(Ask::BeginRoot {
        otp: otp.map(|otp| Secret::new(otp.to_owned())),
    })
}

fn given(fields: &Map<String, Value>) -> Result<Share, Answered> {
    let wrong = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let key = field(fields, "key").and_then(Value::as_str);
    let key = key.ok_or_else(|| wrong("'key' must be specified in request body as JSON"))?;
    share(key).ok_or_else(|| wrong("'key' must be a valid hex or base64 string"))
}

/// Writes shares as an answer does: `keys` and `keys_base64`.
pub(super) fn keys(shares: &[Share]) -> (Value, Value) {
    let hex = shares.iter().map(|it| HEXLOWER.encode(it.expose()));
    let base64 = shares.iter().map(|it| BASE64.encode(it.expose()));
    (
        hex.collect::<Vec<_>>().into(),
        base64.collect::<Vec<_>>().into(),
    )
}

impl Keeper {
    pub(super) async fn ceremony(
        &mut self,
        of: Of,
        ask: Ask,
        by: Asker,
    ) -> Result<Told, GateError> {
        let from = self.sharing().ok_or(GateError::NotByShares)?;
        if self.server.is_none() {
            return Err(GateError::Sealed);
        }
        match (of, ask) {
            (Of::Root, ask) => self.root(from, ask, by).await,
            (Of::Rekey, ask) => self.rekey(from, ask, by),
            (Of::Verify, ask) => self.verify(ask, by),
        }
    }

    /// Checks that shares open this store, and returns their seal.
    pub(super) fn proven(&self, from: Sharing, shares: &[Share]) -> Result<ShamirSeal, GateError> {
        let server = self.server.as_ref().ok_or(GateError::Sealed)?;
        let seal = ShamirSeal::combine(from, shares).map_err(GateError::Shares)?;
        match Barrier::check(&*self.store, server.plane().barrier(), &seal) {
            Ok(()) => Ok(seal),
            Err(BarrierError::Seal(error @ SealError::Shares)) => {
                tracing::warn!("shares that do not open this store were given");
                Err(GateError::Shares(error))
            }
            Err(error) => Err(failed_to(&error, "check shares")),
        }
    }
}
