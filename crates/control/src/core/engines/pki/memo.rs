//! Parsed things, remembered by what they were parsed of: a key is read once, not for each request.
//!
//! What is remembered is found under its place in the store and the digest of what stands there, so that
//! nothing old is ever used: a decision reads the store first, as if nothing were remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use bastide_pki::x509::{Certificate, PrivateKey, San, SignatureScheme, pem};

use super::constraint::{self, Bound};
use super::role::Compiled;
use super::stored::{Config, StoredIssuer, Urls, Usage};
use crate::core::engine::Context;
use crate::core::refusal::Refusal;

/// Most things of one kind that are remembered; then all are forgotten.
const MEMO_MAX: usize = 2048;

/// What is remembered of one kind, by its place.
pub struct Memo<T>(Mutex<BTreeMap<Vec<u8>, Known<T>>>);

/// A thing, and the digest of what it was made of.
struct Known<T> {
    sum: [u8; 32],
    made: Arc<T>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Memo<T> {
    /// Returns what stands at the mount's key `at`, made by `make` unless it is known; `None` if
    /// nothing stands there.
    pub fn of(
        &self,
        ctx: &mut Context<'_, '_>,
        at: &str,
        make: impl FnOnce(&mut Context<'_, '_>, &[u8]) -> Result<T, Refusal>,
    ) -> Result<Option<Arc<T>>, Refusal> {
        let Some(text) = ctx.get(at)? else {
            return Ok(None);
        };
        let sum: [u8; 32] = digest(&SHA256, text.expose())
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        let place = [&ctx.mount.id.0, at.as_bytes()].concat();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&place)
            && found.sum == sum
        {
            return Ok(Some(Arc::clone(&found.made)));
        }
        drop(known);
        let made = Arc::new(make(ctx, text.expose())?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if MEMO_MAX <= known.len() {
            known.clear();
        }
        let made_now = Arc::clone(&made);
        known.insert(
            place,
            Known {
                sum,
                made: made_now,
            },
        );
        Ok(Some(made))
    }
}

/// Everything that the engine remembers.
#[derive(Default)]
pub struct Memory {
    configs: Memo<Config>,
    issuers: Memo<Issuer>,
    roles: Memo<Compiled>,
}

/// An issuer, ready to sign.
pub struct Issuer {
    /// As it is stored.
    pub stored: StoredIssuer,
    /// Its certificate.
    pub certificate: Certificate,
    /// Its key, if it is here.
    pub key: Option<PrivateKey>,
    /// How it signs lists and answers.
    pub revocation_scheme: Option<SignatureScheme>,
    /// Its certificate in PEM.
    pub pem: String,
    /// The certificates from itself up, in DER, and whether each is a root.
    pub chain: Vec<(Vec<u8>, bool)>,
    /// The same in PEM.
    pub chain_pem: Vec<String>,
    /// What it and those above it may certify, as far as their certificates say.
    bounds: Vec<Bound>,
}

impl Issuer {
    fn load(ctx: &mut Context<'_, '_>, text: &[u8]) -> Result<Self, Refusal> {
        let stored: StoredIssuer =
            serde_json::from_slice(text).map_err(|error| Refusal::corrupt("issuer", error))?;
        let certificate = Certificate::parse(&stored.certificate.0)
            .map_err(|error| Refusal::corrupt("issuer", error))?;
        let key = if stored.key.is_empty() {
            None
        } else {
            let key = super::stored::key(ctx, &stored.key)?.der()?;
            let key = PrivateKey::from_pkcs8(key.expose());
            Some(key.map_err(|error| Refusal::corrupt("key", error))?)
        };
        let ids = if stored.manual_chain.is_empty() {
            &stored.chain
        } else {
            &stored.manual_chain
        };
        let mut chain = Vec::new();
        for id in ids {
            if *id == stored.id {
                chain.push((stored.certificate.0.clone(), certificate.is_self_signed()));
            } else if let Some(above) = ctx.load::<StoredIssuer>(&format!("issuer/{id}"))? {
                let der = above.certificate.0;
                let is_root = Certificate::parse(&der).is_ok_and(|it| it.is_self_signed());
                chain.push((der, is_root));
            }
        }
        let revocation_scheme = key.as_ref().map(|key| {
            let by_name = SignatureScheme::ALL
                .into_iter()
                .find(|scheme| scheme.name() == stored.revocation_scheme);
            by_name.unwrap_or_else(|| key.kind().scheme(0, false))
        });
        let bounds = Self::bounds(ctx, &stored, &certificate)?;
        Ok(Self {
            pem: pem("CERTIFICATE", certificate.der()),
            chain_pem: chain
                .iter()
                .map(|(der, _)| pem("CERTIFICATE", der))
                .collect(),
            chain,
            revocation_scheme,
            key,
            certificate,
            bounds,
            stored,
        })
    }

    /// Finds what this issuer and those above it may certify. The certificate above each is the first
    /// that signed it: of the chain that an operator wrote, or else of the one that was found. A
    /// written one that leaves issuers out changes nothing for those who check certificates.
    fn bounds(
        ctx: &mut Context<'_, '_>,
        stored: &StoredIssuer,
        certificate: &Certificate,
    ) -> Result<Vec<Bound>, Refusal> {
        let mut above = Vec::new();
        for id in stored.manual_chain.iter().chain(&stored.chain) {
            if *id != stored.id
                && let Some(issuer) = ctx.load::<StoredIssuer>(&format!("issuer/{id}"))?
            {
                let certificate = Certificate::parse(&issuer.certificate.0)
                    .map_err(|error| Refusal::corrupt("issuer", error))?;
                above.push((issuer, certificate));
            }
        }
        let mut bounds = Vec::new();
        let (mut stored, mut certificate) = (stored, certificate);
        let mut seen = Vec::new();
        loop {
            let constraints = certificate.constraints().transpose();
            bounds.extend(constraints.map(|constraints| Bound {
                issuer: stored.called().to_owned(),
                constraints: constraints.ok(),
            }));
            seen.push(&stored.id);
            let next = above.iter().find(|(issuer, theirs)| {
                !seen.contains(&&issuer.id) && certificate.is_signed_by(theirs)
            });
            match next {
                Some((issuer, theirs)) if !certificate.is_self_signed() => {
                    (stored, certificate) = (issuer, theirs);
                }
                _ => return Ok(bounds),
            }
        }
    }

    /// Refuses names that this issuer, or one above it, is not to certify.
    pub fn check_names(&self, subject: &[u8], names: &[San]) -> Result<(), Refusal> {
        constraint::judge(&self.bounds, subject, names)
    }

    /// Returns whether anything limits which names it may certify.
    pub fn is_bound(&self) -> bool {
        !self.bounds.is_empty()
    }

    /// Returns the key, if this issuer may be used so.
    pub fn key_for(&self, usage: u8) -> Result<&PrivateKey, Refusal> {
        let key = self.key.as_ref().ok_or_else(|| {
            Refusal::invalid(format!(
                "issuer {} has no key here: import it with `issuers/import/bundle`",
                self.stored.id
            ))
        })?;
        if usage == Usage::ISSUE && self.stored.revoked.is_some() {
            return Err(Refusal::invalid(format!(
                "issuer {} is revoked and issues no certificates",
                self.stored.id
            )));
        }
        if !self.stored.usage.has(usage) {
            let words = Usage::WORDS.iter().find(|(bit, _)| *bit == usage);
            let word = words.map_or("this", |(_, word)| word);
            return Err(Refusal::invalid(format!(
                "issuer with identifier {} is not allowed to be used for {word}: its `usage` says so",
                self.stored.id
            )));
        }
        Ok(key)
    }

    /// Returns the places that its certificates name.
    pub fn urls(&self, config: &Config) -> Urls {
        super::issuers::urls(&self.stored, config)
    }
}

impl Memory {
    /// Returns the settings.
    pub fn config(&self, ctx: &mut Context<'_, '_>) -> Result<Arc<Config>, Refusal> {
        let found = self.configs.of(ctx, "config", |_, text| {
            serde_json::from_slice(text).map_err(|error| Refusal::corrupt("settings", error))
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Returns the issuer of this id.
    pub fn issuer_of(
        &self,
        ctx: &mut Context<'_, '_>,
        id: &str,
    ) -> Result<Option<Arc<Issuer>>, Refusal> {
        self.issuers.of(ctx, &format!("issuer/{id}"), Issuer::load)
    }

    /// Returns the issuer that `reference` means: `default`, an id, or a name.
    pub fn issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
    ) -> Result<Arc<Issuer>, Refusal> {
        let id = self.issuer_id(ctx, reference)?;
        self.issuer_of(ctx, &id)?
            .ok_or_else(|| Refusal::corrupt("index", "it names an issuer that is not there"))
    }

    /// Returns the id of the issuer that `reference` means.
    pub fn issuer_id(&self, ctx: &mut Context<'_, '_>, reference: &str) -> Result<String, Refusal> {
        if reference.is_empty() || reference == "default" {
            let config = self.config(ctx)?;
            if config.default_issuer.is_empty() {
                return Err(Refusal::invalid(
                    "error fetching CA certificate: no default issuer currently configured",
                ));
            }
            return Ok(config.default_issuer.clone());
        }
        let index = super::stored::index(ctx)?;
        let found = index.issuer(reference).ok_or_else(|| {
            // Status 500, which clients of Vault match on.
            Refusal::failed(format!(
                "unable to find PKI issuer for reference: {reference}"
            ))
        })?;
        Ok(found.id.clone())
    }

    /// Returns a role; `None` if there is none of this name.
    pub fn role(
        &self,
        ctx: &mut Context<'_, '_>,
        name: &str,
    ) -> Result<Option<Arc<Compiled>>, Refusal> {
        self.roles
            .of(ctx, &format!("role/{name}"), |_, text| Compiled::load(text))
    }
}
