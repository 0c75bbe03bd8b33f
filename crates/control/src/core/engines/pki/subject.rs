//! Whom a certificate is for: the names that a request asks for, and what its role makes of them.

use bastide_pki::x509::{Attribute, CertificateRequest, Name, San};

use super::names::{self, Asker};
use super::role::Compiled;
use crate::core::fields::Fields;
use crate::core::refusal::Refusal;

/// Most alternative names of one certificate.
const NAMES_MAX: usize = 512;

/// Whom a certificate is for.
pub struct Subject {
    /// The subject's name in DER.
    pub der: Vec<u8>,
    /// The alternative names.
    pub names: Vec<San>,
    /// Whether the subject says nothing.
    pub is_empty: bool,
}

impl Subject {
    fn new(name: &Name, names: Vec<San>) -> Result<Self, Refusal> {
        if NAMES_MAX < names.len() {
            return Err(Refusal::invalid(format!(
                "a certificate has at most {NAMES_MAX} alternative names"
            )));
        }
        let is_empty = *name == Name::default();
        if is_empty && names.is_empty() {
            return Err(Refusal::invalid(
                "a certificate needs a common name or an alternative name",
            ));
        }
        Ok(Self {
            der: name.to_der(),
            names,
            is_empty,
        })
    }

    /// What an operator asks for: authorities are named by whoever runs them.
    pub fn of_authority(fields: Fields<'_>) -> Result<Self, Refusal> {
        let common_name = fields.text("common_name")?.unwrap_or_default();
        let mut names = common_name_san(fields, &common_name)?;
        extend(&mut names, asked_names(fields)?);
        let mut name = Name::default();
        for (attribute, field) in ATTRIBUTES {
            name.extend(*attribute, &fields.list(field)?.unwrap_or_default());
        }
        name.push(Attribute::CommonName, &common_name);
        let serial = fields.text("serial_number")?.unwrap_or_default();
        name.push(Attribute::SerialNumber, &serial);
        if common_name.is_empty() {
            return Err(Refusal::invalid(
                "the common_name field is required, or must be provided in a CSR with \
                 \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false",
            ));
        }
        Self::new(&name, names)
    }

    /// What the request itself says, whole.
    pub fn verbatim(request: &CertificateRequest) -> Result<Self, Refusal> {
        let mut subject =
            Self::new(&request.subject, request.names.clone()).or_else(|refusal| {
                // A name of attributes that are not known here is still a name.
                if request.subject_der.len() <= 2 {
                    return Err(refusal);
                }
                Ok(Self {
                    der: Vec::new(),
                    names: request.names.clone(),
                    is_empty: false,
                })
            })?;
        subject.der.clone_from(&request.subject_der);
        subject.is_empty = request.subject_der.len() <= 2;
        Ok(subject)
    }

    /// What a role allows of what is asked for. Every name is judged, whichever way it came.
    pub fn of_leaf(
        compiled: &Compiled,
        fields: Fields<'_>,
        request: Option<&CertificateRequest>,
        asker: &Asker<'_>,
    ) -> Result<Self, Refusal> {
        let role = &compiled.role;
        let of_request = |attribute| {
            let found = request.and_then(|request| request.subject.last(attribute));
            found.map(str::to_owned)
        };
        let mut common_name = String::new();
        if role.use_csr_common_name {
            common_name = of_request(Attribute::CommonName).unwrap_or_default();
        }
        if common_name.is_empty() {
            common_name = fields.text("common_name")?.unwrap_or_default();
        }
        if common_name.is_empty() && role.require_cn {
            return Err(Refusal::invalid(
                "the common_name field is required, or must be provided in a CSR with \
                 \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false",
            ));
        }
        let mut serial = fields.text("serial_number")?.unwrap_or_default();
        if serial.is_empty() && role.serial_number_source == "json-csr" {
            serial = of_request(Attribute::SerialNumber).unwrap_or_default();
        }
        let allowed = &role.allowed_serial_numbers;
        if !serial.is_empty() && !allowed.iter().any(|it| names::glob(it, &serial)) {
            return Err(Refusal::invalid(format!(
                "serial_number {serial} not allowed by this role"
            )));
        }
        let users = user_ids(compiled, fields, request)?;
        let mut sans = match request {
            Some(request) if role.use_csr_sans => request.names.clone(),
            _ => asked_names(fields)?,
        };
        extend(&mut sans, common_name_san(fields, &common_name)?);
        names::check_common_name(compiled, &common_name, asker)?;
        names::check(compiled, &sans, asker)?;
        let mut name = Name::default();
        for (attribute, values) in [
            (Attribute::Country, &role.country),
            (Attribute::Organization, &role.organization),
            (Attribute::Unit, &role.ou),
            (Attribute::Locality, &role.locality),
            (Attribute::Province, &role.province),
            (Attribute::Street, &role.street_address),
            (Attribute::PostalCode, &role.postal_code),
        ] {
            name.extend(attribute, values);
        }
        name.push(Attribute::CommonName, &common_name);
        name.push(Attribute::SerialNumber, &serial);
        name.extend(Attribute::UserId, &users);
        Self::new(&name, sans)
    }
}

const ATTRIBUTES: &[(Attribute, &str)] = &[
    (Attribute::Country, "country"),
    (Attribute::Organization, "organization"),
    (Attribute::Unit, "ou"),
    (Attribute::Locality, "locality"),
    (Attribute::Province, "province"),
    (Attribute::Street, "street_address"),
    (Attribute::PostalCode, "postal_code"),
];

fn user_ids(
    compiled: &Compiled,
    fields: Fields<'_>,
    request: Option<&CertificateRequest>,
) -> Result<Vec<String>, Refusal> {
    let mut users = fields.list("user_ids")?.unwrap_or_default();
    if users.is_empty()
        && let Some(request) = request
    {
        users = request
            .subject
            .all(Attribute::UserId)
            .map(str::to_owned)
            .collect();
    }
    let allowed = &compiled.role.allowed_user_ids;
    for user in &users {
        if !allowed.iter().any(|it| names::glob(it, user)) {
            return Err(Refusal::invalid(format!(
                "user_id {user} is not allowed by this role"
            )));
        }
    }
    Ok(users)
}

/// The alternative name that a common name is repeated as, unless that is not wanted.
fn common_name_san(fields: Fields<'_>, common_name: &str) -> Result<Vec<San>, Refusal> {
    let is_left_out = fields.flag("exclude_cn_from_sans")?.unwrap_or(false);
    if is_left_out || common_name.is_empty() {
        return Ok(Vec::new());
    }
    let is_dns = names::is_hostname(common_name)
        || common_name
            .strip_prefix("*.")
            .is_some_and(names::is_hostname);
    Ok(if common_name.contains('@') && common_name.is_ascii() {
        vec![San::Email(common_name.to_owned())]
    } else if is_dns && common_name.parse::<std::net::IpAddr>().is_err() {
        vec![San::Dns(common_name.to_owned())]
    } else {
        Vec::new()
    })
}

fn extend(names: &mut Vec<San>, more: Vec<San>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// The alternative names of the fields.
fn asked_names(fields: Fields<'_>) -> Result<Vec<San>, Refusal> {
    let mut names = Vec::new();
    for text in fields.list("alt_names")?.unwrap_or_default() {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::invalid(format!(
                "subject alternate name {text} is not ASCII: give the form that begins with xn--"
            )));
        }
        let name = if text.contains('@') {
            San::Email(text)
        } else {
            San::Dns(text)
        };
        extend(&mut names, vec![name]);
    }
    for text in fields.list("ip_sans")?.unwrap_or_default() {
        let address = text.parse().map_err(|_| {
            Refusal::invalid(format!("the value \"{text}\" is not a valid IP address"))
        })?;
        extend(&mut names, vec![San::Ip(address)]);
    }
    for text in fields.list("uri_sans")?.unwrap_or_default() {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::invalid(format!(
                "URI Subject Alternative Name {text} is not ASCII"
            )));
        }
        extend(&mut names, vec![San::Uri(text)]);
    }
    for text in fields.list("other_sans")?.unwrap_or_default() {
        extend(&mut names, vec![names::other_name(&text)?]);
    }
    Ok(names)
}
