use super::*;

#[test]
fn the_oldest_api_that_both_sides_know_is_spoken() {
    let check = |min: Option<&str>, max: &str, expected: Option<ApiVersion>| {
        let parse = |text| ApiVersion::parse(text).unwrap();
        assert_eq!(
            choose(min.map(parse), parse(max)),
            expected,
            "{min:?} {max}"
        );
    };
    check(Some("1.12"), "1.41", Some(ApiVersion(1, 41)));
    check(Some("1.44"), "1.52", Some(ApiVersion(1, 44)));
    check(None, "1.43", Some(ApiVersion(1, 41)));
    check(Some("1.12"), "1.40", None);
}

#[test]
fn each_request_names_the_api_version_before_its_path() {
    let uri = "unix://2f72756e/services/create?x=1".parse().unwrap();
    let uri = versioned(&uri, ApiVersion(1, 41)).unwrap();
    assert_eq!(
        uri.path_and_query().unwrap().as_str(),
        "/v1.41/services/create?x=1"
    );
    assert_eq!(uri.host(), Some("2f72756e"));
}
