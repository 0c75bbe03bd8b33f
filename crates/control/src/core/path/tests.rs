use super::*;

#[test]
fn a_path_has_one_spelling() {
    let path = ApiPath::decode("secret/data/a%20b/c").unwrap();
    assert_eq!(
        (path.as_str(), path.is_folder()),
        ("secret/data/a b/c", false)
    );
    let path = ApiPath::decode("secret/metadata/").unwrap();
    assert_eq!((path.as_str(), path.is_folder()), ("secret/metadata", true));
    // A slash that was encoded is a slash: decoding happens once, before anything is compared.
    assert_eq!(
        ApiPath::decode("a%2Fb").unwrap(),
        ApiPath::parse("a/b").unwrap()
    );
    assert_eq!(ApiPath::decode("a%252Fb").unwrap().as_str(), "a%2Fb");
}

#[test]
fn a_path_that_climbs_or_hides_is_refused() {
    fn check(raw: &str, expected: PathError) {
        assert_eq!(ApiPath::decode(raw).unwrap_err(), expected, "{raw:?}");
    }
    check("a/../b", PathError::Relative);
    check("a/%2e%2e/b", PathError::Relative);
    check("a/./b", PathError::Relative);
    check("a//b", PathError::EmptySegment);
    check("/a", PathError::EmptySegment);
    check("a//", PathError::EmptySegment);
    check("a/b%00", PathError::Character);
    check("a/%0ab", PathError::Character);
    check("a\\b", PathError::Character);
    check("a%zz", PathError::Encoding);
    check("a%f", PathError::Encoding);
    check("a%ff", PathError::Encoding);
    check("", PathError::Empty);
    check("/", PathError::Empty);
    check(&"a".repeat(PATH_BYTES_MAX + 1), PathError::TooLong);
}

#[test]
fn a_mount_holds_what_lies_below_it_and_itself() {
    let mount = MountPath::parse("team/kv").unwrap();
    let below = |path: &str| {
        mount
            .below(&ApiPath::parse(path).unwrap())
            .map(str::to_owned)
    };
    assert_eq!(below("team/kv/data/x").as_deref(), Some("data/x"));
    assert_eq!(below("team/kv").as_deref(), Some(""));
    assert_eq!(below("team/kvx/data"), None);
    assert_eq!(below("team"), None);
}
