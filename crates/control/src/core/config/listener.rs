//! `listener "tcp" { … }`.

use std::path::PathBuf;

use super::Block;

/// Where a listener listens if it does not say.
const ADDRESS_DEFAULT: &str = "127.0.0.1:8200";

/// One `listener`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// `HOST:PORT`; the host is an address, a name or empty, which is all addresses.
    pub address: String,
    /// How its connections are secured.
    pub encryption: Encryption,
    /// Largest body of a request, in bytes, at most [`REQUEST_BYTES_MOST`]; `None`: what the server
    /// allows where nothing is said.
    pub request_bytes_max: Option<usize>,
}

/// How a listener's connections are secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    Disabled,
    /// By TLS 1.3.
    Tls {
        /// The certificate and what it chains to (PEM).
        certificate: PathBuf,
        /// Its key (PEM).
        key: PathBuf,
        /// What clients may show.
        clients: ClientCertificates,
    },
}

/// What certificates clients may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    Unasked,
    /// Any: who shows one has proven its key, and auth methods judge it.
    Any,
    /// One of these authorities (PEM) is required.
    Required(PathBuf),
}

/// Most that a listener can allow a body, in bytes: what Vault allows where nothing is said.
const REQUEST_BYTES_MOST: usize = 32 << 20;

/// What Vault knows, and what is as it is here.
const UNSERVED: &[&str] = &[
    "agent_api",
    "chroot_namespace",
    "cluster_address",
    "custom_response_headers",
    "disable_replication_status_endpoints",
    "disable_request_limiter",
    "disable_unauthed_generate_root_endpoints",
    "disable_unauthed_rekey_endpoints",
    "http_idle_timeout",
    "http_read_header_timeout",
    "http_read_timeout",
    "http_write_timeout",
    "inflight_requests_logging",
    "max_request_duration",
    "profiling",
    "redact_addresses",
    "redact_cluster_name",
    "redact_version",
    "role",
    "telemetry",
    "tls_cipher_suites",
    "tls_prefer_server_cipher_suites",
    "x_forwarded_for_authorized_addrs",
    "x_forwarded_for_hop_skips",
    "x_forwarded_for_reject_not_authorized",
    "x_forwarded_for_reject_not_present",
];

impl ListenerSettings {
    pub(super) fn read(
        kind: &str,
        mut fields: Block,
        at: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        if kind != "tcp" {
            return Err(format!(
                "unknown listener type: {}; only `tcp` is served",
                super::shown(kind)
            ));
        }
        if fields.take("proxy_protocol_behavior").is_some() {
            return Err("`proxy_protocol_behavior` is not served".to_owned());
        }
        let address = fields.text("address")?;
        let encryption = encryption(&mut fields)?;
        let request_bytes_max = request_bytes_max(&mut fields, at, warnings)?;
        for key in UNSERVED {
            if fields.take(key).is_some() {
                warnings.push(format!("{at}: `{key}` of a listener has no effect here"));
            }
        }
        fields.rest(at, warnings);
        Ok(Self {
            address: address.unwrap_or_else(|| ADDRESS_DEFAULT.to_owned()),
            encryption,
            request_bytes_max,
        })
    }
}

/// Reads `max_request_size`: 0 is as if nothing was said; less would be no bound at all, which there is
/// not here.
fn request_bytes_max(
    fields: &mut Block,
    at: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<usize>, String> {
    const NAME: &str = "max_request_size";
    let Some(bytes) = fields.whole(NAME)?.filter(|bytes| *bytes != 0) else {
        return Ok(None);
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if REQUEST_BYTES_MOST < bytes {
        warnings.push(format!(
            "{at}: `{NAME}` is at most {REQUEST_BYTES_MOST} bytes here, and so it is now"
        ));
    }
    Ok(Some(bytes.min(REQUEST_BYTES_MOST)))
}

fn encryption(fields: &mut Block) -> Result<Encryption, String> {
    let is_off = fields.flag("tls_disable")?;
    let certificate = fields.text("tls_cert_file")?.map(PathBuf::from);
    let key = fields.text("tls_key_file")?.map(PathBuf::from);
    let authorities = fields.text("tls_client_ca_file")?.map(PathBuf::from);
    let is_required = fields.flag("tls_require_and_verify_client_cert")?;
    let is_unasked = fields.flag("tls_disable_client_certs")?;
    for name in ["tls_min_version", "tls_max_version"] {
        let version = fields.text(name)?;
        let is_known = |it: &str| matches!(it, "tls10" | "tls11" | "tls12" | "tls13");
        match version.as_deref() {
            Some("tls13") | None => {}
            Some(older) if name == "tls_min_version" && is_known(older) => {}
            Some(_) => return Err(format!("`{name}`: TLS 1.3 alone is served")),
        }
    }
    if is_off {
        return Ok(Encryption::Disabled);
    }
    let clients = match (is_required, is_unasked, authorities) {
        (true, true, _) => {
            return Err(
                "`tls_disable_client_certs` and `tls_require_and_verify_client_cert` cannot both \
                 be set"
                    .to_owned(),
            );
        }
        (true, false, None) => {
            return Err(
                "`tls_require_and_verify_client_cert` needs `tls_client_ca_file`".to_owned(),
            );
        }
        (true, false, Some(authorities)) => ClientCertificates::Required(authorities),
        (false, true, _) => ClientCertificates::Unasked,
        (false, false, _) => ClientCertificates::Any,
    };
    let missing =
        |name: &str| format!("`{name}` of a listener is missing, and TLS is not disabled");
    Ok(Encryption::Tls {
        certificate: certificate.ok_or_else(|| missing("tls_cert_file"))?,
        key: key.ok_or_else(|| missing("tls_key_file"))?,
        clients,
    })
}
