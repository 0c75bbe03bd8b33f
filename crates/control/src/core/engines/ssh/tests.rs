mod otp;
mod revoked;

use bastide_pki::ssh::{CertificateKind, PrivateKey, Signed, read_certificate};
use serde_json::{Value, json};

use crate::core::engines::mesh::tests as cluster;
use crate::core::pipeline::Shape;
use crate::core::refusal::Refusal;
use crate::core::request::{Identity, Operation};
use crate::core::trial::{As, Trial, text};

/// A control plane with the engine at `ssh/` and an authority.
fn begin() -> Trial {
    let mut trial = cluster::begin("100.72.0.0/24");
    mount(&mut trial);
    trial
}

fn mount(trial: &mut Trial) {
    trial.write("sys/mounts/ssh", json!({ "type": "ssh" }));
    let made = trial.write("ssh/config/ca", json!({ "key_type": "ed25519" }));
    assert!(
        made["public_key"]
            .as_str()
            .unwrap()
            .starts_with("ssh-ed25519 ")
    );
}

fn key(seed: u8) -> String {
    PrivateKey::ed25519([seed; 32]).public().unwrap().to_line()
}

/// A role that certifies ada and root.
fn role(trial: &mut Trial, more: Value) {
    let mut role = json!({
        "key_type": "ca",
        "allow_user_certificates": true,
        "default_user": "ada",
        "allowed_users": "ada, root",
        "ttl": "5m",
        "max_ttl": "1h",
        "allowed_extensions": "permit-pty,permit-port-forwarding",
        "default_extensions": { "permit-pty": "" },
    });
    for (name, value) in more.as_object().unwrap() {
        role[name] = value.clone();
    }
    trial.write("ssh/roles/login", role);
}

fn sign(trial: &mut Trial, more: Value) -> Result<Signed, String> {
    let mut asked = json!({ "public_key": key(1) });
    for (name, value) in more.as_object().unwrap() {
        asked[name] = value.clone();
    }
    let answer = trial.root(Operation::Update, "ssh/sign/login", asked);
    let answer = answer.map_err(text)?;
    let signed = read_certificate(answer["signed_key"].as_str().unwrap()).unwrap();
    assert_eq!(answer["serial_number"], format!("{:x}", signed.says.serial));
    Ok(signed)
}

fn refused(trial: &mut Trial, more: Value) -> String {
    sign(trial, more).expect_err("it must be refused")
}

#[test]
fn a_certificate_says_what_the_role_allows_and_the_request_asks() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    let now = trial.now.as_millis() / 1000;
    let plain = sign(&mut trial, json!({})).unwrap().says;
    assert_eq!(plain.kind, CertificateKind::User);
    assert_eq!(plain.principals, ["ada"]);
    assert_eq!(
        (plain.valid_after, plain.valid_before),
        (now - 30, now + 300)
    );
    assert_eq!(plain.extensions.keys().collect::<Vec<_>>(), ["permit-pty"]);
    assert!(plain.key_id.starts_with("vault-root-"), "{}", plain.key_id);
    let asked = json!({
        "ttl": "30s",
        "valid_principals": "root,ada,root",
        "extensions": { "permit-port-forwarding": "" },
        "critical_options": { "source-address": "10.0.0.0/8,192.0.2.1" },
    });
    let asked = sign(&mut trial, asked).unwrap().says;
    assert_eq!(asked.valid_before, now + 30);
    assert_eq!(asked.principals, ["root", "ada"]);
    let extensions: Vec<_> = asked.extensions.keys().collect();
    assert_eq!(extensions, ["permit-port-forwarding"]);
    assert_eq!(
        asked.critical_options["source-address"],
        "10.0.0.0/8,192.0.2.1"
    );
    assert_ne!(asked.serial, plain.serial);
}

#[test]
fn what_a_role_does_not_allow_is_refused_with_vaults_words() {
    let mut trial = begin();
    role(
        &mut trial,
        json!({
            "allowed_critical_options": "source-address",
            "allowed_user_key_lengths": { "ed25519": 0, "rsa": [2048, 3072] },
        }),
    );
    for (asked, expected) in [
        (
            json!({ "valid_principals": "bob" }),
            "bob is not a valid value for valid_principals",
        ),
        (
            json!({ "cert_type": "host" }),
            "cert_type 'host' is not allowed by role",
        ),
        (
            json!({ "cert_type": "x" }),
            "cert_type must be either 'user' or 'host'",
        ),
        (
            json!({ "ttl": "2h" }),
            "ttl is larger than maximum allowed 3600",
        ),
        (json!({ "ttl": "300ms" }), "ttl is less than a second"),
        (
            json!({ "key_id": "me" }),
            "setting key_id is not allowed by role",
        ),
        (
            json!({ "extensions": { "permit-agent-forwarding": "" } }),
            "extensions [permit-agent-forwarding] are not on allowed list",
        ),
        (
            json!({ "critical_options": { "force-command": "id" } }),
            "critical options not on allowed list: [force-command]",
        ),
        (json!({ "public_key": "" }), "missing public_key"),
        (
            json!({ "public_key": "ssh-rsa AAAA" }),
            "failed to parse public_key as SSH key",
        ),
        (
            json!({ "public_key": ecdsa() }),
            "key of type ecdsa-sha2-nistp256 is not allowed",
        ),
    ] {
        let shown = refused(&mut trial, asked.clone());
        assert!(shown.contains(expected), "{asked}: {shown}");
    }
    assert!(sign(&mut trial, json!({})).is_ok(), "the control");
}

fn ecdsa() -> String {
    let kind = bastide_pki::ssh::KeyKind::Ecdsa256;
    let key = PrivateKey::ecdsa(kind, |bytes| bytes.fill(3)).unwrap();
    key.public().unwrap().to_line()
}

#[test]
fn no_certificate_is_good_for_everybody() {
    // CVE-2024-7594: no principals is every principal.
    let mut trial = begin();
    role(
        &mut trial,
        json!({ "default_user": "", "allowed_users": "*" }),
    );
    for asked in [
        json!({}),
        json!({ "valid_principals": "" }),
        json!({ "valid_principals": " , ," }),
        json!({ "valid_principals": [] }),
    ] {
        let shown = refused(&mut trial, asked);
        assert_eq!(shown, "empty valid principals not allowed by role");
    }
    let asked = json!({ "valid_principals": "a b" });
    assert!(refused(&mut trial, asked).contains("not a valid value"));
    let open = json!({
        "key_type": "ca",
        "allow_user_certificates": true,
        "allow_empty_principals": true,
    });
    let refused = trial.root(Operation::Update, "ssh/roles/open", open);
    assert!(text(refused.unwrap_err()).contains("allow_empty_principals"));
    assert!(sign(&mut trial, json!({ "valid_principals": "zoe" })).is_ok());
}

#[test]
fn what_a_role_demands_of_everybody_is_not_changed_by_a_request() {
    let mut trial = begin();
    let demands = json!({ "force-command": "/usr/bin/backup", "source-address": "10.0.0.0/8" });
    role(&mut trial, json!({ "default_critical_options": demands }));
    for (name, value) in [
        ("force-command", "/bin/sh"),
        ("source-address", "0.0.0.0/0"),
    ] {
        let why = refused(&mut trial, json!({ "critical_options": { name: value } }));
        assert!(why.contains("the role's own"), "{name}: {why}");
    }
    // The same again is no change, and what it says nothing of may be added.
    let same = json!({ "critical_options": {
        "force-command": "/usr/bin/backup", "verify-required": "",
    } });
    let says = sign(&mut trial, same).unwrap().says;
    let names: Vec<_> = says.critical_options.keys().collect();
    assert_eq!(
        names,
        ["force-command", "source-address", "verify-required"]
    );
    // A role that names an option lets requests choose it.
    let named = json!({
        "default_critical_options": demands, "allowed_critical_options": "source-address",
    });
    role(&mut trial, named);
    let narrower = json!({ "critical_options": { "source-address": "10.1.0.0/16" } });
    let says = sign(&mut trial, narrower).unwrap().says;
    assert_eq!(says.critical_options["source-address"], "10.1.0.0/16");
    assert_eq!(says.critical_options["force-command"], "/usr/bin/backup");
}

// CVE-2021-32923: what rounds to nothing is not without end.
#[test]
fn a_longest_life_next_to_nothing_is_not_the_mounts() {
    let mut trial = begin();
    role(&mut trial, json!({ "ttl": "200ms", "max_ttl": "900ms" }));
    let now = trial.now.as_millis() / 1000;
    let says = sign(&mut trial, json!({})).unwrap().says;
    assert_eq!(says.valid_before, now + 1);
    assert!(refused(&mut trial, json!({ "ttl": "1h" })).contains("larger than maximum"));
}

#[test]
fn a_certificate_that_says_it_has_ended_takes_nothing_off_the_list() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    let signed = trial.write("ssh/sign/login", json!({ "public_key": key(1) }));
    let line = signed["signed_key"].clone();
    let serial = read_certificate(line.as_str().unwrap())
        .unwrap()
        .says
        .serial;
    let listed = |trial: &mut Trial| {
        let listed = trial.root(Operation::List, "ssh/revoked", json!({}));
        listed.is_ok_and(|it| it["keys"][0] == format!("serial-{serial:x}"))
    };
    // By its number, and after that by a certificate that ends long before: anybody can write one.
    trial.write(
        "ssh/revoke",
        json!({ "serial_number": format!("{serial:x}") }),
    );
    trial.write("ssh/revoke", json!({ "certificate": line }));
    trial.pass(400);
    assert!(listed(&mut trial));
}

#[test]
fn what_would_make_the_list_too_long_for_nodes_is_refused() {
    let mut trial = begin();
    let mebibytes = |count: usize| {
        move |ctx: &mut crate::core::engine::Context<'_, '_>| {
            for number in 0..count {
                let id = format!("{number:0512}");
                let hex = data_encoding::HEXLOWER.encode(id.as_bytes());
                let entry = json!({ "what": { "key_id": id }, "since": ctx.now() });
                ctx.save(&format!("revoked/id-{hex}"), &entry)?;
            }
            Ok(())
        }
    };
    let krl = |trial: &mut Trial| trial.ask(As::Root, Operation::Read, "ssh/krl", json!({}));
    trial.within("ssh/", mebibytes(8_120)).unwrap();
    // 516 bytes each in a list of 4 MiB: 8128 at most, and what stands before them.
    let mut revoked = 0;
    let refused = loop {
        let id = format!("more-{revoked:0507}");
        match trial.root(Operation::Update, "ssh/revoke", json!({ "key_id": id })) {
            Ok(_) => revoked += 1,
            Err(refused) => break text(refused),
        }
        assert!(revoked < 20);
    };
    assert!(refused.contains("longer than"), "{refused}");
    assert!(0 < revoked, "the control");
    assert!(krl(&mut trial).is_ok());
}

#[test]
fn a_source_address_that_sshd_would_refuse_is_refused_here() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    for wrong in [
        "10.0.0.5/8",
        "",
        "10.0.0.0/33",
        "host",
        "10.0.0.0/8, 10.1.0.0/16",
    ] {
        let asked = json!({ "critical_options": { "source-address": wrong } });
        let shown = refused(&mut trial, asked);
        assert!(shown.contains("source-address"), "{wrong}: {shown}");
    }
}

#[test]
fn what_a_template_stands_for_cannot_widen_a_role() {
    // A name with a comma or a star in it is one name.
    let filled = |value: &'static str| {
        super::template::fill("{{ identity.entity.name }}", move |_| Some(value))
    };
    assert_eq!(filled("a,root").as_deref(), Some("a,root"));
    assert_eq!(super::template::fill("{{x", |_| Some("a")), None);
    assert_eq!(super::template::fill("{{x}}", |_| None), None);
    assert_eq!(
        super::template::fill("{{x}}", |_| Some("{{y}}")).as_deref(),
        Some("{{y}}")
    );
    let mut trial = begin();
    role(
        &mut trial,
        json!({
            "allowed_users": "{{identity.entity.name}}",
            "allowed_users_template": true,
            "default_user": "{{identity.entity.name}}",
            "default_user_template": true,
        }),
    );
    // Root has no entity, so that the template stands for nothing.
    let asked = json!({ "valid_principals": "ada" });
    let shown = refused(&mut trial, asked);
    assert_eq!(shown, "role is not configured to allow any principals");
    let shown = refused(&mut trial, json!({}));
    assert!(shown.contains("default_user"), "{shown}");
}

#[test]
fn hosts_are_certified_within_their_domains_alone() {
    let mut trial = begin();
    let domains = json!({
        "allow_host_certificates": true,
        "allow_user_certificates": false,
        "allowed_domains": "example.org",
        "allow_subdomains": true,
    });
    role(&mut trial, domains);
    let ask = |trial: &mut Trial, name: &str| {
        sign(
            trial,
            json!({ "cert_type": "host", "valid_principals": name }),
        )
    };
    let made = ask(&mut trial, "a.example.org").unwrap().says;
    assert_eq!(made.kind, CertificateKind::Host);
    assert!(made.extensions.is_empty());
    for wrong in [
        "example.org",
        "aexample.org",
        ".example.org",
        "example.org.evil",
        "*",
    ] {
        assert!(ask(&mut trial, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_authority_is_made_or_brought_along_once() {
    let mut trial = Trial::new();
    trial.write("sys/mounts/ssh", json!({ "type": "ssh" }));
    let ask = |trial: &mut Trial, data| trial.root(Operation::Update, "ssh/config/ca", data);
    let unset = trial.root(Operation::Read, "ssh/config/ca", json!({}));
    assert_eq!(text(unset.unwrap_err()), "keys haven't been configured yet");
    let pair = PrivateKey::ed25519([5; 32]);
    let private = pair.to_openssh("", 1).unwrap().expose().clone();
    for wrong in [
        json!({ "private_key": private }),
        json!({ "public_key": key(5) }),
        json!({ "private_key": private, "public_key": key(6) }),
        json!({ "private_key": "x", "public_key": key(5) }),
        json!({ "private_key": private, "public_key": key(5), "generate_signing_key": true }),
        json!({ "key_type": "ssh-dss" }),
        json!({ "key_type": "rsa", "key_bits": 1024 }),
    ] {
        let shown = text(ask(&mut trial, wrong).unwrap_err());
        assert!(!shown.contains("OPENSSH"), "no key is echoed: {shown}");
    }
    let both = json!({ "private_key": private, "public_key": key(5) });
    assert_eq!(ask(&mut trial, both.clone()).unwrap(), Value::Null);
    let shown = text(ask(&mut trial, both).unwrap_err());
    assert!(shown.contains("delete them before reconfiguring"));
    let told = trial
        .root(Operation::Read, "ssh/config/ca", json!({}))
        .unwrap();
    assert_eq!(told["public_key"], format!("{}\n", key(5)));
    let open = trial.ask(As::Nobody, Operation::Read, "ssh/public_key", json!({}));
    let Shape::Raw(raw) = open.unwrap().shape else {
        panic!("it is text")
    };
    assert_eq!(raw.body, format!("{}\n", key(5)).into_bytes());
    trial
        .root(Operation::Delete, "ssh/config/ca", json!({}))
        .unwrap();
    // Not RSA's own 4096 bits: they take minutes where other tests run beside.
    for (kind, bits) in [
        ("ssh-rsa", 2048),
        ("ecdsa-sha2-nistp384", 0),
        ("ec", 0),
        ("ssh-ed25519", 0),
    ] {
        let data = json!({ "generate_signing_key": true, "key_type": kind, "key_bits": bits });
        let made = ask(&mut trial, data).unwrap();
        assert!(made["public_key"].as_str().unwrap().contains("AAAA"));
        trial
            .root(Operation::Delete, "ssh/config/ca", json!({}))
            .unwrap();
    }
}

#[test]
fn another_authority_signs_at_once_after_the_first_was_replaced() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    let first = sign(&mut trial, json!({})).unwrap().authority;
    assert_eq!(sign(&mut trial, json!({})).unwrap().authority, first);
    trial
        .root(Operation::Delete, "ssh/config/ca", json!({}))
        .unwrap();
    let shown = refused(&mut trial, json!({}));
    assert_eq!(shown, "keys haven't been configured yet");
    trial.write("ssh/config/ca", json!({ "key_type": "ec" }));
    let second = sign(&mut trial, json!({})).unwrap().authority;
    assert_ne!(first, second);
}

#[test]
fn an_issued_key_fits_its_certificate() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    for (kind, bits) in [("ed25519", 0), ("ec", 384), ("rsa", 0)] {
        let asked = json!({ "key_type": kind, "key_bits": bits });
        let made = trial.write("ssh/issue/login", asked);
        assert_eq!(made["private_key_type"], kind);
        let private = PrivateKey::parse(made["private_key"].as_str().unwrap()).unwrap();
        let signed = read_certificate(made["signed_key"].as_str().unwrap()).unwrap();
        assert_eq!(private.public().unwrap(), signed.subject, "{kind}");
    }
}

#[test]
fn a_role_is_read_back_as_it_was_written_and_written_whole() {
    let mut trial = begin();
    role(&mut trial, json!({ "algorithm_signer": "rsa-sha2-256" }));
    let read = trial
        .root(Operation::Read, "ssh/roles/login", json!({}))
        .unwrap();
    for (name, expected) in [
        ("key_type", json!("ca")),
        ("ttl", json!(300)),
        ("allowed_users", json!("ada, root")),
        ("algorithm_signer", json!("rsa-sha2-256")),
        ("not_before_duration", json!(30)),
        ("allow_empty_principals", json!(false)),
    ] {
        assert_eq!(read[name], expected, "{name}");
    }
    let less = json!({ "key_type": "ca", "allow_user_certificates": true });
    trial.write("ssh/roles/login", less);
    let read = trial
        .root(Operation::Read, "ssh/roles/login", json!({}))
        .unwrap();
    assert_eq!(
        (&read["ttl"], &read["allowed_users"]),
        (&json!(0), &json!(""))
    );
    assert_eq!(read["algorithm_signer"], "default");
    for (wrong, expected) in [
        (json!({}), "missing key type"),
        (json!({ "key_type": "otp" }), "missing default user"),
        (json!({ "key_type": "ca" }), "allow_user_certificates"),
        (json!({ "key_type": "dynamic" }), "no longer supported"),
        (
            json!({ "key_type": "ca", "allow_user_certificates": true, "ttl": 9, "max_ttl": 8 }),
            "\"max_ttl\"",
        ),
        (
            json!({
                "key_type": "ca",
                "allow_user_certificates": true,
                "algorithm_signer": "ssh-rsa",
            }),
            "SHA-1",
        ),
    ] {
        let refused = trial.root(Operation::Update, "ssh/roles/bad", wrong);
        let shown = text(refused.unwrap_err());
        assert!(shown.contains(expected), "{shown}");
    }
    trial
        .root(Operation::Delete, "ssh/roles/login", json!({}))
        .unwrap();
    let gone = trial.root(Operation::Read, "ssh/roles/login", json!({}));
    assert!(matches!(gone, Err(Refusal::Absent)));
}

#[test]
fn what_is_revoked_is_in_the_list_until_it_is_taken_off() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    let krl = |trial: &mut Trial| {
        let answer = trial.ask(As::Root, Operation::Read, "ssh/krl", json!({}));
        match answer.unwrap().shape {
            Shape::Raw(raw) => raw.body,
            other => panic!("{other:?}"),
        }
    };
    let empty = krl(&mut trial);
    assert_eq!(bastide_pki::ssh::check_krl(&empty).unwrap().version, 0);
    let signed = trial.write("ssh/sign/login", json!({ "public_key": key(1) }));
    let line = signed["signed_key"].clone();
    trial.write("ssh/revoke", json!({ "certificate": line }));
    let by_certificate = krl(&mut trial);
    let serial = read_certificate(line.as_str().unwrap())
        .unwrap()
        .says
        .serial;
    let holds = |list: &[u8], part: &[u8]| list.windows(part.len()).any(|it| it == part);
    assert!(holds(&by_certificate, &serial.to_be_bytes()));
    trial.write("ssh/revoke", json!({ "key_id": "vault-root-x" }));
    trial.write("ssh/revoke", json!({ "public_key": key(2) }));
    let all = krl(&mut trial);
    assert_eq!(bastide_pki::ssh::check_krl(&all).unwrap().version, 3);
    assert!(holds(&all, b"vault-root-x"));
    let shown = refused(&mut trial, json!({ "public_key": key(2) }));
    assert_eq!(shown, "this key is revoked");
    let listed = trial
        .root(Operation::List, "ssh/revoked", json!({}))
        .unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3);
    // The certificate has ended by itself, and need not be listed.
    trial.pass(301);
    let later = krl(&mut trial);
    assert!(!holds(&later, &serial.to_be_bytes()) && holds(&later, b"vault-root-x"));
    for key in listed["keys"].as_array().unwrap() {
        let path = format!("ssh/revoked/{}", key.as_str().unwrap());
        trial.root(Operation::Delete, &path, json!({})).unwrap();
    }
    assert!(!holds(&krl(&mut trial), b"vault-root-x"));
    assert!(sign(&mut trial, json!({ "public_key": key(2) })).is_ok());
    for wrong in [
        json!({}),
        json!({ "serial_number": "0" }),
        json!({ "serial_number": "xyz" }),
        json!({ "serial_number": "1", "key_id": "a" }),
        json!({ "certificate": key(1) }),
    ] {
        assert!(trial.root(Operation::Update, "ssh/revoke", wrong).is_err());
    }
}

#[test]
fn a_certificate_for_a_node_is_good_at_that_node_alone() {
    let mut trial = begin();
    role(&mut trial, json!({}));
    let node = cluster::node(&mut trial, "atlas", 1).node;
    let asked = json!({ "public_key": key(1), "valid_principals": "root", "node": "atlas" });
    let made = trial.write("ssh/sign/login", asked);
    let says = read_certificate(made["signed_key"].as_str().unwrap())
        .unwrap()
        .says;
    assert_eq!(says.principals, [format!("root@{}", node.id)]);
    assert_eq!(made["address"], json!(node.address));
    let by_id = sign(&mut trial, json!({ "node": node.id })).unwrap().says;
    assert_eq!(by_id.principals, [format!("ada@{}", node.id)]);
    let shown = refused(&mut trial, json!({ "node": "elsewhere" }));
    assert_eq!(shown, "there is no node `elsewhere`");
    let asked = json!({ "node": "atlas", "valid_principals": "bob" });
    assert!(refused(&mut trial, asked).contains("bob is not"));
}

#[test]
fn a_node_has_its_own_host_keys_certified_and_nobody_elses() {
    let mut trial = begin();
    let node = cluster::node(&mut trial, "atlas", 1).node;
    let who = As::Machine(Identity::Node(node.id));
    let asked = json!({ "host_keys": [key(7)] });
    let path = "ssh/node/host";
    let made = trial
        .ask(who, Operation::Update, path, asked.clone())
        .unwrap();
    let data = made.data.unwrap();
    let line = data["certificates"][0].as_str().unwrap();
    let says = read_certificate(line).unwrap().says;
    assert_eq!(says.kind, CertificateKind::Host);
    let names = [
        "atlas".to_owned(),
        node.id.to_string(),
        node.address.to_string(),
    ];
    assert_eq!(says.principals, names);
    let list = data_encoding::BASE64.decode(data["krl"].as_str().unwrap().as_bytes());
    assert!(bastide_pki::ssh::check_krl(&list.unwrap()).is_ok());
    let again = json!({ "krl_version": data["krl_version"] });
    let again = trial.ask(who, Operation::Update, path, again).unwrap();
    assert_eq!(again.data.unwrap().get("krl"), None, "nothing is new");
    for stranger in [As::Root, As::Nobody, As::Machine(Identity::Ended(node.id))] {
        let refused = trial.ask(stranger, Operation::Update, path, asked.clone());
        assert!(refused.is_err());
    }
}
