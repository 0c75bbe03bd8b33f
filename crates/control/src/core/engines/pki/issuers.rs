//! Issuers: kept, imported, shown, changed.

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::UnixTime;
use bastide_pki::x509::{Bundle, Certificate, SignatureScheme, pem};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use super::Pki;
use super::keys::{fingerprint, is_name};
use super::memo::Issuer;
use super::shown;
use super::stored::{
    self, Blob, Config, ISSUERS_MAX, Index, IssuerEntry, LeafBehavior, StoredIssuer, Urls, Usage,
};
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, timestamp};
use crate::core::request::Operation;

/// Longest chain.
const CHAIN_MAX: usize = 16;

/// An issuer that is to be kept.
pub struct NewIssuer {
    /// Its id.
    pub id: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its key's id; empty if the key is not here.
    pub key: String,
    /// Its certificate.
    pub certificate: Certificate,
}

/// Refuses a name that another issuer has, or that is none. Empty is no name.
pub fn check_name(index: &Index, name: &str, own: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Ok(());
    }
    if !is_name(name) {
        return Err(Refusal::invalid(
            "issuer_name must be letters, digits, dots and dashes, and not \"default\"",
        ));
    }
    if index.issuer(name).is_some_and(|issuer| issuer.id != own) {
        return Err(Refusal::invalid("issuer name already in use"));
    }
    Ok(())
}

/// Returns the group of an issuer: all issuers of its name and key.
pub fn group_of(certificate: &Certificate) -> String {
    let both = [certificate.subject.as_slice(), certificate.key.spki()].concat();
    HEXLOWER.encode(&digest(&SHA256, &both).as_ref()[..16])
}

/// Returns the places that an issuer's certificates name.
pub fn urls(issuer: &StoredIssuer, config: &Config) -> Urls {
    let mut urls = if issuer.urls.is_empty() {
        config.urls.clone()
    } else {
        issuer.urls.clone()
    };
    if urls.enable_templating {
        for list in [
            &mut urls.issuing_certificates,
            &mut urls.crl_distribution_points,
            &mut urls.delta_crl_distribution_points,
            &mut urls.ocsp_servers,
        ] {
            for url in list.iter_mut() {
                *url = url
                    .replace("{{issuer_id}}", &issuer.id)
                    .replace("{{cluster_path}}", &config.path)
                    .replace("{{cluster_aia_path}}", &config.aia_path);
            }
        }
    }
    urls
}

impl Pki {
    /// Keeps an issuer, finds what is above and below it, and makes its first list.
    pub(super) fn add_issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        new: NewIssuer,
    ) -> Result<(), Refusal> {
        let mut index = stored::index(ctx)?;
        check_name(&index, &new.name, "")?;
        if ISSUERS_MAX <= index.issuers.len() {
            return Err(Refusal::invalid(format!(
                "a mount holds at most {ISSUERS_MAX} issuers"
            )));
        }
        let group = group_of(&new.certificate);
        let issuer = StoredIssuer {
            id: new.id.clone(),
            name: new.name.clone(),
            key: new.key.clone(),
            group: group.clone(),
            certificate: Blob(new.certificate.der().to_vec()),
            ..StoredIssuer::default()
        };
        stored::save_issuer(ctx, &issuer)?;
        index.issuers.push(IssuerEntry {
            id: new.id.clone(),
            name: new.name,
            key: new.key.clone(),
            group: group.clone(),
            serial: shown::serial(&new.certificate.serial),
        });
        ctx.save("index", &index)?;
        let mut config = stored::config(ctx)?;
        let is_wanted = config.follows_latest && !new.key.is_empty();
        if config.default_issuer.is_empty() || is_wanted {
            config.default_issuer.clone_from(&new.id);
            ctx.save("config", &config)?;
        }
        Self::relink(ctx, &index)?;
        self.first_list(ctx, &group)
    }

    /// Finds each issuer's chain anew.
    pub(super) fn relink(ctx: &mut Context<'_, '_>, index: &Index) -> Result<(), Refusal> {
        let mut all = Vec::with_capacity(index.issuers.len());
        for entry in &index.issuers {
            let issuer = stored::issuer(ctx, &entry.id)?;
            let certificate = Certificate::parse(&issuer.certificate.0)
                .map_err(|error| Refusal::corrupt("issuer", error))?;
            all.push((issuer, certificate));
        }
        for at in 0..all.len() {
            let mut chain = vec![all[at].0.id.clone()];
            let mut last = at;
            while chain.len() < CHAIN_MAX && !all[last].1.is_self_signed() {
                let above = all.iter().position(|(issuer, certificate)| {
                    !chain.contains(&issuer.id) && all[last].1.is_signed_by(certificate)
                });
                let Some(above) = above else { break };
                chain.push(all[above].0.id.clone());
                last = above;
            }
            if all[at].0.chain != chain {
                all[at].0.chain = chain;
                stored::save_issuer(ctx, &all[at].0)?;
            }
        }
        Ok(())
    }

    /// `config/ca`, `issuers/import/*`, `intermediate/set-signed`.
    pub(super) fn import(
        &self,
        ctx: &mut Context<'_, '_>,
        text: &str,
        with_keys: bool,
    ) -> Result<Answer, Refusal> {
        let bundle = Bundle::parse(text).map_err(|error| Refusal::invalid(error.to_string()))?;
        if !with_keys && !bundle.keys.is_empty() {
            return Err(Refusal::invalid(
                "private keys found in the PEM bundle but not allowed by the path; use \
                 /issuers/import/bundle",
            ));
        }
        let (mut new_keys, mut old_keys) = (Vec::new(), Vec::new());
        for key in &bundle.keys {
            let (id, existed) = Self::add_key(ctx, key, "")?;
            if existed {
                old_keys.push(id);
            } else {
                new_keys.push(id);
            }
        }
        let (mut new_issuers, mut old_issuers) = (Vec::new(), Vec::new());
        let mut mapping = Map::new();
        for certificate in bundle.certificates {
            if certificate.authority.is_none() {
                return Err(Refusal::invalid(
                    "unable to import a certificate that is not a CA's: its basic constraints do \
                     not say so",
                ));
            }
            let index = stored::index(ctx)?;
            let mut known = None;
            for entry in &index.issuers {
                if stored::issuer(ctx, &entry.id)?.certificate.0 == certificate.der() {
                    known = Some(entry.id.clone());
                }
            }
            if let Some(id) = known {
                old_issuers.push(id);
                continue;
            }
            let public = fingerprint(&certificate.key);
            let key = index.keys.iter().find(|key| key.public == public);
            let key = key.map(|key| key.id.clone()).unwrap_or_default();
            let id = ctx.entropy().uuid();
            self.add_issuer(
                ctx,
                NewIssuer {
                    id: id.clone(),
                    name: String::new(),
                    key: key.clone(),
                    certificate,
                },
            )?;
            mapping.insert(id.clone(), key.into());
            new_issuers.push(id);
        }
        self.adopt_keys(ctx, &mut mapping, &old_issuers)?;
        // Of several that came at once, the one that can sign is meant where none is named.
        let mut config = stored::config(ctx)?;
        let index = stored::index(ctx)?;
        let can_sign = |id: &str| index.issuer(id).is_some_and(|it| !it.key.is_empty());
        if !can_sign(&config.default_issuer)
            && let Some(id) = new_issuers.iter().find(|id| can_sign(id))
            && new_issuers.contains(&config.default_issuer)
        {
            config.default_issuer.clone_from(id);
            ctx.save("config", &config)?;
        }
        let or_null = |list: Vec<String>| {
            if list.is_empty() {
                Value::Null
            } else {
                json!(list)
            }
        };
        Ok(Answer::json(json!({
            "imported_issuers": or_null(new_issuers),
            "imported_keys": or_null(new_keys),
            "existing_issuers": or_null(old_issuers),
            "existing_keys": or_null(old_keys),
            "mapping": mapping,
        })))
    }

    /// Gives issuers whose key came later their key.
    fn adopt_keys(
        &self,
        ctx: &mut Context<'_, '_>,
        mapping: &mut Map<String, Value>,
        known: &[String],
    ) -> Result<(), Refusal> {
        let mut index = stored::index(ctx)?;
        let keys = index.keys.clone();
        let mut groups = Vec::new();
        for entry in &mut index.issuers {
            if entry.key.is_empty() {
                let mut issuer = stored::issuer(ctx, &entry.id)?;
                let certificate = Certificate::parse(&issuer.certificate.0)
                    .map_err(|error| Refusal::corrupt("issuer", error))?;
                let public = fingerprint(&certificate.key);
                if let Some(key) = keys.iter().find(|key| key.public == public) {
                    entry.key.clone_from(&key.id);
                    issuer.key.clone_from(&key.id);
                    stored::save_issuer(ctx, &issuer)?;
                    groups.push(entry.group.clone());
                }
            }
            if known.contains(&entry.id) || mapping.contains_key(&entry.id) {
                mapping.insert(entry.id.clone(), entry.key.clone().into());
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        ctx.save("index", &index)?;
        groups
            .iter()
            .try_for_each(|group| self.first_list(ctx, group))
    }

    /// `issuers`.
    pub(super) fn list_issuers(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let default = stored::config(ctx)?.default_issuer;
        let index = stored::index(ctx)?;
        if index.issuers.is_empty() {
            return Err(Refusal::Absent);
        }
        let ids: Vec<&str> = index.issuers.iter().map(|it| it.id.as_str()).collect();
        let info: Map<String, Value> = index
            .issuers
            .iter()
            .map(|issuer| {
                let about = json!({
                    "issuer_name": issuer.name,
                    "is_default": issuer.id == default,
                    "key_id": issuer.key,
                    "serial_number": issuer.serial,
                });
                (issuer.id.clone(), about)
            })
            .collect();
        Ok(Answer::json(json!({ "keys": ids, "key_info": info })))
    }

    /// `issuer/<ref>`.
    pub(super) fn one_issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        reference: &str,
    ) -> Result<Answer, Refusal> {
        match call.operation {
            Operation::Read => Ok(Answer::data(about(&*self.memory.issuer(ctx, reference)?))),
            Operation::Create | Operation::Update | Operation::Patch => {
                let id = self.memory.issuer_id(ctx, reference)?;
                let mut issuer = stored::issuer(ctx, &id)?;
                self.change(ctx, call.fields(), &mut issuer)?;
                stored::save_issuer(ctx, &issuer)?;
                Ok(Answer::data(about(&*self.memory.issuer(ctx, &id)?)))
            }
            Operation::Delete => {
                let id = match self.memory.issuer_id(ctx, reference) {
                    Err(Refusal::Invalid(_) | Refusal::Failed(_)) => return Ok(Answer::done()),
                    other => other?,
                };
                Self::delete_issuer(ctx, &id)
            }
            Operation::List => Err(Refusal::UnsupportedOperation),
        }
    }

    pub(super) fn delete_issuer(ctx: &mut Context<'_, '_>, id: &str) -> Result<Answer, Refusal> {
        let mut index = stored::index(ctx)?;
        index.issuers.retain(|issuer| issuer.id != id);
        ctx.save("index", &index)?;
        ctx.delete(&format!("issuer/{id}"));
        Self::relink(ctx, &index)?;
        let mut config = stored::config(ctx)?;
        if config.default_issuer != id {
            return Ok(Answer::done());
        }
        config.default_issuer.clear();
        ctx.save("config", &config)?;
        Ok(Answer::done().warn(format!(
            "Deleted issuer {id} (via issuer_ref default); this was configured as the default \
             issuer. Operations without an explicit issuer will not work until a new default is \
             configured."
        )))
    }

    fn change(
        &self,
        ctx: &mut Context<'_, '_>,
        fields: Fields<'_>,
        issuer: &mut StoredIssuer,
    ) -> Result<(), Refusal> {
        if let Some(name) = fields.text("issuer_name")? {
            let mut index = stored::index(ctx)?;
            check_name(&index, &name, &issuer.id)?;
            for entry in &mut index.issuers {
                if entry.id == issuer.id {
                    entry.name.clone_from(&name);
                }
            }
            ctx.save("index", &index)?;
            issuer.name = name;
        }
        if let Some(text) = fields.text("leaf_not_after_behavior")? {
            issuer.leaf_behavior = match text.as_str() {
                "err" | "always_enforce_err" => LeafBehavior::Err,
                "truncate" => LeafBehavior::Truncate,
                "permit" => LeafBehavior::Permit,
                _ => {
                    return Err(Refusal::invalid(
                        "unknown value for field `leaf_not_after_behavior`. Possible values are \
                         `err`, `truncate`, and `permit`.",
                    ));
                }
            };
        }
        if let Some(words) = fields.list("usage")? {
            let mut usage = 0;
            for word in &words {
                let known = Usage::WORDS.iter().find(|(_, known)| known == word);
                usage |= known
                    .ok_or_else(|| Refusal::invalid(format!("unknown usage for issuer: {word}")))?
                    .0;
            }
            // A revoked issuer issues nothing, whatever is wished.
            if issuer.revoked.is_some() {
                usage &= !Usage::ISSUE;
            }
            issuer.usage = Usage(usage | Usage::READ);
        }
        if let Some(references) = fields.list("manual_chain")? {
            let mut ids = Vec::new();
            for reference in references {
                ids.push(if reference == "self" {
                    issuer.id.clone()
                } else {
                    self.memory.issuer_id(ctx, &reference)?
                });
            }
            if !ids.is_empty() && ids.first() != Some(&issuer.id) {
                return Err(Refusal::invalid(
                    "manual_chain must begin with the issuer itself",
                ));
            }
            issuer.manual_chain = ids;
        }
        if let Some(name) = fields.text("revocation_signature_algorithm")? {
            let key = Certificate::parse(&issuer.certificate.0)
                .map_err(|error| Refusal::corrupt("issuer", error))?
                .key;
            let fits = |scheme: &SignatureScheme| {
                scheme.name().eq_ignore_ascii_case(&name)
                    && [0, 384, 512].iter().any(|bits| {
                        key.kind().scheme(*bits, false) == *scheme
                            || key.kind().scheme(*bits, true) == *scheme
                    })
            };
            issuer.revocation_scheme = if name.is_empty() {
                String::new()
            } else {
                let scheme = SignatureScheme::ALL.iter().find(|scheme| fits(scheme));
                let scheme = scheme.ok_or_else(|| {
                    Refusal::invalid(format!(
                        "revocation_signature_algorithm {name} does not fit the issuer's key"
                    ))
                })?;
                scheme.name().to_owned()
            };
        }
        super::config::take_urls(fields, &mut issuer.urls, "enable_aia_url_templating")
    }

    /// `root/replace`, `config/issuers`.
    pub(super) fn default_issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        usual: Option<&str>,
    ) -> Result<Answer, Refusal> {
        if call.operation != Operation::Read {
            let fields = call.fields();
            let wanted = fields.text("default")?.or_else(|| usual.map(str::to_owned));
            let mut config = stored::config(ctx)?;
            if let Some(reference) = wanted.filter(|text| !text.is_empty()) {
                if reference == "default" {
                    return Err(Refusal::invalid("default cannot name itself"));
                }
                config.default_issuer = self.memory.issuer_id(ctx, &reference)?;
            }
            if let Some(follows) = fields.flag("default_follows_latest_issuer")? {
                config.follows_latest = follows;
            }
            ctx.save("config", &config)?;
        }
        let config = stored::config(ctx)?;
        Ok(Answer::json(json!({
            "default": config.default_issuer,
            "default_follows_latest_issuer": config.follows_latest,
        })))
    }

    /// DELETE `root`: all issuers and keys.
    pub(super) fn delete_root(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
        let index = stored::index(ctx)?;
        for issuer in &index.issuers {
            ctx.delete(&format!("issuer/{}", issuer.id));
        }
        for key in &index.keys {
            ctx.delete(&format!("key/{}", key.id));
        }
        ctx.delete("index");
        let mut config = stored::config(ctx)?;
        config.default_issuer.clear();
        config.default_key.clear();
        ctx.save("config", &config)?;
        Ok(Answer::done())
    }

    /// `issuer/<ref>/revoke`: it issues nothing more, and stands on the list of the issuer above it.
    pub(super) fn revoke_issuer(
        &self,
        ctx: &mut Context<'_, '_>,
        reference: &str,
    ) -> Result<Answer, Refusal> {
        let id = self.memory.issuer_id(ctx, reference)?;
        let issuer = self.memory.issuer(ctx, &id)?;
        if issuer.stored.revoked.is_none() {
            let mut stored = issuer.stored.clone();
            let now = ctx.now();
            stored.revoked = Some(now);
            stored.usage = Usage(stored.usage.0 & !Usage::ISSUE);
            stored::save_issuer(ctx, &stored)?;
            // Its own list does not name it: who trusts the list trusts the issuer.
            if !issuer.certificate.is_self_signed()
                && let Some(above) = issuer.stored.chain.get(1)
            {
                let group = stored::issuer(ctx, above)?.group;
                let serial = issuer.certificate.serial.clone();
                let expires = issuer.certificate.not_after;
                Self::note_revoked(ctx, &group, &serial, now, expires)?;
            }
        }
        Ok(Answer::data(about(&*self.memory.issuer(ctx, &id)?)))
    }
}

/// What is shown of an issuer.
fn about(issuer: &Issuer) -> Map<String, Value> {
    let stored = &issuer.stored;
    let words: Vec<&str> = Usage::WORDS
        .iter()
        .filter(|(bit, _)| stored.usage.has(*bit))
        .map(|(_, word)| *word)
        .collect();
    let mut shown = json!({
        "issuer_id": stored.id,
        "issuer_name": stored.name,
        "key_id": stored.key,
        "certificate": pem("CERTIFICATE", issuer.certificate.der()),
        "ca_chain": issuer.chain_pem,
        "manual_chain": if stored.manual_chain.is_empty() {
            Value::Null
        } else {
            json!(stored.manual_chain)
        },
        "leaf_not_after_behavior": stored.leaf_behavior.as_str(),
        "usage": words.join(","),
        "revocation_signature_algorithm": stored.revocation_scheme,
        "revoked": stored.revoked.is_some(),
        "issuing_certificates": stored.urls.issuing_certificates,
        "crl_distribution_points": stored.urls.crl_distribution_points,
        "delta_crl_distribution_points": stored.urls.delta_crl_distribution_points,
        "ocsp_servers": stored.urls.ocsp_servers,
        "enable_aia_url_templating": stored.urls.enable_templating,
        "serial_number": shown::serial(&issuer.certificate.serial),
    });
    if let (Some(at), Some(shown)) = (stored.revoked, shown.as_object_mut()) {
        put_revoked(shown, at);
    }
    match shown {
        Value::Object(shown) => shown,
        _ => unreachable!("made as an object"),
    }
}

/// Says when something was revoked.
pub fn put_revoked(data: &mut Map<String, Value>, at: UnixTime) {
    data.insert("revocation_time".to_owned(), at.as_secs().into());
    data.insert("revocation_time_rfc3339".to_owned(), timestamp(at).into());
}
