use super::*;

fn facts() -> EntityFacts {
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    EntityFacts {
        id: "e1".into(),
        name: "ada".into(),
        metadata: map("team.name", "blue"),
        aliases: BTreeMap::from([(
            "auth_userpass_1".into(),
            AliasFacts {
                id: "a1".into(),
                name: "ada.l".into(),
                metadata: map("username", "ada.l"),
                custom_metadata: map("desk", "7"),
            },
        )]),
        groups: vec![GroupFacts {
            id: "g1".into(),
            name: "ops.eu".into(),
            metadata: map("cost", "42"),
        }],
        ..EntityFacts::default()
    }
}

#[test]
fn a_template_stands_for_what_is_known_of_the_entity_and_for_nothing_else() {
    let facts = facts();
    for (template, expect) in [
        ("identity.entity.id", Some("e1")),
        ("identity.entity.name", Some("ada")),
        ("identity.entity.metadata.team.name", Some("blue")),
        ("identity.entity.metadata.other", None),
        ("identity.entity.aliases.auth_userpass_1.id", Some("a1")),
        (
            "identity.entity.aliases.auth_userpass_1.name",
            Some("ada.l"),
        ),
        (
            "identity.entity.aliases.auth_userpass_1.metadata.username",
            Some("ada.l"),
        ),
        (
            "identity.entity.aliases.auth_userpass_1.custom_metadata.desk",
            Some("7"),
        ),
        ("identity.entity.aliases.auth_userpass_2.name", None),
        ("identity.groups.ids.g1.name", Some("ops.eu")),
        ("identity.groups.ids.g1.metadata.cost", Some("42")),
        ("identity.groups.ids.g2.name", None),
        ("identity.groups.names.ops.eu.id", Some("g1")),
        ("identity.groups.names.ops.eu.metadata.cost", Some("42")),
        ("identity.groups.names.ops.id", None),
        ("entity.id", None),
        ("identity.entity", None),
    ] {
        assert_eq!(facts.value(template), expect, "{template}");
    }
}
