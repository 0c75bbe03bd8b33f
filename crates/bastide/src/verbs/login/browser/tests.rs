use super::*;

#[test]
fn a_browser_comes_back_by_query_or_form_and_nothing_else_counts() {
    let back = |fields: &[(&str, &str)]| {
        let fields = fields.iter();
        Read::Back(
            fields
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    };
    let posted = "POST /oidc/callback HTTP/1.1\r\nContent-Length: 12\r\n\r\nstate=s&a=b+";
    for (text, read) in [
        (
            "GET /oidc/callback?state=s%2F1&code=a+b HTTP/1.1\r\nHost: localhost\r\n\r\n",
            back(&[("state", "s/1"), ("code", "a b")]),
        ),
        ("GET /oidc/callback HTTP/1.1\r\n\r\n", back(&[])),
        (posted, back(&[("state", "s"), ("a", "b ")])),
        (&posted[..posted.len() - 1], Read::Part),
        ("GET /oidc/callback?state=s HTTP/1.1\r\n", Read::Part),
        ("", Read::Part),
        ("GET / HTTP/1.1\r\n\r\n", Read::Elsewhere),
        ("GET /favicon.ico HTTP/1.1\r\n\r\n", Read::Elsewhere),
        (
            "GET /oidc/callback/?state=s HTTP/1.1\r\n\r\n",
            Read::Elsewhere,
        ),
        (
            "PUT /oidc/callback?state=s HTTP/1.1\r\n\r\n",
            Read::Elsewhere,
        ),
        ("GET /oidc/callback?state=s\r\n\r\n", Read::Elsewhere),
        (
            "GET /oidc/callback?state=%zz HTTP/1.1\r\n\r\n",
            Read::Elsewhere,
        ),
        // Which of two is meant, nobody can say.
        (
            "GET /oidc/callback?state=s&state=t HTTP/1.1\r\n\r\n",
            Read::Elsewhere,
        ),
        (
            "POST /oidc/callback HTTP/1.1\r\n\r\nstate=s",
            Read::Elsewhere,
        ),
        (
            "POST /oidc/callback HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
            Read::Elsewhere,
        ),
        ("\u{1f}\u{8b}\r\n\r\n", Read::Elsewhere),
    ] {
        assert_eq!(parse(text.as_bytes()), read, "{text:?}");
    }
    assert_eq!(parse(b"\xff\xfe\r\n\r\n"), Read::Elsewhere);
}
