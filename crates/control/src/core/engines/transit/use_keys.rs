//! What is done with keys: one item, or a batch of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::batch::{Item, Items, Results, Shows, base64};
use super::cipher::{
    Around, Sealed, TOO_OLD, put_together, sealed_shown, take_apart, takes_associated,
};
use super::fault::Fault;
use super::hashes::{self, DEFAULT, Hash};
use super::kind::Kind;
use super::material::Material;
use super::named::{Named, Wanted};
use super::sign::{Manner, parse_signature};
use super::stored::Config;
use super::{Transit, check_name, fits};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

const NOT_FOUND: &str = "encryption key not found";

/// The versions' keys that a request uses, each with how often.
#[derive(Default)]
struct Used(BTreeMap<u32, (Arc<Material>, u64)>);

impl Used {
    fn get(
        &mut self,
        ctx: &mut Context<'_, '_>,
        named: &Named<'_>,
        version: u32,
    ) -> Result<Arc<Material>, Refusal> {
        if let Some((known, times)) = self.0.get_mut(&version) {
            *times += 1;
            return Ok(Arc::clone(known));
        }
        let found = named.material(ctx, version)?;
        self.0.insert(version, (Arc::clone(&found), 1));
        Ok(found)
    }

    fn counts(self) -> Vec<(u32, Arc<Material>, u64)> {
        let each = self.0.into_iter();
        each.map(|(version, (material, times))| (version, material, times))
            .collect()
    }
}

/// Reads what comes with a text.
fn around(item: Item<'_>, number: usize, kind: Kind) -> Result<Result<Around, Fault>, Refusal> {
    let (context, associated) = (item.text("context")?, item.text("associated_data")?);
    let read = || {
        takes_associated(kind, number, associated)?;
        Ok(Around {
            context: base64(context)?,
            associated: base64(associated)?,
        })
    };
    Ok(read())
}

/// Refuses a nonce that the caller chose: whoever chooses one twice gives the key away
/// (CVE-2023-4680). Keys of the first convergent version, which took one, are not known here.
fn refuse_nonce(item: Item<'_>) -> Result<Result<(), Fault>, Refusal> {
    Ok(if item.text("nonce")?.is_empty() {
        Ok(())
    } else {
        Err(Fault::user("nonce provided when not allowed"))
    })
}

impl Transit {
    /// Reads the key to encrypt with; if it is not there, makes it, for whoever may create.
    fn to_encrypt(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        items: &Items<'_>,
        name: &str,
    ) -> Result<Named<'_>, Refusal> {
        if let Some(mut known) = Named::load(ctx, &self.cache, name)? {
            known.catch_up(ctx)?;
            return Ok(known);
        }
        let config: Config = ctx.load("config/keys")?.unwrap_or_default();
        if call.operation != Operation::Create || config.disable_upsert {
            return Err(Refusal::invalid(NOT_FOUND));
        }
        check_name(name)?;
        let fields = call.fields();
        let kind = super::kind_of(&fields.text("type")?.unwrap_or_default())?;
        if !kind.is_aead() {
            return Err(Refusal::invalid(format!(
                "key type {} not supported for this operation",
                kind.name()
            )));
        }
        let wanted = Wanted {
            derived: !items.items[0].text("context")?.is_empty(),
            convergent: fields.flag("convergent_encryption")?.unwrap_or(false),
            key_size: 32,
            ..Wanted::default()
        };
        if wanted.convergent && !wanted.derived {
            return Err(Refusal::invalid(
                "convergent encryption requires derivation to be enabled, so context is required",
            ));
        }
        fits(kind, &wanted)?;
        let mut named = Named::begin(ctx, &self.cache, name, kind, wanted);
        named.rotate(ctx)?;
        Ok(named)
    }

    pub(super) fn encrypt(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let items = Items::of(call)?;
        let has_context = !items.items[0].text("context")?.is_empty();
        for item in &items.items {
            item.required("plaintext", "missing plaintext to encrypt")?;
            if has_context == item.text("context")?.is_empty() {
                return Err(Refusal::invalid(
                    "context should be set either in all the request blocks or in none",
                ));
            }
        }
        let mut named = self.to_encrypt(ctx, call, &items, name)?;
        let mut used = Used::default();
        let mut results = Results::with_capacity(&items);
        for (number, item) in items.items.iter().enumerate() {
            results.push(encrypt_one(ctx, &named, &mut used, number, *item)?);
        }
        let warning = named.count(ctx, &used.counts())?;
        let answer = results.answer(call, &items, Shows::InStatus)?;
        Ok(match warning {
            Some(warning) => answer.warn(warning),
            None => answer,
        })
    }

    pub(super) fn decrypt(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let items = Items::of(call)?;
        for item in &items.items {
            let missing = "missing ciphertext to decrypt";
            let text = item.required("ciphertext", missing)?;
            if text.is_empty() && !items.is_batch {
                return Err(Refusal::invalid(missing));
            }
        }
        let named = self.known(ctx, name, NOT_FOUND)?;
        if named.ring.kind.rsa_bits().is_some() {
            items.are_few()?;
        }
        let mut used = Used::default();
        let mut results = Results::with_capacity(&items);
        for (number, item) in items.items.iter().enumerate() {
            let opened = decrypt_one(ctx, &named, &mut used, number, *item)?;
            results.push(opened.map(|plain| {
                let mut shown = Map::new();
                shown.insert("plaintext".into(), BASE64.encode(&plain).into());
                shown
            }));
        }
        results.answer(call, &items, Shows::InStatus)
    }

    pub(super) fn rewrap(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let items = Items::of(call)?;
        for item in &items.items {
            item.required("ciphertext", "missing ciphertext to decrypt")?;
        }
        let mut named = self.known(ctx, name, NOT_FOUND)?;
        named.catch_up(ctx)?;
        if named.ring.kind.rsa_bits().is_some() {
            items.are_few()?;
        }
        let (mut opening, mut sealing) = (Used::default(), Used::default());
        let mut results = Results::with_capacity(&items);
        for (number, item) in items.items.iter().enumerate() {
            let opened = decrypt_one(ctx, &named, &mut opening, number, *item)?;
            results.push(match opened {
                Err(fault) => Err(fault),
                Ok(plain) => seal_one(ctx, &named, &mut sealing, number, *item, &plain)?,
            });
        }
        let warning = named.count(ctx, &sealing.counts())?;
        let answer = results.answer(call, &items, Shows::InStatus)?;
        Ok(match warning {
            Some(warning) => answer.warn(warning),
            None => answer,
        })
    }

    pub(super) fn datakey(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        what: &str,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let shows = match what {
            "plaintext" => true,
            "wrapped" => false,
            _ => {
                return Err(Refusal::invalid(
                    "Invalid path, must be 'plaintext' or 'wrapped'",
                ));
            }
        };
        let bytes = match call.fields().int("bits")?.unwrap_or(256) {
            128 => 16,
            256 => 32,
            512 => 64,
            _ => return Err(Refusal::invalid("invalid bit length")),
        };
        let mut named = self.known(ctx, name, NOT_FOUND)?;
        named.catch_up(ctx)?;
        let mut key = Zeroizing::new(vec![0; bytes]);
        ctx.entropy().fill(&mut key);
        let one = Item::of(call);
        let mut used = Used::default();
        let sealed = seal_one(ctx, &named, &mut used, 0, one, &key)?;
        let mut shown = sealed?;
        if shows {
            shown.insert("plaintext".into(), BASE64.encode(&key).into());
        }
        named.count(ctx, &used.counts())?;
        Ok(Answer::data(shown))
    }

    pub(super) fn sign(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
        hash: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let manner = Manner::of(call, hash)?;
        let items = Items::of(call)?;
        let mut named = self.known(ctx, name, "signing key not found")?;
        named.catch_up(ctx)?;
        let kind = named.ring.kind;
        if !kind.signs() {
            return Err(Refusal::invalid(format!(
                "key type {} does not support signing",
                kind.name()
            )));
        }
        if kind.rsa_bits().is_some() {
            items.are_few()?;
        }
        let asked = call.fields().int("key_version")?.unwrap_or(0);
        let mut used = Used::default();
        let mut results = Results::with_capacity(&items);
        for item in &items.items {
            results.push(match input(*item, items.is_batch)? {
                Err(fault) => Err(fault),
                Ok((input, context)) => match named.ring.version_to("signing", asked) {
                    Err(fault) => Err(fault),
                    Ok(version) => {
                        let material = used.get(ctx, &named, version)?;
                        named.sign(&material, version, &manner, &context, &input)
                    }
                },
            });
        }
        results.answer(call, &items, Shows::InItems)
    }

    pub(super) fn verify(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
        hash: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let items = Items::of(call)?;
        if verifies_hmac(&items)? {
            return self.verify_hmac(ctx, call, name, hash, &items);
        }
        let manner = Manner::of(call, hash)?;
        let named = self.known(ctx, name, "signature verification key not found")?;
        let kind = named.ring.kind;
        if !kind.signs() {
            return Err(Refusal::invalid(format!(
                "key type {} does not support verification",
                kind.name()
            )));
        }
        if kind.rsa_bits().is_some() {
            items.are_few()?;
        }
        let mut used = Used::default();
        let mut results = Results::with_capacity(&items);
        for item in &items.items {
            let parsed = parse_signature(item.text("signature")?, manner.marshaling);
            let parsed = parsed
                .and_then(|(told, bytes)| Ok((named.ring.version_from("signature", told)?, bytes)));
            results.push(match (input(*item, items.is_batch)?, parsed) {
                (Err(fault), _) | (_, Err(fault)) => Err(fault),
                (Ok((input, context)), Ok((version, bytes))) => {
                    let material = used.get(ctx, &named, version)?;
                    let valid = named.verify(&material, &manner, &context, &input, &bytes);
                    valid.map(valid_shown)
                }
            });
        }
        results.answer(call, &items, Shows::InItems)
    }

    pub(super) fn hmac(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
        hash: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let items = Items::of(call)?;
        let hash = hmac_hash(call, hash)?;
        let named = self.known(ctx, name, NOT_FOUND)?;
        let asked = call.fields().int("key_version")?.unwrap_or(0);
        let version = match named.ring.version_to("HMAC", asked) {
            Ok(version) => version,
            Err(_) if 0 < asked && asked < i64::from(named.ring.encryption_min) => {
                return Err(Refusal::invalid(
                    "cannot generate HMAC: version is too old (disallowed by policy)",
                ));
            }
            Err(fault) => return Err(fault.into()),
        };
        let material = named.material(ctx, version)?;
        let mut results = Results::with_capacity(&items);
        for item in &items.items {
            let missing = "missing input for HMAC";
            let Some(text) = item.given("input")? else {
                if !items.is_batch {
                    return Err(Refusal::invalid(missing));
                }
                results.push(Err(Fault::user(missing)));
                continue;
            };
            results.push(decoded(text).map(|input| {
                let tag = hash.hmac(&material.hmac, &input).unwrap_or_default();
                let mut shown = Map::new();
                let text = put_together(version, &BASE64.encode(&tag));
                shown.insert("hmac".into(), text.into());
                shown
            }));
        }
        results.answer(call, &items, Shows::InItems)
    }

    fn verify_hmac(
        &self,
        ctx: &mut Context<'_, '_>,
        call: &Call<'_>,
        name: &str,
        hash: Option<&str>,
        items: &Items<'_>,
    ) -> Result<Answer, Refusal> {
        let hash = hmac_hash(call, hash)?;
        let named = self.known(ctx, name, NOT_FOUND)?;
        let mut used = Used::default();
        let mut results = Results::with_capacity(items);
        for item in &items.items {
            let parsed = take_apart(item.text("hmac")?, "HMAC to verify");
            let parsed = parsed.and_then(|(told, body)| {
                let version = named.ring.version_from("HMAC", told).map_err(|fault| {
                    if fault.text() == TOO_OLD {
                        Fault::user("cannot verify HMAC: version is too old (disallowed by policy)")
                    } else {
                        fault
                    }
                })?;
                let tag = base64(body).map_err(|fault| {
                    let why = fault.text();
                    Fault::User(format!(
                        "unable to decode verification HMAC as base64: {why}"
                    ))
                })?;
                Ok((version, tag))
            });
            results.push(match (input(*item, items.is_batch)?, parsed) {
                (Err(fault), _) | (_, Err(fault)) => Err(fault),
                (Ok((input, _)), Ok((version, told))) => {
                    let material = used.get(ctx, &named, version)?;
                    let tag = hash.hmac(&material.hmac, &input).unwrap_or_default();
                    Ok(valid_shown(hashes::equal(&tag, &told)))
                }
            });
        }
        results.answer(call, items, Shows::InItems)
    }
}

fn valid_shown(valid: bool) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("valid".into(), json!(valid));
    shown
}

/// Reads which hash an HMAC is made with.
fn hmac_hash(call: &Call<'_>, in_path: Option<&str>) -> Result<Hash, Refusal> {
    let fields = call.fields();
    let mut name = in_path.unwrap_or_default().to_owned();
    for field in ["algorithm", "hash_algorithm"] {
        if name.is_empty() {
            name = fields.text(field)?.unwrap_or_default();
        }
    }
    if name.is_empty() {
        DEFAULT.clone_into(&mut name);
    }
    Hash::parse(&name)
        .filter(|hash| *hash != Hash::None)
        .ok_or_else(|| Refusal::invalid(format!("unsupported algorithm {name:?}")))
}

/// Returns whether the items hold HMACs; all of them must hold the same.
fn verifies_hmac(items: &Items<'_>) -> Result<bool, Refusal> {
    let (mut signatures, mut hmacs, mut missing) = (false, false, false);
    for item in &items.items {
        let (signature, hmac) = (item.given("signature")?, item.given("hmac")?);
        signatures |= signature.is_some();
        hmacs |= hmac.is_some();
        missing |= signature.is_none() && hmac.is_none();
    }
    let refused = |text: &str| Err(Refusal::invalid(text));
    match (items.is_batch, signatures, hmacs, missing) {
        (false, true, true, _) => refused("provide one of 'signature' or 'hmac'"),
        (false, false, false, _) => {
            refused("neither a 'signature' nor an 'hmac' were given to verify")
        }
        (_, true, true, _) => {
            refused("elements of batch_input must all provide 'signature' or all provide 'hmac'")
        }
        (_, true, _, true) => refused("some elements of batch_input are missing 'signature'"),
        (_, _, true, true) => refused("some elements of batch_input are missing 'hmac'"),
        (_, _, _, true) => refused("no batch_input elements have 'signature' or 'hmac'"),
        (_, _, hmacs, false) => Ok(hmacs),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Fault> {
    base64(text).map_err(|fault| {
        Fault::User(format!(
            "unable to decode input as base64: {}",
            fault.text()
        ))
    })
}

/// What is signed, and the context to derive the key with.
type Input = (Vec<u8>, Vec<u8>);

/// Reads what is signed; missing, it is empty, except in a batch.
fn input(item: Item<'_>, is_batch: bool) -> Result<Result<Input, Fault>, Refusal> {
    let (input, context) = (item.given("input")?, item.text("context")?);
    if is_batch && input.is_none() {
        return Ok(Err(Fault::user("missing input")));
    }
    let read = || {
        let input = decoded(input.unwrap_or_default())?;
        let context =
            base64(context).map_err(|_| Fault::user("failed to base64-decode context"))?;
        Ok((input, context))
    };
    Ok(read())
}

type OneResult = Result<Result<Map<String, Value>, Fault>, Refusal>;

fn encrypt_one(
    ctx: &mut Context<'_, '_>,
    named: &Named<'_>,
    used: &mut Used,
    number: usize,
    item: Item<'_>,
) -> OneResult {
    match base64(item.text("plaintext")?) {
        Err(fault) => Ok(Err(fault)),
        Ok(plain) => seal_one(ctx, named, used, number, item, &Zeroizing::new(plain)),
    }
}

/// Seals a text with what came with an item.
fn seal_one(
    ctx: &mut Context<'_, '_>,
    named: &Named<'_>,
    used: &mut Used,
    number: usize,
    item: Item<'_>,
    plain: &[u8],
) -> OneResult {
    let kind = named.ring.kind;
    let around = match (refuse_nonce(item)?, around(item, number, kind)?) {
        (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
        (Ok(()), Ok(around)) => around,
    };
    let version = match named.ring.version_to("encryption", item.key_version()?) {
        Ok(version) => version,
        Err(fault) => return Ok(Err(fault)),
    };
    let material = used.get(ctx, named, version)?;
    let nonce = ctx.entropy().bytes();
    let sealed = named.seal(&material, version, &around, nonce, plain);
    Ok(sealed.map(|text| sealed_shown(text, version)))
}

fn decrypt_one(
    ctx: &mut Context<'_, '_>,
    named: &Named<'_>,
    used: &mut Used,
    number: usize,
    item: Item<'_>,
) -> Result<Result<Zeroizing<Vec<u8>>, Fault>, Refusal> {
    let kind = named.ring.kind;
    if !kind.encrypts() {
        let why = format!(
            "message decryption not supported for key type {}",
            kind.name()
        );
        return Ok(Err(Fault::User(why)));
    }
    let around = match (refuse_nonce(item)?, around(item, number, kind)?) {
        (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
        (Ok(()), Ok(around)) => around,
    };
    let parsed = Sealed::parse(item.text("ciphertext")?).and_then(|sealed| {
        let version = named.ring.version_from("ciphertext", sealed.version)?;
        Ok((version, sealed.bytes))
    });
    let (version, bytes) = match parsed {
        Ok(parsed) => parsed,
        Err(fault) => return Ok(Err(fault)),
    };
    let material = used.get(ctx, named, version)?;
    Ok(named.open(&material, &around, &bytes))
}
