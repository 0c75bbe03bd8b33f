//! The authority's key: made here or brought along, and kept ready to sign.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use bastide_api::Secret;
use bastide_pki::ssh::{KeyKind, PrivateKey, PublicKey, SshSigner};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroize;

use crate::core::engine::{Call, Context};
use crate::core::mounts::MountId;
use crate::core::refusal::Refusal;
use crate::core::reply::{Answer, Raw, Reply};

/// Where the key stands.
const AT: &str = "ca";
/// Most authorities whose keys are kept ready; beyond it all are read anew.
const READY_MAX: usize = 64;

/// The key, as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// In OpenSSH's form.
    private: String,
    /// A line.
    public: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

/// Keys that are ready to sign, by mount, each with the digest of the stored bytes that it was made
/// of: what is stored decides, this only saves the reading. It goes with the plane when the server is
/// sealed.
#[derive(Default)]
pub struct Ready(Mutex<BTreeMap<MountId, Parsed>>);

/// A key that is ready, and the digest of what it was read from.
struct Parsed {
    of: [u8; 32],
    signer: Arc<SshSigner>,
}

impl Ready {
    /// Returns the authority of this mount, ready to sign.
    pub fn signer(&self, ctx: &mut Context<'_, '_>) -> Result<Arc<SshSigner>, Refusal> {
        let stored = ctx.get(AT)?.ok_or_else(absent)?;
        let now: [u8; 32] = digest(&SHA256, stored.expose())
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parsed) = known.get(&ctx.mount.id)
            && parsed.of == now
        {
            return Ok(Arc::clone(&parsed.signer));
        }
        let parsed: Stored = serde_json::from_slice(stored.expose())
            .map_err(|error| Refusal::corrupt("SSH authority", error))?;
        let corrupt = |error| Refusal::corrupt("SSH authority", error);
        let key = PrivateKey::parse(&parsed.private).map_err(corrupt)?;
        let signer = Arc::new(SshSigner::new(&key).map_err(corrupt)?);
        if READY_MAX <= known.len() {
            known.clear();
        }
        let ready = Parsed {
            of: now,
            signer: Arc::clone(&signer),
        };
        known.insert(ctx.mount.id, ready);
        Ok(signer)
    }
}

fn absent() -> Refusal {
    Refusal::invalid("keys haven't been configured yet")
}

/// Returns the authority's public key, as a line, if there is one.
pub fn public_line(ctx: &mut Context<'_, '_>) -> Result<Option<String>, Refusal> {
    let stored: Option<Stored> = ctx.load(AT)?;
    Ok(stored.map(|stored| stored.public.clone()))
}

pub fn read(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let line = public_line(ctx)?.ok_or_else(absent)?;
    Ok(Answer::json(json!({ "public_key": format!("{line}\n") })))
}

pub fn public_key(ctx: &mut Context<'_, '_>) -> Result<Answer, Refusal> {
    let line = public_line(ctx)?.ok_or_else(absent)?;
    let raw = Raw {
        content_type: "text/plain",
        body: format!("{line}\n").into_bytes(),
    };
    Ok(Reply::Raw(raw).into())
}

pub fn delete(ctx: &mut Context<'_, '_>) -> Answer {
    ctx.delete(AT);
    Answer::done()
}

pub fn write(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let fields = call.fields();
    let given = |name| Ok::<_, Refusal>(fields.text(name)?.filter(|text| !text.is_empty()));
    let (private, public) = (given("private_key")?.map(Secret::new), given("public_key")?);
    let wanted = fields.flag("generate_signing_key")?;
    // Both keys without the flag are an import: some clients send nothing else.
    let generate = wanted.unwrap_or(private.is_none() && public.is_none());
    if ctx.get(AT)?.is_some() {
        return Err(Refusal::invalid(
            "keys are already configured; delete them before reconfiguring",
        ));
    }
    if generate {
        if private.is_some() || public.is_some() {
            return Err(Refusal::invalid(
                "public_key and private_key must not be set when generate_signing_key is set to true",
            ));
        }
        let kind = fields.text("key_type")?.unwrap_or_default();
        let key = generated(ctx, &kind, fields.count("key_bits")?.unwrap_or(0))?;
        let line = store(ctx, &key)?;
        return Ok(Answer::json(json!({ "public_key": format!("{line}\n") })));
    }
    let missing = |name: &str| {
        Refusal::invalid(format!(
            "missing {name}: give both keys, or set generate_signing_key"
        ))
    };
    let private = private.ok_or_else(|| missing("private_key"))?;
    let public = public.ok_or_else(|| missing("public_key"))?;
    let wrong = |error| Refusal::invalid(format!("could not parse private_key: it {error}"));
    let key = PrivateKey::parse(private.expose()).map_err(wrong)?;
    let public = PublicKey::parse(&public)
        .map_err(|error| Refusal::invalid(format!("could not parse public_key: it {error}")))?;
    SshSigner::new(&key).map_err(wrong)?;
    if key.public().map_err(wrong)? != public {
        return Err(Refusal::invalid(
            "public_key does not belong to private_key",
        ));
    }
    check_strength(&public)?;
    store(ctx, &key)?;
    Ok(Answer::done())
}

/// Refuses an authority whose certificates `sshd` refuses.
fn check_strength(public: &PublicKey) -> Result<(), Refusal> {
    if public.kind() == KeyKind::Rsa && public.bits() < 2048 {
        return Err(Refusal::invalid("an RSA authority has at least 2048 bits"));
    }
    Ok(())
}

fn store(ctx: &mut Context<'_, '_>, key: &PrivateKey) -> Result<String, Refusal> {
    let failed = |error| Refusal::Internal(format!("the key {error}"));
    let line = key.public().map_err(failed)?.to_line();
    let check = u32::from_be_bytes(ctx.entropy().bytes());
    let private = key.to_openssh("", check).map_err(failed)?;
    let stored = Stored {
        format: 1,
        private: private.expose().clone(),
        public: line.clone(),
    };
    ctx.save(AT, &stored)?;
    Ok(line)
}

/// Makes a key of a kind as Vault names them; `bits` 0 is the kind's own.
pub fn generated(ctx: &mut Context<'_, '_>, kind: &str, bits: u64) -> Result<PrivateKey, Refusal> {
    let unfit = || Refusal::invalid(format!("no keys of type `{kind}` with {bits} bits"));
    let curve = match (kind, bits) {
        ("ec", 0 | 256) | ("ecdsa-sha2-nistp256", 0 | 256) => Some(KeyKind::Ecdsa256),
        ("ec", 384) | ("ecdsa-sha2-nistp384", 0 | 384) => Some(KeyKind::Ecdsa384),
        ("ec", 521) | ("ecdsa-sha2-nistp521", 0 | 521) => Some(KeyKind::Ecdsa521),
        _ => None,
    };
    if let Some(curve) = curve {
        let drawn = PrivateKey::ecdsa(curve, |bytes| ctx.entropy().fill(bytes));
        return drawn.map_err(|_| unfit());
    }
    match (kind, bits) {
        ("ssh-ed25519" | "ed25519", 0 | 256) => Ok(PrivateKey::ed25519(ctx.entropy().bytes())),
        ("" | "ssh-rsa" | "rsa", 0 | 2048 | 3072 | 4096) => {
            let bits = match bits {
                2048 => 2048,
                3072 => 3072,
                _ => 4096,
            };
            let der = ctx.rsa_key(bits)?;
            PrivateKey::from_der(der.expose())
                .map_err(|error| Refusal::Internal(format!("the RSA key {error}")))
        }
        _ => Err(unfit()),
    }
}
