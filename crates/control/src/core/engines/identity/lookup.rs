//! `identity/lookup`: who has this name, id or alias.

use crate::core::engine::{Call, Context};
use crate::core::engines::identity::names::alias_name;
use crate::core::engines::identity::stored::AliasId;
use crate::core::engines::identity::{register, shown};
use crate::core::refusal::Refusal;
use crate::core::reply::Answer;

/// By what is looked up.
enum By {
    Name(String),
    Id(String),
    Alias(String),
    Factors(String, String),
}

fn criteria(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<By, Refusal> {
    let fields = call.fields();
    let text = |name: &str| {
        fields
            .text(name)
            .map(|text| text.filter(|text| !text.is_empty()))
    };
    if let Some(id) = text("id")? {
        return Ok(By::Id(id));
    }
    if let Some(name) = text("name")? {
        return Ok(By::Name(name));
    }
    if let Some(id) = text("alias_id")? {
        return Ok(By::Alias(id));
    }
    match (text("alias_name")?, text("alias_mount_accessor")?) {
        (Some(name), Some(accessor)) => {
            let mounts = ctx.draft.mounts()?;
            let mount = mounts.mounts.values().find(|it| it.accessor == accessor);
            let kind = mount.map_or("", |mount| mount.kind.as_str());
            Ok(By::Factors(accessor, alias_name(kind, &name)?))
        }
        (None, None) => Err(Refusal::invalid("query parameters not supplied")),
        (Some(_), None) => Err(Refusal::invalid("missing alias_mount_accessor")),
        (None, Some(_)) => Err(Refusal::invalid("missing alias_name")),
    }
}

pub(super) fn entity(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let by = criteria(ctx, call)?;
    let mut register = register(ctx);
    let found = match by {
        By::Name(name) => register.entity_named(&name)?,
        By::Id(id) => register.entity_by_id(&id)?,
        By::Alias(id) => match AliasId::parse(&id) {
            Some(id) => register.entity_of_alias(&id)?,
            None => None,
        },
        By::Factors(accessor, name) => register.entity_by(&accessor, &name)?,
    };
    match found {
        Some(entity) => Ok(Answer::json(shown::entity(&mut register, &entity)?)),
        None => Ok(Answer::done()),
    }
}

pub(super) fn group(ctx: &mut Context<'_, '_>, call: &Call<'_>) -> Result<Answer, Refusal> {
    let by = criteria(ctx, call)?;
    let mut register = register(ctx);
    let found = match by {
        By::Name(name) => register.group_named(&name)?,
        By::Id(id) => register.group_by_id(&id)?,
        By::Alias(id) => match AliasId::parse(&id) {
            Some(id) => register.group_of_alias(&id)?,
            None => None,
        },
        By::Factors(accessor, name) => register.group_by(&accessor, &name)?,
    };
    let mounts = register.draft.mounts()?;
    match found {
        Some(group) => Ok(Answer::json(shown::group(&mounts, &group))),
        None => Ok(Answer::done()),
    }
}
