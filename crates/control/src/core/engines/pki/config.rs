//! Settings of a mount.

use bastide_pki::x509::BUNDLE_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::Pki;
use super::stored::{self, Config, CrlConfig, TidyWhat, Urls};
use crate::core::engine::{Call, Context};
use crate::core::fields::{Fields, go_duration};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

/// Most places of one kind.
const URLS_MAX: usize = 16;
/// Longest place.
const URL_BYTES_MAX: usize = 2048;

/// Takes in the places that are given.
pub fn take_urls(fields: Fields<'_>, urls: &mut Urls, templating: &str) -> Result<(), Refusal> {
    if let Some(flag) = fields.flag(templating)? {
        urls.enable_templating = flag;
    }
    let is_template = urls.enable_templating;
    for (field, name) in [
        (&mut urls.issuing_certificates, "issuing_certificates"),
        (&mut urls.crl_distribution_points, "crl_distribution_points"),
        (
            &mut urls.delta_crl_distribution_points,
            "delta_crl_distribution_points",
        ),
        (&mut urls.ocsp_servers, "ocsp_servers"),
    ] {
        if let Some(list) = fields.list(name)? {
            let is_url = |url: &String| {
                let rest = url.split_once("://").map(|(_, rest)| rest);
                let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
                let is_whole = rest.is_some_and(|rest| !rest.is_empty());
                url.len() <= URL_BYTES_MAX && is_plain && (is_whole || is_template)
            };
            if URLS_MAX < list.len() || !list.iter().all(is_url) {
                return Err(Refusal::invalid(format!(
                    "invalid URL found in {}: expected at most {URLS_MAX} of the form \
                     https://host/path",
                    name.replace('_', " ")
                )));
            }
            *field = list;
        }
    }
    Ok(())
}

fn seconds(fields: Fields<'_>, name: &str, into: &mut u64, zero: bool) -> Result<(), Refusal> {
    let Some(duration) = fields.duration(name)? else {
        return Ok(());
    };
    if duration.as_secs() == 0 && !(zero && duration.is_zero()) {
        return Err(Refusal::invalid(format!("{name} must be a second or more")));
    }
    *into = duration.as_secs();
    Ok(())
}

/// Prints seconds as people write them: `72h`, `15m`, `1h30m`. Clients compare what they read with
/// what they wrote, and Vault gives back the text that it was given.
fn short(secs: u64) -> String {
    let text = go_duration(std::time::Duration::from_secs(secs));
    let text = text
        .strip_suffix("m0s")
        .map_or(text.clone(), |it| format!("{it}m"));
    text.strip_suffix("h0m")
        .map_or(text.clone(), |it| format!("{it}h"))
}

/// Takes in what is to be cleaned.
pub fn take_tidy(fields: Fields<'_>, what: &mut TidyWhat) -> Result<(), Refusal> {
    for (field, name) in [
        (&mut what.tidy_cert_store, "tidy_cert_store"),
        (&mut what.tidy_revoked_certs, "tidy_revoked_certs"),
        (
            &mut what.tidy_revoked_cert_issuer_associations,
            "tidy_revoked_cert_issuer_associations",
        ),
        (&mut what.tidy_expired_issuers, "tidy_expired_issuers"),
    ] {
        if let Some(flag) = fields.flag(name)? {
            *field = flag;
        }
    }
    seconds(fields, "safety_buffer", &mut what.safety_buffer, false)?;
    seconds(
        fields,
        "issuer_safety_buffer",
        &mut what.issuer_safety_buffer,
        false,
    )
}

/// Shows what is cleaned.
pub fn shown_tidy(what: &TidyWhat) -> Map<String, Value> {
    match json!(what) {
        Value::Object(shown) => shown,
        _ => unreachable!("a structure becomes an object"),
    }
}

impl Pki {
    /// `config/<which>`; `None` if there is no such setting.
    pub(super) fn configure(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        which: &str,
    ) -> Option<Result<Answer, Refusal>> {
        Some(match (which, call.operation) {
            ("ca", Operation::Create | Operation::Update) => self.import_ca(ctx, call),
            ("issuers", _) => self.default_issuer(ctx, call, None),
            ("keys", _) => Self::default_key(ctx, call),
            ("urls" | "crl" | "cluster" | "auto-tidy", operation) => {
                Self::settings(ctx, call, which, operation)
            }
            _ => return None,
        })
    }

    fn import_ca(&self, ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        let text = call.fields().required("pem_bundle")?;
        if BUNDLE_BYTES_MAX < text.len() {
            return Err(Refusal::invalid("pem_bundle is too long"));
        }
        self.import(ctx, &text, true)
    }

    fn default_key(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
        let mut config = stored::config(ctx)?;
        if call.operation != Operation::Read {
            let reference = call.fields().required("default")?;
            config.default_key = Self::key_id(ctx, &reference)?;
            ctx.save("config", &config)?;
        }
        Ok(Answer::json(json!({ "default": config.default_key })))
    }

    fn settings(
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        which: &str,
        operation: Operation,
    ) -> Result<Answer, Refusal> {
        let mut config = stored::config(ctx)?;
        match operation {
            Operation::Read => {}
            Operation::Create | Operation::Update | Operation::Patch => {
                take(call.fields(), which, &mut config)?;
                ctx.save("config", &config)?;
                if which == "crl" {
                    // What lists say depends on it: all are made anew.
                    Self::mark_all(ctx)?;
                }
            }
            Operation::Delete | Operation::List => return Err(Refusal::UnsupportedOperation),
        }
        Ok(Answer::json(show(which, &config)))
    }
}

fn take(fields: Fields<'_>, which: &str, config: &mut Config) -> Result<(), Refusal> {
    match which {
        "urls" => take_urls(fields, &mut config.urls, "enable_templating"),
        "crl" => take_crl(fields, &mut config.crl),
        "cluster" => {
            for (field, name) in [
                (&mut config.path, "path"),
                (&mut config.aia_path, "aia_path"),
            ] {
                if let Some(text) = fields.text(name)? {
                    let is_url = text.split_once("://").is_some() && text.len() <= URL_BYTES_MAX;
                    if !text.is_empty() && !is_url {
                        return Err(Refusal::invalid(format!("invalid, non-URL {name} given")));
                    }
                    *field = text;
                }
            }
            Ok(())
        }
        _ => {
            let tidy = &mut config.auto_tidy;
            if let Some(flag) = fields.flag("enabled")? {
                tidy.enabled = flag;
            }
            seconds(
                fields,
                "interval_duration",
                &mut tidy.interval_duration,
                false,
            )?;
            take_tidy(fields, &mut tidy.what)?;
            let what = &tidy.what;
            let is_nothing = !(what.tidy_cert_store
                || what.tidy_revoked_certs
                || what.tidy_revoked_cert_issuer_associations
                || what.tidy_expired_issuers);
            if tidy.enabled && is_nothing {
                return Err(Refusal::invalid(
                    "auto-tidy enabled but no tidy operations were requested; enable at least one",
                ));
            }
            Ok(())
        }
    }
}

fn take_crl(fields: Fields<'_>, crl: &mut CrlConfig) -> Result<(), Refusal> {
    for name in [
        "cross_cluster_revocation",
        "unified_crl",
        "unified_crl_on_existing_paths",
    ] {
        if fields.flag(name)? == Some(true) {
            return Err(Refusal::invalid(format!(
                "{name} is not served: there is one cluster"
            )));
        }
    }
    for (field, name) in [
        (&mut crl.disable, "disable"),
        (&mut crl.ocsp_disable, "ocsp_disable"),
        (&mut crl.auto_rebuild, "auto_rebuild"),
        (&mut crl.enable_delta, "enable_delta"),
    ] {
        if let Some(flag) = fields.flag(name)? {
            *field = flag;
        }
    }
    seconds(fields, "expiry", &mut crl.expiry, false)?;
    seconds(fields, "ocsp_expiry", &mut crl.ocsp_expiry, true)?;
    seconds(
        fields,
        "auto_rebuild_grace_period",
        &mut crl.auto_rebuild_grace_period,
        false,
    )?;
    seconds(
        fields,
        "delta_rebuild_interval",
        &mut crl.delta_rebuild_interval,
        false,
    )?;
    if crl.auto_rebuild && crl.expiry <= crl.auto_rebuild_grace_period {
        return Err(Refusal::invalid(
            "CRL auto-rebuilding grace period must be strictly shorter than CRL expiry value when \
             auto rebuilding of CRLs is enabled",
        ));
    }
    if crl.enable_delta && !crl.auto_rebuild {
        return Err(Refusal::invalid(
            "Delta CRLs cannot be enabled when auto rebuilding is disabled as the complete CRL is \
             always regenerated!",
        ));
    }
    Ok(())
}

fn show(which: &str, config: &Config) -> Value {
    match which {
        "urls" => json!({
            "issuing_certificates": config.urls.issuing_certificates,
            "crl_distribution_points": config.urls.crl_distribution_points,
            "delta_crl_distribution_points": config.urls.delta_crl_distribution_points,
            "ocsp_servers": config.urls.ocsp_servers,
            "enable_templating": config.urls.enable_templating,
        }),
        "crl" => json!({
            "expiry": short(config.crl.expiry),
            "disable": config.crl.disable,
            "ocsp_disable": config.crl.ocsp_disable,
            "ocsp_expiry": short(config.crl.ocsp_expiry),
            "auto_rebuild": config.crl.auto_rebuild,
            "auto_rebuild_grace_period": short(config.crl.auto_rebuild_grace_period),
            "enable_delta": config.crl.enable_delta,
            "delta_rebuild_interval": short(config.crl.delta_rebuild_interval),
            "cross_cluster_revocation": false,
            "unified_crl": false,
            "unified_crl_on_existing_paths": false,
            "max_crl_entries": super::crl::ENTRIES_MAX,
        }),
        "cluster" => json!({ "path": config.path, "aia_path": config.aia_path }),
        _ => {
            let mut shown = shown_tidy(&config.auto_tidy.what);
            shown.insert("enabled".to_owned(), config.auto_tidy.enabled.into());
            let interval = config.auto_tidy.interval_duration;
            shown.insert("interval_duration".to_owned(), interval.into());
            Value::Object(shown)
        }
    }
}
