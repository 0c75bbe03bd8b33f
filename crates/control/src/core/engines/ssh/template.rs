//! Texts with `{{…}}` in them, filled from whoever asks.

use crate::core::engine::Context;

/// Longest text that a template becomes, in bytes.
const FILLED_BYTES_MAX: usize = 1024;

/// Fills a text; `None` if it is malformed or something in it stands for nothing.
pub fn fill<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}")?;
        filled.push_str(before);
        filled.push_str(value(name.trim())?);
        rest = after;
        if FILLED_BYTES_MAX < filled.len() {
            return None;
        }
    }
    filled.push_str(rest);
    (filled.len() <= FILLED_BYTES_MAX).then_some(filled)
}

/// Fills a text from the entity that asks.
pub fn of_entity(ctx: &Context<'_, '_>, text: &str) -> Option<String> {
    fill(text, |name| {
        ctx.entity.and_then(|entity| entity.value(name))
    })
}

/// Returns the items of a list with commas; each is filled by itself, so that a comma or a star in a
/// value stays part of that value. Items that stand for nothing are left out.
pub fn items(ctx: &Context<'_, '_>, list: &str, templated: Templated) -> Vec<Item> {
    split(list)
        .filter_map(|item| match templated {
            Templated::Yes if item.contains("{{") => of_entity(ctx, item).map(Item::Exactly),
            Templated::Yes | Templated::No if item == "*" => Some(Item::Everything),
            Templated::Yes | Templated::No => Some(Item::Exactly(item.to_owned())),
        })
        .collect()
}

/// Returns the items of a list with commas.
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Whether a list holds templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Templated {
    /// Its items are filled.
    Yes,
    /// They are what they are.
    No,
}

impl From<bool> for Templated {
    fn from(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }
}

/// An item of a list of what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The operator wrote a star.
    Everything,
    /// This and nothing else.
    Exactly(String),
}
