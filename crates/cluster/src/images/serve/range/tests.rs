use super::*;

#[test]
fn ranges_are_cut_to_what_is_there() {
    let part = |first, length| Some(Range::Part { first, length });
    let check = |text: &str, expect: Option<Range>| {
        assert_eq!(Range::read(text, 10), expect, "{text:?}");
    };
    check("bytes=0-3", part(0, 4));
    check("bytes=4-", part(4, 6));
    check("bytes=-3", part(7, 3));
    check("bytes=-30", part(0, 10));
    check("bytes=8-99", part(8, 2));
    check("bytes=10-", Some(Range::Unsatisfiable));
    check("bytes=5-4", Some(Range::Unsatisfiable));
    check("bytes=-0", Some(Range::Unsatisfiable));
    check("bytes=0-1,3-4", None);
    check("bytes=x-", None);
    check("lines=0-1", None);
    check("bytes=99999999999999999999-", None);
    assert_eq!(Range::read("bytes=0-0", 0), Some(Range::Unsatisfiable));
}
