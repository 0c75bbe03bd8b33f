//! Other shares in place of those that people hold: `sys/rekey`, in Vault's words. Unlike in Vault it
//! takes a token: whoever may not seal the server can neither begin nor disturb it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bastide_store::{Barrier, BarrierError, SealError, SealKind, ShamirSeal, Share, Sharing};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use super::answers::{Answered, failed, field, is_given, number, refuse, share};
use super::keeper::{Keeper, failed_to};
use super::{Gate, GateError};
use crate::core::request::{Operation, Request};
use crate::run::plane::request_id;
use hyper::StatusCode;

/// A change of shares that has begun.
pub(super) struct Rekey {
    to: Sharing,
    given: Vec<Share>,
    nonce: String,
}

/// What is asked of it.
pub(crate) enum Ask {
    /// How far it is.
    Look,
    /// Begin, towards shares of this kind.
    Begin(Sharing),
    /// A share of those that are to go.
    Give {
        /// The share.
        share: Share,
        /// The operation that it is meant for.
        nonce: String,
    },
    /// Stop it.
    Cancel,
}

/// How far it is.
pub(crate) enum Told {
    /// So far.
    Progress(Value),
    /// Nothing more is to be said.
    Done,
    /// The new shares: the old ones open nothing any more.
    Shares(String, Vec<Share>),
}

/// Returns whether a request is about the shares; then the plane only decides who may.
pub(crate) fn is_meant(request: &Request) -> bool {
    matches!(request.path.as_str(), "sys/rekey/init" | "sys/rekey/update")
}

/// Answers a request that the plane has allowed.
pub(crate) async fn answer(gate: &Gate, request: &Request) -> Answered {
    let fields = &request.data;
    let ask = match (request.operation, request.path.as_str()) {
        (Operation::Read, "sys/rekey/init") => Ask::Look,
        (Operation::Delete, "sys/rekey/init") => Ask::Cancel,
        (Operation::Update, "sys/rekey/init") => match begin(fields) {
            Ok(ask) => ask,
            Err(answered) => return answered,
        },
        (Operation::Update, "sys/rekey/update") => match give(fields) {
            Ok(ask) => ask,
            Err(answered) => return answered,
        },
        _ => return refuse(StatusCode::METHOD_NOT_ALLOWED, "unsupported operation"),
    };
    match gate.rekey(ask).await {
        Ok(Told::Progress(progress)) => (StatusCode::OK, progress),
        Ok(Told::Done) => (StatusCode::NO_CONTENT, Value::Null),
        Ok(Told::Shares(nonce, shares)) => (StatusCode::OK, complete(&nonce, &shares)),
        Err(error) => failed(&error),
    }
}

fn begin(fields: &Map<String, Value>) -> Result<Ask, Answered> {
    let foreign = ["pgp_keys", "backup", "require_verification"];
    if let Some(name) = foreign.iter().find(|name| is_given(fields, name)) {
        let text = format!("{name} is not served");
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    let shares = number(fields, "secret_shares").unwrap_or(0);
    let threshold = number(fields, "secret_threshold").unwrap_or(0);
    let sharing = Sharing::new(shares, threshold).map_err(|error| {
        let text = format!("invalid rekey seal configuration: {error}");
        refuse(StatusCode::BAD_REQUEST, text)
    })?;
    Ok(Ask::Begin(sharing))
}

fn give(fields: &Map<String, Value>) -> Result<Ask, Answered> {
    let text = |name: &str| field(fields, name).and_then(Value::as_str);
    let wrong = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let key =
        text("key").ok_or_else(|| wrong("'key' must be specified in request body as JSON"))?;
    let share = share(key).ok_or_else(|| wrong("'key' must be a valid hex or base64 string"))?;
    Ok(Ask::Give {
        share,
        nonce: text("nonce").unwrap_or_default().to_owned(),
    })
}

fn complete(nonce: &str, shares: &[Share]) -> Value {
    let keys: Vec<_> = shares
        .iter()
        .map(|it| HEXLOWER.encode(it.expose()))
        .collect();
    let base64: Vec<_> = shares.iter().map(|it| BASE64.encode(it.expose())).collect();
    json!({
        "nonce": nonce,
        "complete": true,
        "keys": keys,
        "keys_base64": base64,
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": false,
        "verification_nonce": "",
    })
}

impl Keeper {
    pub(super) fn rekey(&mut self, ask: Ask) -> Result<Told, GateError> {
        let Some(SealKind::Shares(from)) = self.kind else {
            return Err(GateError::NotByShares);
        };
        if self.server.is_none() {
            return Err(GateError::Sealed);
        }
        match ask {
            Ask::Look => Ok(Told::Progress(progress(self.rekey.as_ref(), from))),
            Ask::Cancel => {
                self.rekey = None;
                Ok(Told::Done)
            }
            Ask::Begin(_) if self.rekey.is_some() => Err(GateError::RekeyBegun),
            Ask::Begin(to) => {
                self.rekey = Some(Rekey {
                    to,
                    given: Vec::new(),
                    nonce: request_id(),
                });
                Ok(Told::Progress(progress(self.rekey.as_ref(), from)))
            }
            Ask::Give { share, nonce } => self.give(from, share, &nonce),
        }
    }

    fn give(&mut self, from: Sharing, share: Share, nonce: &str) -> Result<Told, GateError> {
        let rekey = self.rekey.as_mut().ok_or(GateError::NoRekey)?;
        if verify_slices_are_equal(rekey.nonce.as_bytes(), nonce.as_bytes()).is_err() {
            return Err(GateError::Nonce);
        }
        let bytes = from.share_bytes();
        if share.expose().len() != bytes {
            return Err(GateError::Length { bytes });
        }
        let is_known =
            |known: &Share| verify_slices_are_equal(known.expose(), share.expose()).is_ok();
        if !rekey.given.iter().any(is_known) {
            rekey.given.push(share);
        }
        if rekey.given.len() < usize::from(from.threshold()) {
            return Ok(Told::Progress(progress(self.rekey.as_ref(), from)));
        }
        let (new, shares) = ShamirSeal::split(rekey.to);
        let resealed = ShamirSeal::combine(from, &std::mem::take(&mut rekey.given))
            .map_err(BarrierError::from)
            .and_then(|old| Barrier::reseal(&*self.store, &old, &new));
        match resealed {
            Ok(()) => {}
            Err(BarrierError::Seal(error @ SealError::Shares)) => {
                return Err(GateError::Shares(error));
            }
            Err(error) => return Err(failed_to(&error, "seal the store anew")),
        }
        let to = rekey.to;
        let nonce = std::mem::take(&mut rekey.nonce);
        self.rekey = None;
        self.kind = Some(SealKind::Shares(to));
        self.state.send_modify(|state| state.sharing = Some(to));
        tracing::warn!(
            threshold = to.threshold(),
            shares = to.shares(),
            "other shares open the server from now on"
        );
        Ok(Told::Shares(nonce, shares))
    }
}

fn progress(rekey: Option<&Rekey>, from: Sharing) -> Value {
    json!({
        "nonce": rekey.map_or("", |it| it.nonce.as_str()),
        "started": rekey.is_some(),
        "t": rekey.map_or(0, |it| it.to.threshold()),
        "n": rekey.map_or(0, |it| it.to.shares()),
        "progress": rekey.map_or(0, |it| it.given.len()),
        "required": from.threshold(),
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": false,
        "verification_nonce": "",
    })
}
