use std::ffi::OsString;

use bastide_api::Secret;
use clap::{CommandFactory, Parser};

use super::{Operator, Vault, VaultVerb, decoded, doubled};

fn parse(line: &str) -> Vault {
    let arguments = line.split(' ').map(|it| doubled(OsString::from(it)));
    Vault::try_parse_from(arguments).unwrap()
}

#[test]
fn options_may_have_one_dash_or_two() {
    Vault::command().debug_assert();
    assert!(parse("vault -version").version);
    assert!(parse("vault --version").version);
    for line in [
        "vault server -config=a.json",
        "vault server --config a.json",
    ] {
        let Some(VaultVerb::Server(server)) = parse(line).verb else {
            panic!("{line}");
        };
        assert_eq!(server.config, [std::path::PathBuf::from("a.json")]);
    }
}

#[test]
fn a_generated_root_token_is_decoded_by_its_password() {
    let line =
        "vault operator generate-root -address https://h:1 -tls-skip-verify -decode AgQG -otp abc";
    let Some(VaultVerb::Operator(Operator::GenerateRoot(asked))) = parse(line).verb else {
        panic!("{line}");
    };
    let otp = Secret::new(asked.otp);
    let token = decoded(&asked.decode, &otp).unwrap();
    assert_eq!(token.expose(), "cfe");
    assert!(decoded("AgQGAA", &otp).is_none());
    assert!(decoded("?", &otp).is_none());
}
