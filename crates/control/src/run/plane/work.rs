//! Slow work that a decision waits for, on a pool or with others of the network.

use super::Plane;
use crate::core::audit::devices::Target;
use crate::core::draft::WorkResult;
use crate::core::refusal::{PASSWORD_COST, Refusal, Work};
use crate::run::audit_remote;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use bastide_api::Secret;

impl Plane {
    pub(super) async fn work(&self, work: Work) -> Result<WorkResult, Refusal> {
        if let Work::AuditDevice { target } = work {
            return probe(target).await;
        }
        if let Work::Directory(question) = work {
            let asked = self.0.directories.ask(*question, &self.0.clock);
            return asked.await.map(WorkResult);
        }
        if let Work::Fetch(fetch) = work {
            return self
                .0
                .fetcher
                .fetch(*fetch, &self.0.clock)
                .await
                .map(WorkResult);
        }
        let busy = || Refusal::Unavailable("too many logins wait".to_owned());
        let _place = self.0.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.0.passwords.acquire().await.map_err(|_| busy())?;
        let result = tokio::task::spawn_blocking(move || match work {
            Work::Password { password, salt } => Ok(password_key(&password, &salt)),
            Work::RsaKey { bits } => rsa_key(bits),
            Work::AuditDevice { .. } | Work::Fetch(_) | Work::Directory(_) => {
                Err(Refusal::Internal("no work of the pool".to_owned()))
            }
        });
        let key = result
            .await
            .map_err(|error| Refusal::Internal(error.to_string()))??;
        Ok(WorkResult(key))
    }
}

/// Finds out whether an audit device takes lines.
async fn probe(target: Target) -> Result<WorkResult, Refusal> {
    let probed = tokio::task::spawn_blocking(move || audit_remote::probe(&target)).await;
    let probed = probed.map_err(|error| Refusal::Internal(error.to_string()))?;
    let trouble = probed.err().unwrap_or_default();
    Ok(WorkResult(Secret::new(trouble.into_bytes())))
}

/// Makes an RSA key of one of the lengths of [`crate::core::refusal::RSA_BITS`], as PKCS #8 in DER.
pub(crate) fn rsa_key(bits: u32) -> Result<Secret<Vec<u8>>, Refusal> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        _ => return Err(Refusal::invalid(format!("no RSA keys of {bits} bits"))),
    };
    let failed = |_| Refusal::Internal("could not make an RSA key".to_owned());
    let pair = rsa::KeyPair::generate(size).map_err(failed)?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(failed)?;
    Ok(Secret::new(der.as_ref().to_vec()))
}

fn password_key(password: &Secret<Vec<u8>>, salt: &[u8; 16]) -> Secret<Vec<u8>> {
    let (memory, passes, lanes) = PASSWORD_COST;
    let params = Params::new(memory, passes, lanes, Some(32)).expect("the cost is constant");
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = vec![0; 32];
    hasher
        .hash_password_into(password.expose(), salt, &mut key)
        .expect("passwords are shorter than Argon2's limit, and the salt has 16 bytes");
    Secret::new(key)
}
