//! Authorities: roots, requests for intermediates, and certificates of intermediates.

use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::{
    Certificate, CertificateRequest, Constraints, Extensions, KeyKind, PrivateKey, SignatureScheme,
    Subtree, Template, key_usage_bit, oid, sign_request,
};
use serde_json::{Map, json};

use super::Pki;
use super::issue::{bits, draw_key, draw_serial, request, signed, store};
use super::issuers::NewIssuer;
use super::keys;
use super::lifetime::{Bounds, within_issuer};
use super::memo::Issuer;
use super::shown::{self, Format};
use super::stored::{self, LeafBehavior, Usage};
use super::subject::Subject;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// Where an authority's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is made, and nobody sees it.
    Internal,
    /// It is made, and shown once.
    Exported,
    /// It is here already.
    Existing,
}

impl Source {
    /// Reads the last part of a path.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "internal" => Ok(Self::Internal),
            "exported" => Ok(Self::Exported),
            "existing" => Ok(Self::Existing),
            "kms" => Err(Refusal::invalid(
                "keys of a key management service are not served",
            )),
            _ => Err(Refusal::UnsupportedPath),
        }
    }
}

/// What an authority may do with its key.
fn authority_usage() -> u16 {
    key_usage_bit("CertSign") | key_usage_bit("CRLSign")
}

/// Reads of what kind a key is to be.
pub fn key_kind(fields: Fields<'_>) -> Result<KeyKind, Refusal> {
    let family = fields.text("key_type")?.filter(|text| !text.is_empty());
    let family = family.unwrap_or_else(|| "rsa".to_owned());
    let size = bits(fields, "key_bits")?;
    KeyKind::of(&family, size)
        .ok_or_else(|| Refusal::invalid(format!("unsupported key type or size: {family} {size}")))
}

/// Reads the field `max_path_length`; below 0: none.
fn path_length(fields: Fields<'_>) -> Result<Option<u8>, Refusal> {
    match fields.int("max_path_length")? {
        None | Some(i64::MIN..=-1) => Ok(None),
        Some(length) => u8::try_from(length)
            .ok()
            .filter(|length| *length < 128)
            .map(Some)
            .ok_or_else(|| Refusal::invalid("max_path_length is out of range")),
    }
}

/// Reads the names below which an authority certifies.
fn constraints(fields: Fields<'_>) -> Result<Option<Constraints>, Refusal> {
    let read = |prefix: &str| {
        let mut trees = Vec::new();
        let list = |name: &str| {
            Ok::<_, Refusal>(
                fields
                    .list(&format!("{prefix}_{name}"))?
                    .unwrap_or_default(),
            )
        };
        trees.extend(list("dns_domains")?.into_iter().map(Subtree::Dns));
        trees.extend(list("email_addresses")?.into_iter().map(Subtree::Email));
        trees.extend(list("uri_domains")?.into_iter().map(Subtree::Uri));
        for net in list("ip_ranges")? {
            let net: ipnet::IpNet = net
                .parse()
                .map_err(|_| Refusal::invalid(format!("\"{net}\" is not a network")))?;
            trees.push(Subtree::Ip(net.network(), net.prefix_len()));
        }
        let is_ascii = trees.iter().all(|tree| match tree {
            Subtree::Dns(text) | Subtree::Email(text) | Subtree::Uri(text) => {
                text.bytes().all(|byte| byte.is_ascii_graphic())
            }
            Subtree::Ip(..) | Subtree::Directory(_) | Subtree::Other(..) => true,
        });
        if !is_ascii {
            return Err(Refusal::invalid("name constraints are ASCII"));
        }
        Ok::<_, Refusal>(trees)
    };
    let found = Constraints {
        permitted: read("permitted")?,
        excluded: read("excluded")?,
    };
    Ok((found != Constraints::default()).then_some(found))
}

/// Reads how a key of this kind is to sign.
fn scheme(fields: Fields<'_>, kind: KeyKind) -> Result<SignatureScheme, Refusal> {
    let bits = bits(fields, "signature_bits")?;
    Ok(kind.scheme(bits, fields.flag("use_pss")? == Some(true)))
}

fn begins(ctx: &Context<'_, '_>, fields: Fields<'_>) -> Result<UnixTime, Refusal> {
    let before = fields.duration("not_before_duration")?;
    let before = before.unwrap_or(Duration::from_secs(30));
    let now = Duration::from_secs(ctx.now().as_secs());
    Ok(UnixTime::EPOCH.plus(now.saturating_sub(before)))
}

fn ends(
    ctx: &Context<'_, '_>,
    fields: Fields<'_>,
    warnings: &mut Vec<String>,
) -> Result<UnixTime, Refusal> {
    let bounds = Bounds {
        now: ctx.now(),
        ttl: ctx.mount.ttl_default(),
        ttl_max: ctx.mount.ttl_max(),
        not_after: None,
        is_leaf: false,
    };
    bounds.decide(fields, warnings)
}

impl Pki {
    /// Finds or makes the key of a new authority; returns its id and name as well.
    fn authority_key(
        ctx: &mut Context<'_, '_>,
        fields: Fields<'_>,
        source: Source,
        name: &str,
    ) -> Result<(PrivateKey, String), Refusal> {
        if source == Source::Existing {
            let id = Self::key_id(ctx, &fields.text("key_ref")?.unwrap_or_default())?;
            let der = stored::key(ctx, &id)?.der()?;
            let key = PrivateKey::from_pkcs8(der.expose());
            return Ok((key.map_err(|error| Refusal::corrupt("key", error))?, id));
        }
        let kind = key_kind(fields)?;
        // A name that is taken is refused before a key is made.
        keys::check_name(&stored::index(ctx)?, name, "")?;
        let key = draw_key(ctx, kind)?;
        let id = Self::add_key(ctx, &key, name)?.0;
        Ok((key, id))
    }

    /// `root/generate/<source>`, `root/rotate/<source>`.
    pub(super) fn generate_root(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        source: Source,
        is_rotation: bool,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let usual = if is_rotation { "next" } else { "" };
        let name = |field: &str| Ok::<_, Refusal>(fields.text(field)?.unwrap_or(usual.to_owned()));
        let issuer_name = name("issuer_name")?;
        super::issuers::check_name(&stored::index(ctx)?, &issuer_name, "")?;
        let subject = Subject::of_authority(fields)?;
        let mut warnings = Vec::new();
        let not_after = ends(ctx, fields, &mut warnings)?;
        let path = path_length(fields)?;
        let constraints = constraints(fields)?;
        let format = Format::of(fields)?;
        let (key, key_id) = Self::authority_key(ctx, fields, source, &name("key_name")?)?;
        let config = stored::config(ctx)?;
        let id = ctx.entropy().uuid();
        let placeholder = super::stored::StoredIssuer {
            id: id.clone(),
            ..Default::default()
        };
        let urls = super::issuers::urls(&placeholder, &config);
        let serial = draw_serial(ctx);
        let own_id = key.public().id();
        let template = Template {
            serial: &serial,
            issuer: &subject.der,
            subject: &subject.der,
            not_before: begins(ctx, fields)?,
            not_after,
            spki: key.public().spki(),
            extensions: Extensions {
                basic_constraints: Some((true, path)),
                key_usage: authority_usage(),
                names: &subject.names,
                subject_key_id: &own_id,
                authority_key_id: &own_id,
                constraints: constraints.as_ref(),
                ..urls.extensions()
            },
        };
        let scheme = scheme(fields, key.kind())?;
        let der = signed(&template, &key, scheme)?;
        let certificate = Certificate::parse(&der)
            .map_err(|error| Refusal::Internal(format!("own certificate: {error}")))?;
        self.add_issuer(
            ctx,
            NewIssuer {
                id: id.clone(),
                name: issuer_name.clone(),
                key: key_id.clone(),
                certificate,
            },
        )?;
        let issuer = self.memory.issuer(ctx, &id)?;
        store(ctx, &serial, der.clone(), &issuer, not_after)?;
        let mut data = Map::new();
        data.insert(
            "certificate".to_owned(),
            format.show("CERTIFICATE", &der).into(),
        );
        data.insert(
            "issuing_ca".to_owned(),
            format.show("CERTIFICATE", &der).into(),
        );
        if source == Source::Exported {
            shown::put_key(&mut data, fields, format, &key)?;
        }
        shown::bundle(&mut data, format);
        let key_name = stored::key(ctx, &key_id)?.name.clone();
        for (field, value) in [
            ("serial_number", shown::serial(&serial)),
            ("issuer_id", id),
            ("issuer_name", issuer_name),
            ("key_id", key_id),
            ("key_name", key_name),
        ] {
            data.insert(field.to_owned(), value.into());
        }
        data.insert("expiration".to_owned(), not_after.as_secs().into());
        let mut answer = Answer::data(data);
        answer.warnings = warnings;
        Ok(answer)
    }

    /// `intermediate/generate/<source>`: a request that another authority signs.
    pub(super) fn generate_intermediate(
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        source: Source,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let subject = Subject::of_authority(fields)?;
        let format = Format::of(fields)?;
        let key_name = fields.text("key_name")?.unwrap_or_default();
        let (key, key_id) = Self::authority_key(ctx, fields, source, &key_name)?;
        let with_constraints = fields.flag("add_basic_constraints")?.unwrap_or(false);
        let extensions = Extensions {
            basic_constraints: with_constraints.then_some((true, None)),
            names: &subject.names,
            ..Extensions::default()
        };
        let scheme = scheme(fields, key.kind())?;
        let der = sign_request(&subject.der, &extensions, &key, scheme)
            .map_err(|_| Refusal::Internal("request could not be signed".to_owned()))?;
        let mut data = Map::new();
        let shown = format.show("CERTIFICATE REQUEST", &der);
        data.insert("csr".to_owned(), shown.clone().into());
        if source == Source::Exported {
            shown::put_key(&mut data, fields, format, &key)?;
            if format == Format::Bundle
                && let Some(key) = data.get("private_key").and_then(|key| key.as_str())
            {
                let both = format!("{key}\n{shown}");
                data.insert("csr".to_owned(), both.into());
            }
        }
        data.insert("key_id".to_owned(), key_id.into());
        Ok(Answer::data(data))
    }

    /// `root/sign-intermediate`, `issuer/<ref>/sign-intermediate`.
    pub(super) fn sign_intermediate(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        issuer: &str,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let issuer = self.memory.issuer(ctx, issuer)?;
        let signer = issuer.key_for(Usage::ISSUE)?;
        let request: CertificateRequest = request(fields)?;
        let subject = if fields.flag("use_csr_values")?.unwrap_or(false) {
            Subject::verbatim(&request)?
        } else {
            Subject::of_authority(fields)?
        };
        issuer.check_names(&subject.der, &subject.names)?;
        let path = below(&issuer, path_length(fields)?)?;
        let constraints = constraints(fields)?;
        let format = Format::of(fields)?;
        let mut warnings = Vec::new();
        let wanted = ends(ctx, fields, &mut warnings)?;
        // Vault lets an authority outlive the one above it; nothing that it signs then is good for
        // longer, so here it is cut, and told.
        let behavior = match issuer.stored.leaf_behavior {
            LeafBehavior::Permit => LeafBehavior::Permit,
            LeafBehavior::Err | LeafBehavior::Truncate => LeafBehavior::Truncate,
        };
        let issuer_ends = issuer.certificate.not_after;
        let not_after = within_issuer(wanted, issuer_ends, ctx.now(), behavior)?;
        if not_after < wanted {
            warnings.push(format!(
                "the certificate ends with its issuer, at {}",
                super::lifetime::go_time(not_after)
            ));
        }
        let skid = fields.text("skid")?.unwrap_or_default();
        let key_id = if skid.is_empty() {
            request.key.id()
        } else {
            shown::parse_serial(&skid)
                .ok_or_else(|| Refusal::invalid("cannot parse requested SKID value as hex"))?
        };
        let config = self.memory.config(ctx)?;
        let urls = issuer.urls(&config);
        let serial = draw_serial(ctx);
        let template = Template {
            serial: &serial,
            issuer: &issuer.certificate.subject,
            subject: &subject.der,
            not_before: begins(ctx, fields)?,
            not_after,
            spki: request.key.spki(),
            extensions: Extensions {
                basic_constraints: Some((true, path)),
                key_usage: authority_usage(),
                names: &subject.names,
                subject_key_id: &key_id,
                authority_key_id: &issuer.certificate.key_id,
                constraints: constraints.as_ref(),
                ..urls.extensions()
            },
        };
        let scheme = scheme(fields, signer.kind())?;
        let der = signed(&template, signer, scheme)?;
        let mut data = Map::new();
        data.insert(
            "certificate".to_owned(),
            format.show("CERTIFICATE", &der).into(),
        );
        shown::put_chain(&mut data, format, &issuer, false);
        shown::bundle(&mut data, format);
        data.insert("serial_number".to_owned(), shown::serial(&serial).into());
        data.insert("expiration".to_owned(), not_after.as_secs().into());
        store(ctx, &serial, der, &issuer, not_after)?;
        let mut answer = Answer::data(data);
        answer.warnings = warnings;
        Ok(answer)
    }

    /// `root/sign-self-issued`: another root's certificate, as it is, under one of our issuers, so that
    /// who trusts ours trusts the other.
    pub(super) fn sign_self_issued(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        issuer: &str,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let issuer = self.memory.issuer(ctx, issuer)?;
        let signer = issuer.key_for(Usage::ISSUE)?;
        let text = fields.required("certificate")?;
        let bundle = bastide_pki::x509::Bundle::parse(&text)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let [theirs] = bundle.certificates.as_slice() else {
            return Err(Refusal::invalid("one certificate in PEM is expected"));
        };
        if !bundle.keys.is_empty() {
            return Err(Refusal::invalid("a certificate is expected, and no key"));
        }
        if theirs.authority.is_none() {
            return Err(Refusal::invalid(
                "given certificate is not a CA certificate, so cannot be signed as self-issued",
            ));
        }
        if theirs.subject != theirs.issuer {
            return Err(Refusal::invalid("given certificate is not self-issued"));
        }
        match &theirs.names {
            Some(names) => issuer.check_names(&theirs.subject, names)?,
            None if issuer.is_bound() => {
                return Err(Refusal::invalid(
                    "given certificate has alternative names that cannot be read, but the issuer has \
                     name constraints",
                ));
            }
            None => {}
        }
        let scheme = signer.kind().scheme(0, false);
        let must_match = fields.flag("require_matching_certificate_algorithms")?;
        if must_match == Some(true) && theirs.scheme() != Some(scheme) {
            return Err(Refusal::invalid(
                "the signature algorithms of the certificate and of the issuer differ",
            ));
        }
        let kept: Vec<_> = theirs
            .extensions
            .iter()
            .filter(|(found, ..)| found.content() != oid::known::AUTHORITY_KEY_ID)
            .cloned()
            .collect();
        let template = Template {
            serial: &theirs.serial,
            issuer: &issuer.certificate.subject,
            subject: &theirs.subject,
            not_before: theirs.not_before,
            not_after: theirs.not_after,
            spki: theirs.key.spki(),
            extensions: Extensions {
                authority_key_id: &issuer.certificate.key_id,
                others: &kept,
                ..Extensions::default()
            },
        };
        let der = signed(&template, signer, scheme)?;
        Ok(Answer::json(json!({
            "certificate": Format::Pem.show("CERTIFICATE", &der),
            "issuing_ca": issuer.pem,
        })))
    }
}

/// How many authorities may follow below a new one: one fewer than below its issuer, at most.
fn below(issuer: &Issuer, wanted: Option<u8>) -> Result<Option<u8>, Refusal> {
    let limit = issuer.certificate.authority.and_then(|it| it.path);
    match (limit, wanted) {
        (Some(0), _) => Err(Refusal::invalid(
            "signing certificate has a max path length of zero, and cannot issue further CA \
             certificates",
        )),
        (Some(limit), Some(wanted)) if limit <= wanted => Err(Refusal::invalid(format!(
            "max_path_length is at most {} below this issuer",
            limit - 1
        ))),
        (Some(limit), None) => Ok(Some(limit - 1)),
        (_, wanted) => Ok(wanted),
    }
}
