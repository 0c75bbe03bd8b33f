use super::*;

const SUM: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn check(text: &str, expect: Result<(&str, Option<&str>, bool), ImageRefError>) {
    let got = text.parse::<ImageRef>();
    let seen = got
        .as_ref()
        .map(|image| (image.name(), image.tag(), image.digest().is_some()))
        .map_err(|error| *error);
    assert_eq!(seen, expect, "{text:?}");
    if let Ok(image) = got {
        assert_eq!(image.to_string(), text);
    }
}

#[test]
fn names_tags_and_digests_are_told_apart() {
    check("hello", Ok(("hello", None, false)));
    check("hello:1.2", Ok(("hello", Some("1.2"), false)));
    check("library/hello:1", Ok(("library/hello", Some("1"), false)));
    check(
        "registry.example:5000/a/b:t",
        Ok(("registry.example:5000/a/b", Some("t"), false)),
    );
    check("localhost:5000/a", Ok(("localhost:5000/a", None, false)));
    check(&format!("hello@{SUM}"), Ok(("hello", None, true)));
    check(
        &format!("127.0.0.1:5443/hello:1@{SUM}"),
        Ok(("127.0.0.1:5443/hello", Some("1"), true)),
    );
}

#[test]
fn what_is_not_a_name_is_refused() {
    let name = Err(ImageRefError::Name);
    check("", name);
    check("Hello", name);
    check("a//b", name);
    check("/a", name);
    check("a/", name);
    check("../a", name);
    check("a/../b", name);
    check("a b", name);
    check("-a", name);
    check("host.example:99999/a", name);
    check("host.example:+1/a", name);
    check(&"a".repeat(256), name);
    check("hello:", Err(ImageRefError::Tag));
    check("hello:-x", Err(ImageRefError::Tag));
    check(
        &format!("hello:{}", "a".repeat(129)),
        Err(ImageRefError::Tag),
    );
    check("hello@sha256:00", Err(ImageRefError::Digest(DigestError)));
    check(
        &format!("hello@{}", SUM.to_uppercase()),
        Err(ImageRefError::Digest(DigestError)),
    );
}

#[test]
fn an_image_moves_to_another_registry_by_digest_alone() {
    let image: ImageRef = "registry.example/team/hello:1".parse().unwrap();
    let here = "127.0.0.1:5443".parse().unwrap();
    let moved = image.at(here, SUM.parse().unwrap());
    assert_eq!(
        moved.to_string(),
        format!("127.0.0.1:5443/team/hello@{SUM}")
    );
    assert_eq!(moved.to_string().parse::<ImageRef>(), Ok(moved));
}
