use std::path::PathBuf;
use std::time::Duration;

use super::{
    ClientCertificates, Compat, Config, Encryption, ListenerSettings, Storage, Ttls, parse,
};

fn read(text: &str) -> Result<Config, String> {
    parse(&[("vault.hcl".to_owned(), text.to_owned())]).map_err(|error| error.to_string())
}

fn read_ok(text: &str) -> Config {
    read(text).unwrap_or_else(|error| panic!("{error}"))
}

const HCL: &str = r#"
// As Vault's own clients are tested with.
backend "inmem" {
}
listener "tcp" {
  address = "127.0.0.1:8201"
  tls_cert_file = "server-cert.pem"
  tls_key_file  = "server-key.pem"
}
disable_mlock = true
default_lease_ttl = "1h"
max_lease_ttl = "768h"
"#;

const JSON: &str = r#"{
  "backend": {"inmem": {}},
  "listener": {"tcp": {
    "address": "127.0.0.1:8201",
    "tls_cert_file": "server-cert.pem",
    "tls_key_file": "server-key.pem"
  }},
  "disable_mlock": true,
  "default_lease_ttl": "1h",
  "max_lease_ttl": "768h"
}"#;

#[test]
fn both_languages_say_the_same() {
    let config = read_ok(HCL);
    assert_eq!(config, read_ok(JSON));
    let listener = ListenerSettings {
        address: "127.0.0.1:8201".to_owned(),
        encryption: Encryption::Tls {
            certificate: PathBuf::from("server-cert.pem"),
            key: PathBuf::from("server-key.pem"),
            clients: ClientCertificates::Any,
        },
        request_bytes_max: None,
    };
    assert_eq!(config.listeners, [listener]);
    assert_eq!(config.storage, Storage::Memory);
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let ttls = Ttls {
        default: hours(1),
        max: hours(768),
    };
    assert_eq!(config.ttls, ttls);
    assert_eq!(config.compat, Compat::Strict);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn lists_of_blocks_are_each_a_block() {
    let config = read_ok(
        r#"{"storage": [{"raft": {"path": "/srv/store", "node_id": "one"}}],
            "listener": [{"tcp": [{"tls_disable": 1}, {"address": ":1", "tls_disable": "true"}]}],
            "compat": "vault", "pid_file": "/run/it.pid", "log_level": "debug",
            "cluster_name": "here"}"#,
    );
    let addresses: Vec<_> = config.listeners.iter().map(|it| &it.address[..]).collect();
    assert_eq!(addresses, ["127.0.0.1:8200", ":1"]);
    assert_eq!(config.listeners[1].encryption, Encryption::Disabled);
    assert_eq!(config.storage, Storage::Folder("/srv/store".into()));
    assert_eq!(config.compat, Compat::Vault);
    assert_eq!(config.pid_file, Some("/run/it.pid".into()));
    assert_eq!(config.log_level.as_deref(), Some("debug"));
    assert_eq!(config.cluster_name.as_deref(), Some("here"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn what_means_nothing_here_is_told_with_its_place() {
    let text = "storage \"inmem\" {}\nlistener \"tcp\" {\n tls_disable = true\n colour = \"red\"\n}\n\
                plugin_directory = \"/p\"\nui = true\nnonsense = 1\n";
    let warnings = read_ok(text).warnings;
    assert_eq!(
        warnings,
        [
            "unknown or unsupported field listener tcp colour found in configuration at \
             vault.hcl:2",
            "vault.hcl:6: `plugin_directory` has no effect here",
            "vault.hcl:7: no user interface is served",
            "unknown or unsupported field nonsense found in configuration at vault.hcl:8",
        ]
    );
}

#[test]
fn how_large_a_request_may_be_is_as_the_file_says_and_never_without_a_bound() {
    let read = |size: &str| {
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\ntls_disable = true\nmax_request_size = \
             {size}\n}}\n"
        );
        let config = read_ok(&text);
        (config.listeners[0].request_bytes_max, config.warnings.len())
    };
    assert_eq!(read("0"), (None, 0));
    assert_eq!(read("\"\""), (None, 0));
    assert_eq!(read("65536"), (Some(65_536), 0));
    assert_eq!(read("\"33554432\""), (Some(32 << 20), 0));
    assert_eq!(read("33554433"), (Some(32 << 20), 1));
    assert_eq!(read("-1"), (Some(32 << 20), 1));
    let text = "storage \"inmem\" {}\nlistener \"tcp\" {\ntls_disable = true\n\
                max_request_size = \"much\"\n}\n";
    let refused = parse(&[("vault.hcl".to_owned(), text.to_owned())]).unwrap_err();
    assert!(refused.to_string().contains("no whole number"), "{refused}");
}

#[test]
fn what_would_make_a_server_less_safe_than_its_file_says_is_refused() {
    let with = |line: &str| format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n{line}\n}}\n");
    for (text, part) in [
        (String::new(), "no `listener`"),
        (
            "listener \"tcp\" { tls_disable = true }".to_owned(),
            "`storage`",
        ),
        (with(""), "`tls_cert_file` of a listener is missing"),
        (with("tls_disable = \"maybe\""), "neither true nor false"),
        (
            with("tls_disable = true\nproxy_protocol_behavior = \"use_always\""),
            "`proxy_protocol_behavior` is not served",
        ),
        (
            with("tls_require_and_verify_client_cert = true"),
            "needs `tls_client_ca_file`",
        ),
        (with("tls_max_version = \"tls12\""), "TLS 1.3 alone"),
        (
            "storage \"consul\" {}\nlistener \"tcp\" { tls_disable = true }".to_owned(),
            "line 1: Unknown storage type consul",
        ),
        (
            "listener \"unix\" {}".to_owned(),
            "unknown listener type: unix",
        ),
        ("seal \"awskms\" {}".to_owned(), "unknown seal type awskms"),
        (
            "ha_storage \"raft\" {}".to_owned(),
            "`ha_storage` is not served",
        ),
        (
            "compat = \"all\"".to_owned(),
            "compat is `vault` or `strict`",
        ),
        (
            "default_lease_ttl = \"10ms\"".to_owned(),
            "shorter than a second",
        ),
        ("{\"a\":".to_owned(), "not valid JSON"),
        ("listener \"tcp\" {".to_owned(), "line 1"),
        (
            with("tls_disable = true") + "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"",
            "default_lease_ttl is longer than max_lease_ttl",
        ),
    ] {
        let error = read(&text).expect_err(&text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_later_file_wins_and_listeners_add_up() {
    let files = [
        ("a.hcl".to_owned(), HCL.to_owned()),
        (
            "b.json".to_owned(),
            r#"{"storage": {"file": {"path": "/srv"}}, "max_lease_ttl": 7200,
                "listener": {"tcp": {"address": "[::1]:1", "tls_disable": true}}}"#
                .to_owned(),
        ),
    ];
    let config = parse(&files).unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.storage, Storage::Folder("/srv".into()));
    assert_eq!(config.ttls.max, Duration::from_secs(7200));
    // A time of zero is none, and never one without end.
    let zero = (
        "c.hcl".to_owned(),
        "default_lease_ttl = 0\nmax_lease_ttl = \"0s\"".to_owned(),
    );
    let config = parse(&[files[0].clone(), zero]).unwrap();
    assert_eq!(config.ttls, Ttls::default());
}

#[test]
fn when_names_are_locked_is_said_for_all_methods_or_for_a_kind() {
    let with = |more: &str| read(&format!("{HCL}\n{more}"));
    let text = r#"
        user_lockout "all" { lockout_threshold = "9" lockout_duration = "10m" }
        user_lockout "ldap" { disable_lockout = true lockout_counter_reset = "1h" }
    "#;
    let config = with(text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let all = config.lockouts["all"];
    assert_eq!((all.threshold, all.duration), (Some(9), Some(600)));
    let ldap = config.lockouts["ldap"];
    assert_eq!((ldap.disabled, ldap.reset), (Some(true), Some(3600)));
    for wrong in [
        r#"user_lockout "all" { lockout_threshold = 0 }"#,
        r#"user_lockout "all" { lockout_duration = "0s" }"#,
        r#"user_lockout "saml" { lockout_threshold = 5 }"#,
    ] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
}
