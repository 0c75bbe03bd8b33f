//! Texts: encrypted, decrypted, rewrapped, and drawn as keys for somebody else's use.

use data_encoding::BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::batch::{Item, Items, Results, Shows, base64};
use super::cipher::{Around, Sealed, sealed_shown, takes_associated};
use super::fault::Fault;
use super::kind::Kind;
use super::named::{Named, Wanted};
use super::stored::Config;
use super::used::Used;
use super::{NOT_FOUND, Transit, check_name, fits};
use crate::core::engine::{Call, Context};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;
use crate::core::request::Operation;

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
        Ok(answer.warned(warning))
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
        items.fit(named.ring.kind)?;
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
        items.fit(named.ring.kind)?;
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
        Ok(answer.warned(warning))
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
