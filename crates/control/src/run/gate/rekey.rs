//! Other shares in place of those that people hold.

use bastide_store::{Barrier, ShamirSeal, Sharing};
use serde_json::{Value, json};

use super::GateError;
use super::ceremony::{Ask, Told, keys};
use super::gather::Gathering;
use super::keeper::{Keeper, failed_to};
use crate::core::reply::Asker;

/// A change of shares that has begun.
pub(super) struct Rekey {
    to: Sharing,
    verify: bool,
    old: Gathering,
    /// New shares that were given out, and open nothing before enough of them were shown.
    made: Option<Made>,
}

struct Made {
    seal: ShamirSeal,
    shown: Gathering,
}

impl Keeper {
    pub(super) fn rekey(&mut self, from: Sharing, ask: Ask, by: Asker) -> Result<Told, GateError> {
        match ask {
            Ask::Look => Ok(Told::Json(progress(self.rekey.as_ref(), from))),
            Ask::Cancel { nonce } => {
                if let Some(rekey) = &self.rekey {
                    rekey.old.let_end(by, &nonce)?;
                }
                self.rekey = None;
                Ok(Told::Done)
            }
            Ask::BeginRekey { .. } if self.rekey.is_some() => Err(GateError::RekeyBegun),
            Ask::BeginRekey { to, verify } => {
                self.rekey = Some(Rekey {
                    to,
                    verify,
                    old: Gathering::new(),
                    made: None,
                });
                Ok(Told::Json(progress(self.rekey.as_ref(), from)))
            }
            Ask::Give { share, nonce } => {
                let rekey = self.rekey.as_mut().ok_or(GateError::NoRekey)?;
                if rekey.made.is_some() {
                    return Err(GateError::Unverified);
                }
                match rekey.old.give(share, &nonce, from)? {
                    None => Ok(Told::Json(progress(self.rekey.as_ref(), from))),
                    Some(shares) => {
                        self.proven(from, &shares)?;
                        self.make()
                    }
                }
            }
            Ask::BeginRoot { .. } => Err(GateError::NoRekey),
        }
    }

    /// Makes the new shares. Unless they are to be verified, the old ones open nothing from now on.
    fn make(&mut self) -> Result<Told, GateError> {
        let mut rekey = self.rekey.take().ok_or(GateError::NoRekey)?;
        let (seal, shares) = ShamirSeal::split(rekey.to);
        let shown = Gathering::new();
        let (hex, base64) = keys(&shares);
        let told = json!({
            "nonce": rekey.old.nonce(),
            "complete": true,
            "keys": hex,
            "keys_base64": base64,
            "pgp_fingerprints": null,
            "backup": false,
            "verification_required": rekey.verify,
            "verification_nonce": if rekey.verify { shown.nonce() } else { "" },
        });
        if rekey.verify {
            rekey.made = Some(Made { seal, shown });
            self.rekey = Some(rekey);
        } else {
            self.put_in_place(rekey.to, &seal)?;
        }
        Ok(Told::Json(told))
    }

    fn put_in_place(&mut self, to: Sharing, seal: &ShamirSeal) -> Result<(), GateError> {
        let server = self.server.as_ref().ok_or(GateError::Sealed)?;
        Barrier::reseal(&*self.store, server.plane().barrier(), seal)
            .map_err(|error| failed_to(&error, "seal the store anew"))?;
        self.set_sharing(to);
        tracing::warn!(
            threshold = to.threshold(),
            shares = to.shares(),
            "other shares open the server from now on"
        );
        Ok(())
    }

    /// The new shares are shown: only then do they take the old ones' place.
    pub(super) fn verify(&mut self, ask: Ask, by: Asker) -> Result<Told, GateError> {
        let rekey = self.rekey.as_mut().ok_or(GateError::NoRekey)?;
        let to = rekey.to;
        let made = rekey.made.as_mut().ok_or(GateError::NoVerification)?;
        match ask {
            Ask::Look => Ok(Told::Json(shown(made, to))),
            Ask::Cancel { nonce } => {
                made.shown.let_end(by, &nonce)?;
                made.shown = Gathering::new();
                Ok(Told::Json(shown(made, to)))
            }
            Ask::Give { share, nonce } => {
                let Some(shares) = made.shown.give(share, &nonce, to)? else {
                    return Ok(Told::Json(shown(made, to)));
                };
                let found = ShamirSeal::combine(to, &shares);
                if !found.is_ok_and(|found| found.is_same(&made.seal)) {
                    return Err(GateError::NotVerified);
                }
                let rekey = self.rekey.take().ok_or(GateError::NoRekey)?;
                let made = rekey.made.ok_or(GateError::NoVerification)?;
                self.put_in_place(to, &made.seal)?;
                Ok(Told::Json(
                    json!({ "nonce": made.shown.nonce(), "complete": true }),
                ))
            }
            Ask::BeginRekey { .. } | Ask::BeginRoot { .. } => Err(GateError::NoVerification),
        }
    }
}

fn shown(made: &Made, to: Sharing) -> Value {
    json!({
        "nonce": made.shown.nonce(),
        "started": true,
        "t": to.threshold(),
        "n": to.shares(),
        "progress": made.shown.progress(),
    })
}

fn progress(rekey: Option<&Rekey>, from: Sharing) -> Value {
    let shown = rekey.and_then(|rekey| rekey.made.as_ref());
    json!({
        "nonce": rekey.map_or("", |it| it.old.nonce()),
        "started": rekey.is_some(),
        "t": rekey.map_or(0, |it| it.to.threshold()),
        "n": rekey.map_or(0, |it| it.to.shares()),
        "progress": rekey.map_or(0, |it| it.old.progress()),
        "required": from.threshold(),
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": rekey.is_some_and(|it| it.verify),
        "verification_nonce": shown.map_or("", |made| made.shown.nonce()),
    })
}
