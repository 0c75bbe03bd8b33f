//! Keys of issuers.

use aws_lc_rs::digest::{SHA256, digest};
use bastide_pki::x509::{Bundle, PrivateKey, PublicKey};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use super::Pki;
use super::authority::{Source, key_kind};
use super::issue::draw_key;
use super::shown::{self, Format};
use super::stored::{self, ISSUERS_MAX, Index, KeyEntry, StoredKey};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Longest name of an issuer or key.
const NAME_MAX: usize = 128;

/// Returns what a key is found by.
pub fn fingerprint(key: &PublicKey) -> String {
    HEXLOWER.encode(digest(&SHA256, key.spki()).as_ref())
}

/// Refuses a text that cannot name an issuer or key: it stands in paths, and `default` means another.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name != "default"
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Refuses a name that another key has, or that is none. Empty is no name.
pub fn check_name(index: &Index, name: &str, own: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Ok(());
    }
    if !is_name(name) {
        return Err(Refusal::invalid(
            "key_name must be letters, digits, dots and dashes, and not \"default\"",
        ));
    }
    if index.key(name).is_some_and(|key| key.id != own) {
        return Err(Refusal::invalid("key name already in use"));
    }
    Ok(())
}

impl Pki {
    /// Returns the id of the key that `reference` means.
    pub(super) fn key_id(ctx: &mut Context<'_, '_>, reference: &str) -> Result<String, Refusal> {
        if reference.is_empty() || reference == "default" {
            let id = stored::config(ctx)?.default_key;
            if id.is_empty() {
                return Err(Refusal::invalid("no default key currently configured"));
            }
            return Ok(id);
        }
        let index = stored::index(ctx)?;
        let found = index.key(reference).ok_or_else(|| {
            Refusal::failed(format!("unable to find PKI key for reference: {reference}"))
        })?;
        Ok(found.id.clone())
    }

    /// Keeps a key; returns its id, and whether it was here already.
    pub(super) fn add_key(
        ctx: &mut Context<'_, '_>,
        key: &PrivateKey,
        name: &str,
    ) -> Result<(String, bool), Refusal> {
        let mut index = stored::index(ctx)?;
        let public = fingerprint(key.public());
        if let Some(found) = index.keys.iter().find(|known| known.public == public) {
            return Ok((found.id.clone(), true));
        }
        check_name(&index, name, "")?;
        if ISSUERS_MAX <= index.keys.len() {
            return Err(Refusal::invalid(format!(
                "a mount holds at most {ISSUERS_MAX} keys"
            )));
        }
        let id = ctx.entropy().uuid();
        let pkcs8 = key
            .pkcs8()
            .map_err(|_| Refusal::Internal("key could not be encoded".to_owned()))?;
        let kept = StoredKey {
            id: id.clone(),
            name: name.to_owned(),
            family: key.kind().family().to_owned(),
            pkcs8: BASE64.encode(pkcs8.expose()),
        };
        ctx.save(&format!("key/{id}"), &kept)?;
        index.keys.push(KeyEntry {
            id: id.clone(),
            name: name.to_owned(),
            public,
        });
        ctx.save("index", &index)?;
        let mut config = stored::config(ctx)?;
        if config.default_key.is_empty() {
            config.default_key.clone_from(&id);
            ctx.save("config", &config)?;
        }
        Ok((id, false))
    }

    /// `keys`.
    pub(super) fn list_keys(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let default = stored::config(ctx)?.default_key;
        let index = stored::index(ctx)?;
        if index.keys.is_empty() {
            return Err(Refusal::Absent);
        }
        let ids: Vec<&str> = index.keys.iter().map(|key| key.id.as_str()).collect();
        let info: Map<String, Value> = index
            .keys
            .iter()
            .map(|key| {
                let about = json!({ "key_name": key.name, "is_default": key.id == default });
                (key.id.clone(), about)
            })
            .collect();
        Ok(Answer::json(json!({ "keys": ids, "key_info": info })))
    }

    /// `key/<ref>`.
    pub(super) fn one_key(
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        reference: &str,
    ) -> Result<Answer, Refusal> {
        let id = match Self::key_id(ctx, reference) {
            Err(Refusal::Invalid(_) | Refusal::Failed(_))
                if call.operation == Operation::Delete =>
            {
                return Ok(Answer::done());
            }
            other => other?,
        };
        match call.operation {
            Operation::Read => {
                let key = stored::key(ctx, &id)?;
                let parsed = PrivateKey::from_pkcs8(key.der()?.expose())
                    .map_err(|error| Refusal::corrupt("key", error))?;
                Ok(Answer::json(json!({
                    "key_id": key.id,
                    "key_name": key.name,
                    "key_type": key.family,
                    "subject_key_id": shown::serial(&parsed.public().id()),
                })))
            }
            Operation::Create | Operation::Update | Operation::Patch => {
                let mut index = stored::index(ctx)?;
                let mut key = stored::key(ctx, &id)?;
                if let Some(name) = call.fields().text("key_name")? {
                    check_name(&index, &name, &id)?;
                    for known in &mut index.keys {
                        if known.id == id {
                            known.name.clone_from(&name);
                        }
                    }
                    key.name = name;
                    ctx.save("index", &index)?;
                    ctx.save(&format!("key/{id}"), &key)?;
                }
                Ok(Answer::json(json!({
                    "key_id": key.id,
                    "key_name": key.name,
                    "key_type": key.family,
                })))
            }
            Operation::Delete => {
                let mut index = stored::index(ctx)?;
                if index.issuers.iter().any(|issuer| issuer.key == id) {
                    return Err(Refusal::invalid(
                        "key is in use by an issuer: delete the issuer first",
                    ));
                }
                index.keys.retain(|key| key.id != id);
                ctx.save("index", &index)?;
                ctx.delete(&format!("key/{id}"));
                let mut config = stored::config(ctx)?;
                let mut answer = Answer::done();
                if config.default_key == id {
                    config.default_key.clear();
                    ctx.save("config", &config)?;
                    answer = answer.warn(
                        "Deleted key was the default key; a new default must be chosen with \
                         `config/keys`",
                    );
                }
                Ok(answer)
            }
            Operation::List => Err(Refusal::UnsupportedOperation),
        }
    }

    /// `keys/generate/<source>`.
    pub(super) fn generate_key(
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        source: Source,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        if source == Source::Existing {
            return Err(Refusal::UnsupportedPath);
        }
        let name = fields.text("key_name")?.unwrap_or_default();
        check_name(&stored::index(ctx)?, &name, "")?;
        let key = draw_key(ctx, key_kind(fields)?)?;
        let (id, _) = Self::add_key(ctx, &key, &name)?;
        let mut data = Map::new();
        if source == Source::Exported {
            shown::put_key(&mut data, fields, Format::Pem, &key)?;
            data.remove("private_key_type");
        }
        data.insert("key_id".to_owned(), id.into());
        data.insert("key_name".to_owned(), name.into());
        data.insert("key_type".to_owned(), key.kind().family().into());
        Ok(Answer::data(data))
    }

    /// `keys/import`.
    pub(super) fn import_key(
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let name = fields.text("key_name")?.unwrap_or_default();
        let bundle = Bundle::parse(&fields.required("pem_bundle")?)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let ([key], []) = (bundle.keys.as_slice(), bundle.certificates.as_slice()) else {
            return Err(Refusal::invalid(
                "only a single key can be present within the pem_bundle for importing",
            ));
        };
        let (id, existed) = Self::add_key(ctx, key, &name)?;
        let answer = Answer::json(json!({
            "key_id": id,
            "key_name": stored::key(ctx, &id)?.name,
            "key_type": key.kind().family(),
        }));
        Ok(if existed {
            answer.warn("Key already imported, use key/ endpoint to update name.")
        } else {
            answer
        })
    }
}
