//! Certificates of leaves: issued with a key of ours, or signed for a key of whoever asks.

use std::sync::Arc;
use std::time::Duration;

use bastide_api::UnixTime;
use bastide_pki::x509::{
    CertificateRequest, Extensions, KeyKind, PrivateKey, SignatureScheme, Template, extended_usage,
    key_usage_bit, sign_certificate,
};
use serde_json::{Map, json};

use super::Pki;
use super::lifetime::{Bounds, within_issuer};
use super::memo::Issuer;
use super::names::Asker;
use super::role::{Compiled, Role, oids};
use super::shown::{self, Format};
use super::stored::{Blob, StoredCert, Usage};
use super::subject::Subject;
use crate::core::engine::{Call, Context};
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Grant, Reply};

/// Draws a serial number: 20 bytes, positive, never zero (RFC 5280, section 4.1.2.2).
pub fn draw_serial(ctx: &mut Context<'_, '_>) -> [u8; 20] {
    let mut serial: [u8; 20] = ctx.entropy().bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// Signs a certificate.
pub fn signed(
    template: &Template<'_>,
    signer: &PrivateKey,
    scheme: SignatureScheme,
) -> Result<Vec<u8>, Refusal> {
    sign_certificate(template, signer, scheme)
        .map_err(|_| Refusal::Internal("certificate could not be signed".to_owned()))
}

/// Makes a key; RSA keys are made beside the decision, because they take long.
pub fn draw_key(ctx: &mut Context<'_, '_>, kind: KeyKind) -> Result<PrivateKey, Refusal> {
    let failed = |_| Refusal::Internal("key could not be made".to_owned());
    match kind {
        KeyKind::Rsa(bits) => PrivateKey::from_pkcs8(ctx.rsa_key(bits)?.expose()).map_err(failed),
        _ => PrivateKey::generate(kind).map_err(failed),
    }
}

/// Reads the field `csr`.
pub fn request(fields: Fields<'_>) -> Result<CertificateRequest, Refusal> {
    let text = fields.text("csr")?.unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::invalid("\"csr\" is empty"));
    }
    CertificateRequest::parse(&text).map_err(|error| Refusal::invalid(error.to_string()))
}

/// What is signed, once all is decided.
struct Leaf<'a> {
    subject: &'a Subject,
    spki: &'a [u8],
    key_id: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
    serial: [u8; 20],
}

impl Pki {
    /// `issue/<role>`: a certificate and its key.
    pub(super) fn issue(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        issuer: Option<&str>,
        role: &str,
    ) -> Result<Answer, Refusal> {
        let compiled = self.role_of(ctx, role)?;
        let kind = compiled.key_kind().ok_or_else(|| {
            Refusal::invalid(
                "role key type \"any\" not allowed for issuing certificates, only signing",
            )
        })?;
        let issuer = self.issuer_for(ctx, issuer, &compiled)?;
        let subject = judged(ctx, call.fields(), &compiled, None)?;
        issuer.check_names(&subject.der, &subject.names)?;
        // All that can be refused is refused before a key is made.
        issuer.key_for(Usage::ISSUE)?;
        let mut warnings = Vec::new();
        let not_after = ends(ctx, call.fields(), &compiled, &issuer, &mut warnings)?;
        let key = draw_key(ctx, kind)?;
        let leaf = Leaf {
            subject: &subject,
            spki: key.public().spki(),
            key_id: key.public().id(),
            not_before: begins(ctx, &compiled),
            not_after,
            serial: draw_serial(ctx),
        };
        self.grant(ctx, call, &compiled, &issuer, &leaf, Some(&key), warnings)
    }

    /// `sign/<role>`: a certificate for the key of a request.
    pub(super) fn sign(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        issuer: Option<&str>,
        role: &str,
    ) -> Result<Answer, Refusal> {
        let compiled = self.role_of(ctx, role)?;
        let issuer = self.issuer_for(ctx, issuer, &compiled)?;
        let request = request(call.fields())?;
        compiled.check_key(request.key.kind())?;
        let subject = judged(ctx, call.fields(), &compiled, Some(&request))?;
        self.sign_for(ctx, call, &compiled, &issuer, &request, &subject)
    }

    /// `sign-verbatim[/<role>]`: the names as the request has them. The role says for how long, by whom,
    /// and whether it is stored.
    pub(super) fn sign_verbatim(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        issuer: Option<&str>,
        role: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let fields = call.fields();
        let mut open = Role {
            key_type: "any".to_owned(),
            key_usage: fields
                .list("key_usage")?
                .unwrap_or_else(|| Role::default().key_usage),
            ext_key_usage: fields.list("ext_key_usage")?.unwrap_or_default(),
            ext_key_usage_oids: fields.list("ext_key_usage_oids")?.unwrap_or_default(),
            server_flag: false,
            client_flag: false,
            basic_constraints_valid_for_non_ca: fields
                .flag("basic_constraints_valid_for_non_ca")?
                .unwrap_or(false),
            use_pss: fields.flag("use_pss")?.unwrap_or(false),
            signature_bits: bits(fields, "signature_bits")?,
            ..Role::default()
        };
        if open.key_usage.iter().any(|it| key_usage_bit(it) == 0)
            || open
                .ext_key_usage
                .iter()
                .any(|it| extended_usage(it).is_none())
        {
            return Err(Refusal::invalid("unknown key_usage or ext_key_usage"));
        }
        oids(&open.ext_key_usage_oids)?;
        if let Some(name) = role {
            let role = &self.role_of(ctx, name)?.role;
            open.issuer_ref.clone_from(&role.issuer_ref);
            open.ttl = role.ttl;
            open.max_ttl = role.max_ttl;
            open.not_after.clone_from(&role.not_after);
            open.not_before_duration = role.not_before_duration;
            open.generate_lease = role.generate_lease;
            open.no_store = role.no_store;
            if fields.get("key_usage").is_none() {
                open.key_usage.clone_from(&role.key_usage);
            }
            if fields.get("ext_key_usage").is_none() {
                open.ext_key_usage.clone_from(&role.ext_key_usage);
            }
        }
        let compiled = Compiled::new(open)?;
        let issuer = self.issuer_for(ctx, issuer, &compiled)?;
        let request = request(fields)?;
        let subject = Subject::verbatim(&request)?;
        self.sign_for(ctx, call, &compiled, &issuer, &request, &subject)
    }

    fn sign_for(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        compiled: &Compiled,
        issuer: &Issuer,
        request: &CertificateRequest,
        subject: &Subject,
    ) -> Result<Answer, Refusal> {
        issuer.check_names(&subject.der, &subject.names)?;
        let mut warnings = Vec::new();
        let not_after = ends(ctx, call.fields(), compiled, issuer, &mut warnings)?;
        let leaf = Leaf {
            subject,
            spki: request.key.spki(),
            key_id: request.key.id(),
            not_before: begins(ctx, compiled),
            not_after,
            serial: draw_serial(ctx),
        };
        self.grant(ctx, call, compiled, issuer, &leaf, None, warnings)
    }

    /// Returns a role that must be there.
    fn role_of(&self, ctx: &mut Context<'_, '_>, name: &str) -> Result<Arc<Compiled>, Refusal> {
        self.memory
            .role(ctx, name)?
            .ok_or_else(|| Refusal::invalid(format!("unknown role: {name}")))
    }

    fn issuer_for(
        &self,
        ctx: &mut Context<'_, '_>,
        named: Option<&str>,
        compiled: &Compiled,
    ) -> Result<Arc<Issuer>, Refusal> {
        self.memory
            .issuer(ctx, named.unwrap_or(&compiled.role.issuer_ref))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that was decided of one certificate"
    )]
    fn grant(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        compiled: &Compiled,
        issuer: &Issuer,
        leaf: &Leaf<'_>,
        key: Option<&PrivateKey>,
        warnings: Vec<String>,
    ) -> Result<Answer, Refusal> {
        let role = &compiled.role;
        let config = self.memory.config(ctx)?;
        let urls = issuer.urls(&config);
        let signer = issuer.key_for(Usage::ISSUE)?;
        let template = Template {
            serial: &leaf.serial,
            issuer: &issuer.certificate.subject,
            subject: &leaf.subject.der,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            spki: leaf.spki,
            extensions: Extensions {
                basic_constraints: role
                    .basic_constraints_valid_for_non_ca
                    .then_some((false, None)),
                key_usage: compiled.key_usage,
                extended_usages: &compiled.extended_usages,
                names: &leaf.subject.names,
                names_are_critical: leaf.subject.is_empty,
                subject_key_id: &leaf.key_id,
                authority_key_id: &issuer.certificate.key_id,
                policies: &compiled.policies,
                ..urls.extensions()
            },
        };
        let scheme = signer.kind().scheme(role.signature_bits, role.use_pss);
        let der = signed(&template, signer, scheme)?;
        let fields = call.fields();
        let format = Format::of(fields)?;
        let mut data = Map::new();
        data.insert(
            "certificate".to_owned(),
            format.show("CERTIFICATE", &der).into(),
        );
        let no_roots = fields.flag("remove_roots_from_chain")?.unwrap_or(false);
        shown::put_chain(&mut data, format, issuer, no_roots);
        if let Some(key) = key {
            shown::put_key(&mut data, fields, format, key)?;
        }
        shown::bundle(&mut data, format);
        let serial = shown::serial(&leaf.serial);
        data.insert("serial_number".to_owned(), serial.clone().into());
        data.insert("expiration".to_owned(), leaf.not_after.as_secs().into());
        if !role.no_store {
            store(ctx, &leaf.serial, der, issuer, leaf.not_after)?;
        }
        let secs = leaf.not_after.as_secs().saturating_sub(ctx.now().as_secs());
        let ttl = Duration::from_secs(secs.max(1));
        let lease = role.generate_lease.then(|| Grant {
            ttl,
            ttl_max: ttl,
            renewable: false,
            data: json!({ "serial_number": serial }),
        });
        Ok(Answer {
            reply: Reply::Data(data),
            warnings,
            lease,
            ..Answer::default()
        })
    }
}

/// Keeps a certificate that was issued.
pub fn store(
    ctx: &mut Context<'_, '_>,
    serial: &[u8],
    der: Vec<u8>,
    issuer: &Issuer,
    expires: UnixTime,
) -> Result<(), Refusal> {
    let stored = StoredCert {
        der: Blob(der),
        issuer: issuer.stored.id.clone(),
        group: issuer.stored.group.clone(),
        expires,
    };
    ctx.save(&format!("cert/{}", shown::digits(serial)), &stored)
}

/// Reads a number of bits.
pub fn bits(fields: Fields<'_>, name: &str) -> Result<u32, Refusal> {
    let bits = fields.count(name)?.unwrap_or(0);
    u32::try_from(bits).map_err(|_| Refusal::invalid(format!("{name} is out of range")))
}

fn judged(
    ctx: &Context<'_, '_>,
    fields: Fields<'_>,
    compiled: &Compiled,
    request: Option<&CertificateRequest>,
) -> Result<Subject, Refusal> {
    let asker = Asker {
        display_name: ctx
            .caller
            .token()
            .map_or("", |token| token.display_name.as_str()),
        entity: ctx.entity.map(AsRef::as_ref),
    };
    Subject::of_leaf(compiled, fields, request, &asker)
}

fn begins(ctx: &Context<'_, '_>, compiled: &Compiled) -> UnixTime {
    let before = Duration::from_secs(compiled.role.not_before_duration);
    let now = Duration::from_secs(ctx.now().as_secs());
    UnixTime::EPOCH.plus(now.saturating_sub(before))
}

fn ends(
    ctx: &Context<'_, '_>,
    fields: Fields<'_>,
    compiled: &Compiled,
    issuer: &Issuer,
    warnings: &mut Vec<String>,
) -> Result<UnixTime, Refusal> {
    let role = &compiled.role;
    let ttl_max = match role.max_ttl {
        0 => ctx.mount.ttl_max(),
        secs => Duration::from_secs(secs).min(ctx.mount.ttl_max()),
    };
    let ttl = match role.ttl {
        0 => ctx.mount.ttl_default(),
        secs => Duration::from_secs(secs),
    };
    let bounds = Bounds {
        now: ctx.now(),
        ttl,
        ttl_max,
        not_after: compiled.not_after,
        is_leaf: true,
    };
    let ends = bounds.decide(fields, warnings)?;
    within_issuer(
        ends,
        issuer.certificate.not_after,
        ctx.now(),
        issuer.stored.leaf_behavior,
    )
}
