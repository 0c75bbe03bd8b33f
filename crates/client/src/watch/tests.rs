use proptest::prelude::*;

use super::*;

fn all(lines: &mut Lines) -> Vec<String> {
    std::iter::from_fn(|| lines.next().unwrap())
        .map(|line| String::from_utf8(line).unwrap())
        .collect()
}

#[test]
fn lines_are_cut_wherever_the_pieces_end() {
    let mut lines = Lines::new(100);
    lines.feed(b"one\ntw");
    assert_eq!(all(&mut lines), ["one"]);
    assert!(all(&mut lines).is_empty());
    lines.feed(b"o\n\n\nthree\nfour");
    assert_eq!(all(&mut lines), ["two", "three"]);
    lines.feed(b"\n");
    assert_eq!(all(&mut lines), ["four"]);
    assert_eq!(
        lines.buffer, b"four\n",
        "what was given out before is let go"
    );
}

#[test]
fn a_line_that_does_not_end_is_given_up() {
    let mut lines = Lines::new(4);
    lines.feed(b"1234");
    assert_eq!(lines.next(), Ok(None));
    lines.feed(b"5");
    assert_eq!(lines.next(), Err(TooLong));
    let mut lines = Lines::new(4);
    lines.feed(b"12345\n");
    assert_eq!(lines.next(), Err(TooLong), "nor is one that is whole");
}

proptest! {
    #[test]
    fn however_bytes_are_cut_the_same_lines_come_out(
        text in "[a-c\n]{0,60}", cuts in proptest::collection::vec(1_usize..7, 1..40)
    ) {
        let expected: Vec<_> = match text.rsplit_once('\n') {
            Some((whole, _)) => whole.split('\n').filter(|line| !line.is_empty()).collect(),
            None => Vec::new(),
        };
        let (mut lines, mut found, mut rest) = (Lines::new(1000), Vec::new(), text.as_bytes());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            lines.feed(head);
            found.extend(all(&mut lines));
            rest = tail;
        }
        prop_assert_eq!(found, expected);
    }
}
