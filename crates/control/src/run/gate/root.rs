//! A root token for those who hold enough shares, when no other is left.

use bastide_api::Secret;
use bastide_store::Sharing;
use data_encoding::BASE64_NOPAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::GateError;
use super::ceremony::{Ask, Told};
use super::gather::Gathering;
use super::keeper::Keeper;
use crate::core::engines::sys::keys::ROOT_TOKEN_BYTES;
use crate::core::reply::Asker;
use crate::core::request::Operation;
use crate::run::plane::letters;

/// A root token that is on its way.
pub(super) struct Root {
    given: Gathering,
    otp: Secret<String>,
}

impl Keeper {
    pub(super) async fn root(
        &mut self,
        from: Sharing,
        ask: Ask,
        by: Asker,
    ) -> Result<Told, GateError> {
        match ask {
            Ask::Look => Ok(Told::Json(progress(self.root.as_ref(), from))),
            Ask::Cancel { nonce } => {
                if let Some(root) = &self.root {
                    root.given.let_end(by, &nonce)?;
                }
                self.root = None;
                Ok(Told::Done)
            }
            Ask::BeginRoot { .. } if self.root.is_some() => Err(GateError::RootBegun),
            Ask::BeginRoot { otp } => {
                let is_drawn = otp.is_none();
                let otp = otp.unwrap_or_else(|| letters(ROOT_TOKEN_BYTES));
                if otp.expose().len() != ROOT_TOKEN_BYTES {
                    return Err(GateError::OtpLength);
                }
                let root = Root {
                    given: Gathering::new(),
                    otp,
                };
                let mut told = progress(Some(&root), from);
                if is_drawn {
                    told["otp"] = root.otp.expose().as_str().into();
                }
                self.root = Some(root);
                Ok(Told::Json(told))
            }
            Ask::Give { share, nonce } => {
                let root = self.root.as_mut().ok_or(GateError::NoRoot)?;
                let Some(shares) = root.given.give(share, &nonce, from)? else {
                    return Ok(Told::Json(progress(self.root.as_ref(), from)));
                };
                self.proven(from, &shares)?;
                self.finish_root(from).await
            }
            Ask::BeginRekey { .. } => Err(GateError::NoRoot),
        }
    }

    async fn finish_root(&mut self, from: Sharing) -> Result<Told, GateError> {
        let server = self.server.as_ref().ok_or(GateError::Sealed)?;
        let made = server
            .plane()
            .ask(
                Operation::Update,
                "sys/generate-root/token",
                serde_json::Map::new(),
            )
            .await
            .map_err(|refusal| GateError::Failed(format!("no root token was made: {refusal}")))?;
        let data = made.data.unwrap_or_default();
        let token = data
            .get("token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let root = self.root.take().ok_or(GateError::NoRoot)?;
        let pairs = token.bytes().zip(root.otp.expose().bytes());
        let mixed: Zeroizing<Vec<u8>> =
            Zeroizing::new(pairs.map(|(one, other)| one ^ other).collect());
        let mut told = progress(Some(&root), from);
        told["progress"] = from.threshold().into();
        told["complete"] = true.into();
        let encoded = BASE64_NOPAD.encode(&mixed);
        told["encoded_token"] = encoded.as_str().into();
        told["encoded_root_token"] = encoded.into();
        tracing::warn!("a root token was made for holders of shares");
        Ok(Told::Json(told))
    }
}

fn progress(root: Option<&Root>, from: Sharing) -> Value {
    json!({
        "nonce": root.map_or("", |it| it.given.nonce()),
        "started": root.is_some(),
        "progress": root.map_or(0, |it| it.given.progress()),
        "required": from.threshold(),
        "complete": false,
        "encoded_token": "",
        "encoded_root_token": "",
        "pgp_fingerprint": "",
        "otp": "",
        "otp_length": ROOT_TOKEN_BYTES,
    })
}
