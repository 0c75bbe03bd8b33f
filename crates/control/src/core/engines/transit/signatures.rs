//! Signatures and HMACs: made and verified.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::batch::{Item, Items, Results, Shows, base64};
use super::cipher::{TOO_OLD, put_together, take_apart};
use super::fault::Fault;
use super::hashes::{self, DEFAULT, Hash};
use super::sign::{Manner, parse_signature};
use super::used::Used;
use super::{NOT_FOUND, Transit};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

impl Transit {
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
        items.fit(kind)?;
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
        items.fit(kind)?;
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
